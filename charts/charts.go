// Package charts turns workflows into what Kubernetes runs them from.
//
// Vocabulary: a Bundle is a set of workflows, each in a ConfigMap of its own, with the definitions of nodes that they use,
// again one each, and the part of models.lock that they need in one more. Its ConfigMaps are immutable and named by their content: another content is another name, so that a
// Deployment that names them rolls when a workflow changes, and goes back by naming the earlier ones. The digest of a
// ConfigMap is that of its data, and of nothing else. Targets are the files beside the ConfigMaps that bring them to a
// Deployment: values for Helm, a component for Kustomize, a release for Helmfile, an Application or ApplicationSet for
// Argo CD. Drift is how a cluster differs from a bundle.
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
	"maps"
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
	Written *workflows.Graph // Graph with the nodes that its defined classes stand for; nil: it uses none
	Sidecar []byte           // NAME.params.toml, which declares parameters; nil: there is none
	Models  []string         // FOLDER/NAME of the model files that it names
	Defined []string         // defined classes that it uses, those inside of others too
}

// Bundle is a set of ConfigMaps: those of workflows sorted by workflow, those of definitions sorted by class, then that of
// models.lock.
type Bundle struct {
	Name      string
	Namespace string
	Maps      []ConfigMap
}

// MaxData bounds the bytes of a ConfigMap's keys and values: Kubernetes takes 1 MiB for all of it.
const MaxData = 900 << 10

// workflowName is what a server takes as the name of a workflow.
var workflowName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$`)

// New makes the ConfigMaps of workflows and of what they need. Everything that is wrong is in one error. A model that a
// workflow names and the lock does not is a models.ErrMissing.
func New(sources []Source, o Options) (*Bundle, error) {
	if err := o.check(); err != nil {
		return nil, err
	}
	sources = slices.Clone(sources)
	slices.SortStableFunc(sources, func(a, b Source) int { return cmp.Compare(a.Name, b.Name) })
	b := &Bundle{Name: o.Name, Namespace: o.Namespace}
	defined, wrong := o.definitionMaps(sources)
	for _, s := range sources {
		m, err := s.configMap(o, defined)
		if err != nil {
			wrong = append(wrong, fmt.Errorf("bundle workflow %q: %w", s.Name, err))
			continue
		}
		b.Maps = append(b.Maps, m)
	}
	for _, class := range slices.Sorted(maps.Keys(defined)) {
		b.Maps = append(b.Maps, defined[class])
	}
	if o.Lock != nil {
		m, err := lockMap(sources, o)
		if err != nil {
			wrong = append(wrong, err)
		}
		b.Maps = append(b.Maps, m)
	}
	wrong = append(wrong, b.apart()...)
	if err := errors.Join(wrong...); err != nil {
		return nil, err
	}
	return b, nil
}

// apart reports parts that cannot be told from each other: each has a file, and there are file systems that do not tell
// capitals from small letters.
func (b *Bundle) apart() (wrong []error) {
	seen := map[string]string{}
	for _, m := range b.Maps {
		subject := m.Subject()
		before, twice := seen[strings.ToLower(subject)]
		seen[strings.ToLower(subject)] = subject
		switch {
		case twice && before == subject:
			wrong = append(wrong, fmt.Errorf("bundle workflow %q: two workflows have this name", subject))
		case twice:
			wrong = append(wrong, fmt.Errorf("bundle workflow %q: its name differs from %q only in capitals, and files of some systems do not", subject, before))
		}
	}
	return wrong
}

// configMap makes the ConfigMap of one workflow.
func (s Source) configMap(o Options, defined map[string]ConfigMap) (ConfigMap, error) {
	if err := s.checkName(); err != nil {
		return ConfigMap{}, err
	}
	text, err := workflows.Format(workflows.Encode(s.Graph))
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
	if dataSize(data) > MaxData {
		if data[s.Name+".json"], err = withoutBlanks(text); err != nil {
			return ConfigMap{}, err
		}
	}
	m, err := o.made(s.Name, "workflow", data, s.annotations(o, data, defined))
	if errors.Is(err, errTooLarge) {
		err = fmt.Errorf("%w, also without blanks; a server reads a workflow whole and uncompressed, so that it cannot be divided: take what is "+
			"not a workflow, such as pictures in texts, out of it, or mount it from a volume", err)
	}
	return m, err
}

func (s Source) checkName() error {
	switch {
	case !workflowName.MatchString(s.Name):
		return errors.New("a workflow's name is 1 to 100 letters, digits, points, hyphens and underscores, and begins with a letter or digit")
	case strings.EqualFold(s.Name, LockKey):
		return fmt.Errorf("the name is taken by the part of %s", LockKey)
	case strings.HasSuffix(s.Name+".json", definitionEnd):
		return fmt.Errorf("files that end in %s are definitions of nodes, not workflows", definitionEnd)
	}
	return nil
}

func (s Source) annotations(o Options, data map[string]string, defined map[string]ConfigMap) map[string]string {
	graph := s.Graph
	if s.Written != nil {
		graph = s.Written
	}
	notes := map[string]string{
		annotationWorkflow: s.Name,
		annotationGraph:    workflows.Digest(graph),
		annotationVersion:  version(data, s.Name),
	}
	if pinned := pinnedText(s.Models, o.Lock); pinned != "" {
		notes[annotationModels] = pinned
	}
	var nodes []string
	for _, class := range sortedNames(s.Defined) {
		nodes = append(nodes, class+"@sha256:"+defined[class].Digest())
	}
	if len(nodes) > 0 {
		notes[annotationNodes] = strings.Join(nodes, "\n")
	}
	return notes
}

// withoutBlanks is how a workflow is written that is too large in its canonical layout.
func withoutBlanks(text []byte) (string, error) {
	var compact bytes.Buffer
	err := json.Compact(&compact, text)
	return compact.String() + "\n", err
}

// version names the two files of a workflow as the server does in GET /workflows.
func version(data map[string]string, name string) string {
	text := data[name+".json"]
	sum := sha256.Sum256([]byte(fmt.Sprintf("%d\n", len(text)) + text + data[name+".params.toml"]))
	return hex.EncodeToString(sum[:])
}

// pinnedText lists models with their digests, one a line, under the names of files where a workflow has a label.
func pinnedText(names []string, lock *models.Lock) string {
	var lines []string
	for _, name := range sortedNames(names) {
		if e, ok := find(lock, name); ok {
			lines = append(lines, e.Name+"@sha256:"+e.SHA256)
		}
	}
	return strings.Join(sortedNames(lines), "\n")
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
		return m, fmt.Errorf("bundle %s: %w: make several bundles, each of some workflows", LockKey, err)
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
	if size := dataSize(data); size > MaxData {
		return m, fmt.Errorf("has %d KiB, %w of %d KiB (1 MiB with all around it)", (size+1023)>>10, errTooLarge, MaxData>>10)
	}
	if size := dataSize(m.Annotations); size > maxAnnotations {
		return m, fmt.Errorf("the models and nodes that it names fill %d KiB of annotations, of which a ConfigMap holds %d KiB", (size+1023)>>10, maxAnnotations>>10)
	}
	return m, nil
}

var errTooLarge = errors.New("more than the limit of a ConfigMap's data")

// maxAnnotations is Kubernetes' bound of annotations, less what others may add.
const maxAnnotations = 200 << 10

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
