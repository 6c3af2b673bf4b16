package charts

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"path"
	"slices"
	"strings"
)

// Targets says what to write beside the ConfigMaps.
type Targets struct {
	With         []string `json:"with,omitempty"`         // of TargetNames
	Chart        string   `json:"chart,omitempty"`        // the Helm chart, seen from the bundle's folder, or a URL for Helmfile
	Repo         string   `json:"repo,omitempty"`         // URL of the Git repository that Argo CD follows
	Path         string   `json:"path,omitempty"`         // of the bundle's folder in it
	Revision     string   `json:"revision,omitempty"`     // branch, tag or commit of it
	Environments []string `json:"environments,omitempty"` // NAME or NAME=NAMESPACE: an ApplicationSet's Applications
	Manual       []string `json:"manual,omitempty"`       // of Environments, by NAME: those that people sync
}

// The targets.
const (
	ToArgoCD         = "argocd"
	ToApplicationSet = "applicationset"
	ToHelm           = "helm"
	ToHelmfile       = "helmfile"
	ToKustomize      = "kustomize"
)

// TargetNames lists what Targets.With may name.
func TargetNames() []string {
	return []string{ToApplicationSet, ToArgoCD, ToHelm, ToHelmfile, ToKustomize}
}

// To says whether any of these targets is meant.
func (t Targets) To(names ...string) bool {
	return slices.ContainsFunc(names, func(name string) bool { return slices.Contains(t.With, name) })
}

// Check says what is wrong with targets.
func (t Targets) Check() error {
	for _, name := range t.With {
		if !slices.Contains(TargetNames(), name) {
			return fmt.Errorf("there is no target %q; there are %q", name, TargetNames())
		}
	}
	if t.To(ToArgoCD, ToApplicationSet) {
		if err := t.checkRepo(); err != nil {
			return err
		}
	}
	return t.checkEnvironments()
}

// File is a file of a bundle's folder; its path has forward slashes.
type File struct {
	Path string
	Data []byte
}

// RecordFile is the name of the file that says how a bundle was made, and MapsDir that of the folder with its ConfigMaps.
const (
	RecordFile = "bundle.json"
	MapsDir    = "configmaps"
)

// Record says how a bundle was made, so that it can be made again.
type Record struct {
	Version   int               `json:"version"`
	Name      string            `json:"name"`
	Namespace string            `json:"namespace,omitempty"`
	Labels    map[string]string `json:"labels,omitempty"`
	Sources   []string          `json:"sources"`              // files and folders, seen from the bundle's folder
	Lock      string            `json:"lock,omitempty"`       // the same
	Nodes     []string          `json:"nodes,omitempty"`      // folders of definitions, the same
	Info      []string          `json:"objectInfo,omitempty"` // node definitions for the editor's format, the same
	Targets   Targets           `json:"targets"`
	Maps      []RecordMap       `json:"configMaps"`
}

// RecordMap is what a Record tells of a ConfigMap.
type RecordMap struct {
	Name    string `json:"name"`
	Subject string `json:"subject"`
	Digest  string `json:"digest"`
}

// RecordVersion is the version of the form of Record.
const RecordVersion = 1

// made is what stands at the top of the files.
const made = "# Made by comfyrun bundle, which replaces it; comfyrun bundle --check says whether it is current.\n"

// Files lists what a bundle's folder holds, sorted by path.
func (b *Bundle) Files(r Record) ([]File, error) {
	r.Version, r.Name, r.Namespace = RecordVersion, b.Name, b.Namespace
	r.Maps = nil
	if err := b.checkTargets(r.Targets); err != nil {
		return nil, err
	}
	var files []File
	for _, m := range b.Maps {
		files = append(files, File{b.file(m), append([]byte(made), m.YAML()...)})
		r.Maps = append(r.Maps, RecordMap{m.Name, m.Subject(), m.Digest()})
	}
	for _, t := range targetFiles(b) {
		if r.Targets.To(t.with...) {
			text := bytes.NewBufferString(made)
			writeObject(text, t.write(r.Targets), 0)
			files = append(files, File{t.name, text.Bytes()})
		}
	}
	record, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("write %s: %w", RecordFile, err)
	}
	files = append(files, File{RecordFile, append(record, '\n')})
	slices.SortFunc(files, func(a, b File) int { return bytes.Compare([]byte(a.Path), []byte(b.Path)) })
	return files, nil
}

// checkTargets says what is wrong with targets for this bundle.
func (b *Bundle) checkTargets(t Targets) error {
	if err := cmp.Or(t.Check(), t.checkChart()); err != nil {
		return err
	}
	if len(t.Environments) > 0 && b.Namespace != "" {
		return fmt.Errorf("the ConfigMaps name the namespace %q, and environments have namespaces of their own: leave --namespace out", b.Namespace)
	}
	return nil
}

// targetFile is a file beside the ConfigMaps, and the targets that want it.
type targetFile struct {
	name  string
	with  []string
	write func(Targets) object
}

func targetFiles(b *Bundle) []targetFile {
	return []targetFile{
		{"values.yaml", []string{ToHelm, ToHelmfile, ToArgoCD, ToApplicationSet}, func(Targets) object { return b.values() }},
		{"kustomization.yaml", []string{ToKustomize}, func(Targets) object { return b.component() }},
		{"helmfile.yaml", []string{ToHelmfile}, b.helmfile},
		{"application.yaml", []string{ToArgoCD}, b.application},
		{"applicationset.yaml", []string{ToApplicationSet}, b.applicationSet},
	}
}

// MayHold says whether a file of this path, with forward slashes, may be one that a bundle has.
func MayHold(name string) bool {
	if dir, file := path.Split(name); dir == MapsDir+"/" {
		return strings.HasSuffix(file, ".yaml")
	}
	return name == RecordFile || slices.ContainsFunc(targetFiles(nil), func(t targetFile) bool { return t.name == name })
}

// file is where a ConfigMap stands: under its subject, so that history shows how a workflow changed.
func (b *Bundle) file(m ConfigMap) string { return path.Join(MapsDir, m.Subject()+".yaml") }

// Manifest is all ConfigMaps in one text, for kubectl apply -f -.
func (b *Bundle) Manifest() []byte {
	var text bytes.Buffer
	for i, m := range b.Maps {
		if i > 0 {
			text.WriteString("---\n")
		}
		text.Write(m.YAML())
	}
	return text.Bytes()
}

// split gives the names of the ConfigMaps of workflows, and that of the lock.
func (b *Bundle) split() (names list, lock string) {
	names = list{}
	for _, m := range b.Maps {
		if m.IsLock() {
			lock = m.Name
		} else {
			names = append(names, m.Name)
		}
	}
	return names, lock
}

// values are those that the Helm chart takes.
func (b *Bundle) values() object {
	names, lock := b.split()
	values := object{{"workflows", object{{"chartFiles", false}, {"configMaps", names}}}}
	if lock != "" {
		values = append(values, member{"model", object{{"lockConfigMap", lock}}})
	}
	return values
}

// component is a Kustomize component: it adds the ConfigMaps, and mounts them where the Deployments of the base mount
// their volumes "workflows" and "lock".
func (b *Bundle) component() object {
	resources := list{}
	for _, m := range b.Maps {
		resources = append(resources, b.file(m))
	}
	return object{
		{"apiVersion", "kustomize.config.k8s.io/v1alpha1"}, {"kind", "Component"}, {"resources", resources},
		{"patches", list{object{
			{"target", object{{"kind", "Deployment"}, {"labelSelector", "app.kubernetes.io/name=comfyrun"}}},
			{"patch", b.patch()},
		}}},
	}
}

// patch is a strategic merge patch that gives the volumes their sources. The kinds of volume that a base may have in
// their place are taken out: a volume has one.
func (b *Bundle) patch() string {
	names, lock := b.split()
	sources := list{}
	for _, name := range names {
		sources = append(sources, object{{"configMap", object{{"name", name}}}})
	}
	volumes := list{object{{"name", "workflows"}, {"configMap", nil}, {"emptyDir", nil}, {"projected", object{{"sources", sources}}}}}
	if lock != "" {
		volumes = append(volumes, object{{"name", "lock"}, {"emptyDir", nil}, {"projected", nil}, {"configMap", object{{"name", lock}}}})
	}
	var text bytes.Buffer
	writeObject(&text, object{
		{"apiVersion", "apps/v1"}, {"kind", "Deployment"}, {"metadata", object{{"name", "any"}}},
		{"spec", object{{"template", object{{"spec", object{{"volumes", volumes}}}}}}},
	}, 0)
	return text.String()
}

// helmfile is a Helmfile with one release. The ConfigMaps go to the cluster before the release that mounts them, with the
// namespace and context that Helmfile itself uses; it fills them in when the hook runs.
func (b *Bundle) helmfile(t Targets) object {
	apply := list{"apply", "--server-side", "-f", MapsDir, "--namespace={{ .Release.Namespace }}", "--context={{ .Release.KubeContext }}"}
	release := object{{"name", b.Name}}
	if b.Namespace != "" {
		release = append(release, member{"namespace", b.Namespace})
	}
	hook := object{{"events", list{"presync"}}, {"showlogs", true}, {"command", "kubectl"}, {"args", apply}}
	release = append(release, member{"chart", t.Chart}, member{"values", list{"values.yaml"}}, member{"hooks", list{hook}})
	return object{{"releases", list{release}}}
}

// Generated says whether a file of a bundle's folder was made by this package, its record aside.
func Generated(data []byte) bool { return bytes.HasPrefix(data, []byte(made)) }
