package charts

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// ConfigMap is Kubernetes' object of that name, as far as bundles need it. All data is text.
type ConfigMap struct {
	Name, Namespace     string
	Labels, Annotations map[string]string
	Immutable           bool
	Data                map[string]string
}

// Domain is what labels and annotations of bundles begin with.
const Domain = "comfyrun.github.io"

// LabelBundle is the label that holds the name of a ConfigMap's bundle.
const LabelBundle = Domain + "/bundle"

// LockKey is the key of the ConfigMap that holds a part of models.lock.
const LockKey = "models.lock"

const (
	annotationDigest   = Domain + "/digest"          // sha256:HEX of the data
	annotationWorkflow = Domain + "/workflow"        // the workflow's name
	annotationGraph    = Domain + "/workflow-digest" // of what the workflow computes, as receipts have it
	annotationVersion  = Domain + "/version"         // as GET /workflows has it
	annotationModels   = Domain + "/models"          // FOLDER/NAME@sha256:HEX, one a line
	annotationNodes    = Domain + "/nodes"           // CLASS@sha256:HEX of definitions, one a line
	annotationClass    = Domain + "/class"           // the class that a definition defines
)

// Digest names the content: SHA-256 over the keys in the order of their bytes with their values, each behind its length,
// in hexadecimal. Names, labels and annotations do not count.
func (m ConfigMap) Digest() string {
	h := sha256.New()
	for _, key := range m.keys() {
		fmt.Fprintf(h, "%d %d\n%s%s", len(key), len(m.Data[key]), key, m.Data[key])
	}
	return hex.EncodeToString(h.Sum(nil))
}

// Claimed is the digest that the ConfigMap's annotation claims; "" without one.
func (m ConfigMap) Claimed() string {
	return strings.TrimPrefix(m.Annotations[annotationDigest], "sha256:")
}

// Subject says what the ConfigMap holds: a workflow's name, CLASS.node for a definition, or LockKey.
func (m ConfigMap) Subject() string {
	if name := m.Annotations[annotationWorkflow]; name != "" {
		return name
	}
	for _, key := range m.keys() {
		if name, ok := strings.CutSuffix(key, ".json"); ok {
			return name
		}
	}
	return LockKey
}

// IsLock says whether the ConfigMap holds a part of models.lock.
func (m ConfigMap) IsLock() bool {
	_, ok := m.Data[LockKey]
	return ok
}

func (m ConfigMap) keys() []string { return slices.Sorted(maps.Keys(m.Data)) }

// dataSize is what Kubernetes' limits count.
func dataSize(texts map[string]string) (n int) {
	for key, value := range texts {
		n += len(key) + len(value)
	}
	return n
}

// YAML writes the ConfigMap as a manifest.
func (m ConfigMap) YAML() []byte {
	metadata := object{{"name", m.Name}}
	if m.Namespace != "" {
		metadata = append(metadata, member{"namespace", m.Namespace})
	}
	metadata = append(metadata, member{"labels", texts(m.Labels)}, member{"annotations", texts(m.Annotations)})
	var b bytes.Buffer
	writeObject(&b, object{
		{"apiVersion", "v1"}, {"kind", "ConfigMap"}, {"metadata", metadata}, {"immutable", m.Immutable}, {"data", texts(m.Data)},
	}, 0)
	return b.Bytes()
}

// texts is a map as an object, sorted by key.
func texts(m map[string]string) object {
	var o object
	for _, key := range slices.Sorted(maps.Keys(m)) {
		o = append(o, member{key, m[key]})
	}
	return o
}
