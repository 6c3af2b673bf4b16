package charts

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"

	"go.yaml.in/yaml/v2"
)

// metadata is what this package reads of Kubernetes' object of that name.
type metadata struct {
	Name        string            `json:"name" yaml:"name"`
	Namespace   string            `json:"namespace" yaml:"namespace"`
	Labels      map[string]string `json:"labels" yaml:"labels"`
	Annotations map[string]string `json:"annotations" yaml:"annotations"`
}

// configMapText is a ConfigMap as manifests and Kubernetes' API have it.
type configMapText struct {
	Kind       string            `json:"kind" yaml:"kind"`
	Metadata   metadata          `json:"metadata" yaml:"metadata"`
	Immutable  bool              `json:"immutable" yaml:"immutable"`
	Data       map[string]string `json:"data" yaml:"data"`
	BinaryData map[string]string `json:"binaryData" yaml:"binaryData"`
}

// configMap keeps what counts. Binary data, which no bundle has, counts as an addition to it.
func (t configMapText) configMap() ConfigMap {
	m := ConfigMap{
		Name: t.Metadata.Name, Namespace: t.Metadata.Namespace, Labels: t.Metadata.Labels, Annotations: t.Metadata.Annotations,
		Immutable: t.Immutable, Data: map[string]string{},
	}
	for key, value := range t.Data {
		m.Data[key] = value
	}
	for key, value := range t.BinaryData {
		m.Data[key] = "base64:" + value
	}
	return m
}

// ReadConfigMaps reads the ConfigMaps of a manifest: YAML or JSON, one document or several. Other kinds are passed over.
func ReadConfigMaps(manifest []byte) ([]ConfigMap, error) {
	var found []ConfigMap
	for decoder := yaml.NewDecoder(bytes.NewReader(manifest)); ; {
		var text configMapText
		err := decoder.Decode(&text)
		if errors.Is(err, io.EOF) {
			return found, nil
		}
		if err != nil {
			return nil, fmt.Errorf("read manifest: %w", err)
		}
		if text.Kind == "ConfigMap" {
			found = append(found, text.configMap())
		}
	}
}

// ParseRecord reads the text of a RecordFile.
func ParseRecord(data []byte) (*Record, error) {
	var r Record
	decoder := json.NewDecoder(bytes.NewReader(data))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&r); err != nil {
		return nil, fmt.Errorf("read %s: %w", RecordFile, err)
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("read %s: there is more behind the record", RecordFile)
	}
	if r.Version != RecordVersion {
		return nil, fmt.Errorf("read %s: version is %d, and this program knows version %d", RecordFile, r.Version, RecordVersion)
	}
	return &r, nil
}

// Workload is an object with pods that mounts ConfigMaps.
type Workload struct {
	Kind, Name string
	Maps       []string // names of ConfigMaps, sorted
}

// String names the workload as kubectl does.
func (w Workload) String() string { return strings.ToLower(w.Kind) + "/" + w.Name }

// volumeText is what tells which ConfigMaps a volume shows.
type volumeText struct {
	ConfigMap *struct {
		Name string `json:"name"`
	} `json:"configMap"`
	Projected *struct {
		Sources []volumeText `json:"sources"`
	} `json:"projected"`
}

func (v volumeText) names() (names []string) {
	if v.ConfigMap != nil {
		names = append(names, v.ConfigMap.Name)
	}
	if v.Projected != nil {
		for _, source := range v.Projected.Sources {
			names = append(names, source.names()...)
		}
	}
	return names
}

// Cluster is what a namespace holds.
type Cluster struct {
	Maps      []ConfigMap
	Workloads []Workload
}

// Absent lists, sorted, the names of ConfigMaps that the cluster does not have, as far as was read: those of a bundle, and those
// that workloads mount and that are named as the bundle's are.
func (c *Cluster) Absent(b *Bundle) (names []string) {
	for _, m := range b.Maps {
		names = append(names, m.Name)
	}
	for _, w := range c.Workloads {
		for _, name := range w.Maps {
			if b.mayName(name) {
				names = append(names, name)
			}
		}
	}
	names = slices.DeleteFunc(names, func(name string) bool {
		return slices.ContainsFunc(c.Maps, func(have ConfigMap) bool { return have.Name == name })
	})
	slices.Sort(names)
	return slices.Compact(names)
}

var nameEnd = regexp.MustCompile(`-[0-9a-f]{10}$`)

// mayName says whether some version of the bundle may have a ConfigMap of a name.
func (b *Bundle) mayName(name string) bool {
	return strings.HasPrefix(name, b.Name+"-") && nameEnd.MatchString(name)
}

// Add reads a list of objects, or one, as kubectl get -o json writes it; nothing is no object. Kinds that have nothing to do with
// bundles are passed over.
func (c *Cluster) Add(listed []byte) error {
	if len(bytes.TrimSpace(listed)) == 0 {
		return nil
	}
	var objects struct {
		Kind  string            `json:"kind"`
		Items []json.RawMessage `json:"items"`
	}
	if err := json.Unmarshal(listed, &objects); err != nil {
		return fmt.Errorf("read list of objects: %w", err)
	}
	if objects.Kind == "ConfigMap" {
		objects.Items = []json.RawMessage{listed}
	}
	for _, item := range objects.Items {
		if err := c.addObject(item); err != nil {
			return fmt.Errorf("read object of list: %w", err)
		}
	}
	return nil
}

func (c *Cluster) addObject(item []byte) error {
	var kind struct {
		Kind     string   `json:"kind"`
		Metadata metadata `json:"metadata"`
	}
	if err := json.Unmarshal(item, &kind); err != nil {
		return err
	}
	if kind.Kind == "ConfigMap" {
		var text configMapText
		err := json.Unmarshal(item, &text)
		c.Maps = append(c.Maps, text.configMap())
		return err
	}
	var workload struct {
		Spec struct {
			Template struct {
				Spec struct {
					Volumes []volumeText `json:"volumes"`
				} `json:"spec"`
			} `json:"template"`
		} `json:"spec"`
	}
	if err := json.Unmarshal(item, &workload); err != nil {
		return err
	}
	w := Workload{Kind: kind.Kind, Name: kind.Metadata.Name}
	for _, v := range workload.Spec.Template.Spec.Volumes {
		w.Maps = append(w.Maps, v.names()...)
	}
	if len(w.Maps) > 0 {
		slices.Sort(w.Maps)
		w.Maps = slices.Compact(w.Maps)
		c.Workloads = append(c.Workloads, w)
	}
	return nil
}

// ReadBundle makes a bundle of its record and the manifests of its folder, by path. The record says which ConfigMaps
// there are; one that the manifests do not have, or have with another content, is an error.
func ReadBundle(record []byte, files map[string][]byte) (*Bundle, error) {
	r, err := ParseRecord(record)
	if err != nil {
		return nil, err
	}
	b := &Bundle{Name: r.Name, Namespace: r.Namespace}
	for _, want := range r.Maps {
		file := MapsDir + "/" + want.Subject + ".yaml"
		read, err := ReadConfigMaps(files[file])
		if err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
		if len(read) != 1 || read[0].Name != want.Name || read[0].Digest() != want.Digest {
			return nil, fmt.Errorf("%s does not hold the ConfigMap %s that %s names: make the bundle again", file, want.Name, RecordFile)
		}
		b.Maps = append(b.Maps, read[0])
	}
	return b, nil
}
