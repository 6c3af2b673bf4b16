// Package charts turns workflows into what Kubernetes runs them from.
//
// Vocabulary: a Bundle is a set of workflows, each in a ConfigMap of its own, with the part of models.lock that they need in
// one more. Its ConfigMaps are immutable and named by their content: another content is another name, so that a
// Deployment that names them rolls when a workflow changes, and goes back by naming the earlier ones. The digest of a
// ConfigMap is that of its data, and of nothing else. Targets are the files beside the ConfigMaps that bring them to a
// Deployment: values for Helm, a component for Kustomize, a release for Helmfile, an Application for Argo CD. Drift is how
// a cluster differs from a bundle.
//
// All output depends on the input's content only: the same workflows give the same bytes on every machine. The package
// reads no file and asks no cluster.
package charts

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/comfyrun/comfyrun/engine/models"
	"github.com/comfyrun/comfyrun/workflows"
)

// Source is a workflow to bundle.
type Source struct {
	Name    string // as the server offers it; its file is NAME.json
	Graph   *workflows.Graph
	Sidecar []byte   // NAME.params.toml, which declares parameters; nil: there is none
	Models  []string // FOLDER/NAME of the model files that it names
}

// Options say what a bundle is called and where it belongs.
type Options struct {
	Name      string            // in front of the names of ConfigMaps: small letters, digits and -, at most 40
	Namespace string            // "" leaves it to who applies the ConfigMaps
	Labels    map[string]string // more labels for each ConfigMap
	Lock      *models.Lock      // nil: no models.lock is bundled
}

// Bundle is a set of ConfigMaps: those of workflows sorted by workflow, then that of models.lock.
type Bundle struct {
	Name      string
	Namespace string
	Maps      []ConfigMap
}

// MaxData bounds the bytes of a ConfigMap's keys and values: Kubernetes takes 1 MiB for all of it.
const MaxData = 900 << 10

var (
	// workflowName is what a server takes as the name of a workflow.
	workflowName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$`)
	bundleName   = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,38}[a-z0-9])?$`)
)

// New makes the ConfigMaps of workflows. Everything that is wrong is in one error. A model that a workflow names and the
// lock does not is a models.ErrMissing.
func New(sources []Source, o Options) (*Bundle, error) {
	if !bundleName.MatchString(o.Name) {
		return nil, fmt.Errorf("name of bundle %q: allowed are 1 to 40 small letters, digits and -, a letter or digit first and last", o.Name)
	}
	sources = slices.Clone(sources)
	slices.SortStableFunc(sources, func(a, b Source) int { return cmp.Compare(a.Name, b.Name) })
	b := &Bundle{Name: o.Name, Namespace: o.Namespace}
	var wrong []error
	for i, s := range sources {
		if i > 0 && sources[i-1].Name == s.Name {
			wrong = append(wrong, fmt.Errorf("bundle workflow %q: two workflows have this name", s.Name))
			continue
		}
		m, err := s.configMap(o)
		if err != nil {
			wrong = append(wrong, fmt.Errorf("bundle workflow %q: %w", s.Name, err))
			continue
		}
		b.Maps = append(b.Maps, m)
	}
	if o.Lock != nil {
		m, err := lockMap(sources, o)
		if err != nil {
			wrong = append(wrong, err)
		}
		b.Maps = append(b.Maps, m)
	}
	if err := errors.Join(wrong...); err != nil {
		return nil, err
	}
	return b, nil
}

// configMap makes the ConfigMap of one workflow.
func (s Source) configMap(o Options) (ConfigMap, error) {
	if !workflowName.MatchString(s.Name) {
		return ConfigMap{}, errors.New("a workflow's name is 1 to 100 letters, digits, points, hyphens and underscores, and begins with a letter or digit")
	}
	if s.Name == LockKey {
		return ConfigMap{}, fmt.Errorf("the name is taken by the part of %s", LockKey)
	}
	text, err := s.text()
	if err != nil {
		return ConfigMap{}, err
	}
	data := map[string]string{s.Name + ".json": string(text)}
	if s.Sidecar != nil {
		sidecar := bytes.ReplaceAll(s.Sidecar, []byte("\r\n"), []byte("\n"))
		if !utf8.Valid(sidecar) {
			return ConfigMap{}, fmt.Errorf("%s.params.toml is not UTF-8", s.Name)
		}
		data[s.Name+".params.toml"] = string(sidecar)
	}
	annotations := map[string]string{
		annotationWorkflow: s.Name,
		annotationGraph:    workflows.Digest(s.Graph),
		annotationVersion:  version(data, s.Name),
	}
	if pinned := pinnedText(s.Models, o.Lock); pinned != "" {
		annotations[annotationModels] = pinned
	}
	return o.made(s.Name, "workflow", data, annotations)
}

// text is the workflow in its canonical layout, or without blanks where that is too large.
func (s Source) text() ([]byte, error) {
	text, err := workflows.Format(workflows.Encode(s.Graph))
	if err != nil || len(text)+len(s.Sidecar)+200 <= MaxData {
		return text, err
	}
	var compact bytes.Buffer
	err = json.Compact(&compact, text)
	return append(compact.Bytes(), '\n'), err
}

// version names the two files of a workflow as the server does in GET /workflows.
func version(data map[string]string, name string) string {
	text := data[name+".json"]
	sum := sha256.Sum256([]byte(fmt.Sprintf("%d\n", len(text)) + text + data[name+".params.toml"]))
	return hex.EncodeToString(sum[:])
}

// pinnedText lists models with their digests, one a line.
func pinnedText(names []string, lock *models.Lock) string {
	var lines []string
	for _, name := range sortedNames(names) {
		if e, ok := find(lock, name); ok {
			lines = append(lines, name+"@sha256:"+e.SHA256)
		}
	}
	return strings.Join(lines, "\n")
}

func find(lock *models.Lock, name string) (models.Entry, bool) {
	if lock == nil {
		return models.Entry{}, false
	}
	return lock.Find(name)
}

func sortedNames(names []string) []string {
	names = slices.Clone(names)
	slices.Sort(names)
	return slices.Compact(names)
}

// lockMap makes the ConfigMap of the entries that workflows need.
func lockMap(sources []Source, o Options) (ConfigMap, error) {
	var part models.Lock
	var missing []error
	for _, s := range sources {
		for _, name := range sortedNames(s.Models) {
			e, ok := o.Lock.Find(name)
			if !ok {
				missing = append(missing, fmt.Errorf("bundle workflow %q: %w: the lock does not pin %q", s.Name, models.ErrMissing, name))
				continue
			}
			part.Set(e)
		}
	}
	if err := errors.Join(missing...); err != nil {
		return ConfigMap{}, err
	}
	text, err := part.Encode()
	if err != nil {
		return ConfigMap{}, err
	}
	m, err := o.made("models", "models-lock", map[string]string{LockKey: string(text)}, map[string]string{})
	if err != nil {
		return m, fmt.Errorf("bundle %s: %w", LockKey, err)
	}
	return m, nil
}

// made completes a ConfigMap with its name, labels and digest.
func (o Options) made(subject, component string, data, annotations map[string]string) (ConfigMap, error) {
	m := ConfigMap{Namespace: o.Namespace, Immutable: true, Data: data, Labels: map[string]string{}, Annotations: annotations}
	for key, value := range o.Labels {
		m.Labels[key] = value
	}
	m.Labels["app.kubernetes.io/name"] = "comfyrun"
	m.Labels["app.kubernetes.io/component"] = component
	m.Labels["app.kubernetes.io/managed-by"] = "comfyrun-bundle"
	m.Labels[LabelBundle] = o.Name
	digest := m.Digest()
	m.Annotations[annotationDigest] = "sha256:" + digest
	m.Name = o.Name + "-" + slug(subject) + "-" + digest[:nameDigits]
	if size := m.size(); size > MaxData {
		return m, fmt.Errorf("has %d KiB, also without blanks, and a ConfigMap holds %d (1 MiB with all around it); a server reads a workflow whole and "+
			"uncompressed, so that it cannot be divided: take what is not a workflow, such as pictures in texts, out of it, or mount it from a volume", size>>10, MaxData>>10)
	}
	return m, nil
}

// nameDigits is how many hexadecimal digits of the digest a name has. ConfigMaps of one workflow differ in them, so 40
// bits are many.
const nameDigits = 10

var notInNames = regexp.MustCompile(`[^a-z0-9]+`)

// slug is a workflow's name in the letters that Kubernetes takes in names. It need not be unique: the digest counts the
// name too.
func slug(name string) string {
	text := strings.Trim(notInNames.ReplaceAllString(strings.ToLower(name), "-"), "-")
	if len(text) > 60 {
		text = strings.TrimRight(text[:60], "-")
	}
	return text
}
