package ui

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/comfyrun/comfyrun/workflows"
)

// exceptions are the cases in which a conversion differs from what the editor gave, on purpose. Refused is a part of the
// error; otherwise want holds the inputs that differ, as NODE.INPUT and JSON.
var exceptions = map[string]struct {
	reason  string
	refused string
	want    map[string]string
}{
	"hand/no_control_value": {
		reason:  "the editor moves every later value by one place; the scheduler becomes 1",
		refused: `node 5 (KSampler), input control_after_generate: found 20 where "fixed"`,
	},
	"hand/values_object": {
		reason: "the editor passes over values that are stored by name and keeps defaults",
		want: map[string]string{"5.seed": "3", "5.steps": "9", "5.cfg": "4.5", "5.sampler_name": `"dpmpp_2m"`,
			"5.scheduler": `"karras"`, "5.denoise": "0.5"},
	},
	"hand/subgraph_values_control": {
		reason: "the editor takes the control value after a promoted seed for the next value",
		want:   map[string]string{"5:103.steps": "12"},
	},
	"hand/subgraph_texts": {
		reason: "the editor expands no {a|b} in a promoted text",
		want:   map[string]string{"8:101.text": `"outer x a"`},
	},
	"templates/3d_hunyuan3d-v2.1": {
		reason: "the editor moves the instance's values by one place, as a widget of the first is not in its definitions; their names tell",
		want: map[string]string{"19:1.ckpt_name": `"hunyuan_3d_v2.1.safetensors"`, "19:4.resolution": "4096", "19:7.steps": "30",
			"19:7.cfg": "5", "19:7.sampler_name": `"euler"`, "19:7.scheduler": `"normal"`, "19:9.algorithm": `"surface net"`, "19:9.threshold": "0.6"},
	},
}

// renumbered are the cases in which the editor gives nodes inside of subgraphs new ids, and this package those of the
// file.
var renumbered = []string{"hand/group_node", "hand/subgraph_duplicate_ids", "templates/image_newbieimage_exp0_1-t2i"}

// Every recorded case, as the editor does it and as it is done by default.
func TestRecorded(t *testing.T) {
	info := objectInfo(t)
	used := 0
	for _, name := range cases(t) {
		data := read(t, name+".ui.json")
		t.Run(name, func(t *testing.T) {
			w, err := Parse(data)
			if err != nil {
				t.Fatal(err)
			}
			compareRecorded(t, name, w, info)
		})
		if _, ok := exceptions[name]; ok {
			used++
		}
	}
	if used != len(exceptions) {
		t.Errorf("%d of %d exceptions have a case", used, len(exceptions))
	}
}

func compareRecorded(t *testing.T, name string, w *Workflow, info ObjectInfo) {
	page, _, err := w.Convert(info, Options{Random: third, LikePage: true})
	if name == "hand/node_removed" {
		wantError(t, err, "node 5 (KSampler), input latent_image: its link comes from node 4, which is not in the file")
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	want := recorded(t, name, info)
	compare(t, "like the page", name, page, want)

	exception := exceptions[name]
	got, _, err := w.Convert(info, Options{Random: third})
	if exception.refused != "" {
		wantError(t, err, exception.refused)
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	for at, raw := range exception.want {
		id, input, _ := strings.Cut(at, ".")
		before, ok := want.Node(id).Inputs.Get(input)
		if !ok || before == value(t, raw) {
			t.Errorf("exception %s: the editor gave %s", at, before.Raw())
		}
		want.Node(id).Inputs.Set(input, value(t, raw))
	}
	if name != "hand/renamed_classes" {
		compare(t, "by default", name, got, want)
	}
}

// Classes that were renamed get their new names and their values' names; the editor leaves that to the server.
func TestRenamedClasses(t *testing.T) {
	g, _, err := Read(read(t, "hand/renamed_classes.ui.json"), objectInfo(t), Options{})
	if err != nil {
		t.Fatal(err)
	}
	for id, want := range map[string]string{
		"1": `ControlNetLoader {"control_net_name":"x.pth"}`,
		"2": `ConditioningAverage {"conditioning_to_strength":0.7}`,
	} {
		n := g.Node(id)
		if got := n.Class + " " + workflows.ObjectValue(n.Inputs).Raw(); got != want {
			t.Errorf("node %s: %s, want %s", id, got, want)
		}
	}
}

// A title is the author's, else that of the class. (The editor's own titles of classes come from its translations.)
func TestTitles(t *testing.T) {
	g, _, err := Read(read(t, "hand/titles.ui.json"), objectInfo(t), Options{})
	if err != nil {
		t.Fatal(err)
	}
	want, err := workflows.Parse(read(t, "hand/titles.api.json"))
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range g.Nodes() {
		if title := want.Node(n.ID).Title; n.Title != title {
			t.Errorf("title of node %s: %q, want %q", n.ID, n.Title, title)
		}
	}
}

func third() float64 { return 0.3 }

func wantError(t *testing.T, err error, part string) {
	t.Helper()
	var e *Error
	if !errors.As(err, &e) || !strings.Contains(err.Error(), part) {
		t.Errorf("error %v, want an *Error with %q", err, part)
	}
}

func value(t *testing.T, raw string) workflows.Value {
	t.Helper()
	v, err := workflows.ParseValue([]byte(raw))
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// recorded reads what the editor gave, less the literals of widgets that the class does not declare: they belong to the
// page, and the server drops them.
func recorded(t *testing.T, name string, info ObjectInfo) *workflows.Graph {
	t.Helper()
	g, err := workflows.Parse(read(t, name+".api.json"))
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range g.Nodes() {
		class := info[n.Class]
		if class == nil {
			continue
		}
		n.Inputs = slices.DeleteFunc(n.Inputs, func(m workflows.Member) bool {
			declared := slices.ContainsFunc(class.Inputs, func(in Input) bool { return in.Name == m.Key })
			return !declared && !m.Value.IsLink()
		})
	}
	return g
}

func compare(t *testing.T, how, name string, got, want *workflows.Graph) {
	t.Helper()
	show := ids
	if slices.Contains(renumbered, name) {
		show = structure
	}
	if diff := cmp.Diff(show(want), show(got)); diff != "" {
		t.Errorf("%s (-editor +got):\n%s", how, diff)
	}
}

// ids shows a graph for comparison: a line per input. Numbers are those of JavaScript. Nodes of unknown classes have no
// class in the recording.
func ids(g *workflows.Graph) map[string][]string {
	shown := map[string][]string{}
	for _, n := range g.Nodes() {
		shown[n.ID] = lines(n, func(l workflows.Link) string { return fmt.Sprintf("-> %s %d", l.Node, l.Slot) })
	}
	return shown
}

func lines(n *workflows.Node, link func(workflows.Link) string) []string {
	var lines []string
	for _, m := range n.Inputs {
		shown := m.Value.Raw()
		if l, ok := m.Value.Link(); ok {
			shown = link(l)
		} else if f, ok := m.Value.Float64(); ok {
			shown = fmt.Sprint(f)
		}
		lines = append(lines, m.Key+" = "+shown)
	}
	slices.Sort(lines)
	if _, unknown := n.Inputs.Get("UNKNOWN"); !unknown && n.Class != "" {
		lines = append(lines, "class "+n.Class)
	}
	return lines
}

// structure shows a graph up to the names of its nodes: each is named after all that is upstream of it.
func structure(g *workflows.Graph) map[string][]string {
	shown := map[string][]string{}
	for _, n := range g.Nodes() {
		name := fingerprint(g, n)
		shown[name] = append(shown[name], n.Class)
	}
	return shown
}

func fingerprint(g *workflows.Graph, n *workflows.Node) string {
	if n == nil {
		return "missing"
	}
	text := lines(n, func(l workflows.Link) string { return fmt.Sprintf("-> %s %d", fingerprint(g, g.Node(l.Node)), l.Slot) })
	return fmt.Sprintf("%s %x", n.Class, sha256.Sum256([]byte(strings.Join(text, "\n"))))
}

func cases(t testing.TB) []string {
	t.Helper()
	var names []string
	for _, pattern := range []string{"testdata/hand/*.ui.json", "testdata/templates/*.ui.json.gz"} {
		found, err := filepath.Glob(pattern)
		if err != nil || len(found) == 0 {
			t.Fatalf("%s: %d files, %v", pattern, len(found), err)
		}
		for _, file := range found {
			name, _, _ := strings.Cut(strings.TrimPrefix(filepath.ToSlash(file), "testdata/"), ".ui.json")
			names = append(names, name)
		}
	}
	return names
}

// read returns a file of testdata, unpacked where it is packed.
func read(t testing.TB, name string) []byte {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("testdata", name))
	if err == nil {
		return data
	}
	packed, err := os.ReadFile(filepath.Join("testdata", name+".gz"))
	if err != nil {
		t.Fatal(err)
	}
	r, err := gzip.NewReader(bytes.NewReader(packed))
	if err == nil {
		data, err = io.ReadAll(r)
	}
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return data
}

func objectInfo(t testing.TB) ObjectInfo {
	t.Helper()
	info, err := ParseObjectInfo(read(t, "object_info.json"))
	if err != nil {
		t.Fatal(err)
	}
	return info
}
