package definitions

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/comfyrun/comfyrun/engine"
	"github.com/comfyrun/comfyrun/workflows"
	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"
)

var update = flag.Bool("update", false, "write what is found into testdata")

// Definitions of the tests below: Soft paints and blurs, Twice uses Soft, Either
// chooses between two pictures, Files loads one, Shown shows one, Each blurs the
// elements of a list.
const (
	soft = `{"class_type": "Soft", "title": "Soft Paint", "category": "ours", "doc": "Paints softly.",
		"inputs": {
			"size": {"to": ["paint.width", "blur.width"], "max": 256, "doc": "How wide."},
			"colour": {"to": "Paint.colour", "choices": ["red", "blue"], "default": "blue"},
			"strength": {"to": "blur.radius", "optional": true}},
		"outputs": {"soft": {"from": ["blur", 0]}, "hard": {"from": ["paint", 0], "doc": "Before."}},
		"workflow": {
			"paint": {"class_type": "Paint", "inputs": {"width": 128, "colour": "red"}},
			"blur": {"class_type": "Blur", "inputs": {"image": ["paint", 0], "radius": 2.5}}}}`
	twice = `{"class_type": "Twice",
		"inputs": {"colour": {"to": "1.colour"}},
		"outputs": {"IMAGE": {"from": ["2", 0]}},
		"workflow": {
			"1": {"class_type": "Soft", "inputs": {"size": 64}},
			"2": {"class_type": "Blur", "inputs": {"image": ["1", 0], "radius": 1}}}}`
	either = `{"class_type": "Either",
		"inputs": {"first": {"to": "1.first"}, "a": {"to": "1.a", "optional": true}, "b": {"to": "1.b", "optional": true}},
		"outputs": {"IMAGE": {"from": ["1", 0]}},
		"workflow": {"1": {"class_type": "Choose", "inputs": {}}}}`
	files = `{"class_type": "Files", "outputs": {"IMAGE": {"from": ["1", 0]}},
		"workflow": {"1": {"class_type": "Load", "inputs": {"name": "not-here.png"}}}}`
	hereFile = `{"class_type": "Here", "outputs": {"IMAGE": {"from": ["1", 0]}},
		"workflow": {"1": {"class_type": "Load", "inputs": {"name": "here.png"}}}}`
	shownTwice = `{"class_type": "Shown", "inputs": {"image": {"to": "1.value", "type": "IMAGE"}},
		"workflow": {"1": {"class_type": "Show", "inputs": {}}}}`
	each = `{"class_type": "Each", "inputs": {"images": {"to": "1.image"}},
		"outputs": {"all": {"from": ["2", 0]}, "each": {"from": ["1", 0]}},
		"workflow": {"1": {"class_type": "Blur", "inputs": {"radius": 1}}, "2": {"class_type": "Join", "inputs": {"images": ["1", 0]}}}}`
)

func TestRuns(t *testing.T) {
	for name, tt := range map[string]struct{ workflow, want string }{
		"all inputs": {`{"1": {"class_type": "Soft", "inputs": {"size": 72, "colour": "red", "strength": 4}},
			"2": {"class_type": "Show", "inputs": {"value": ["1", 0]}}, "3": {"class_type": "Show", "inputs": {"value": ["1", 1]}}}`,
			"2: blur4(red72)\n3: red72"},
		"an optional one left out": {`{"1": {"class_type": "Soft", "inputs": {"size": 64, "colour": "blue"}},
			"2": {"class_type": "Show", "inputs": {"value": ["1", 0]}}}`, "2: blur2.5(blue64)"},
		"nested": {`{"1": {"class_type": "Twice", "inputs": {"colour": "blue"}},
			"2": {"class_type": "Show", "inputs": {"value": ["1", 0]}}}`, "2: blur1(blur2.5(blue64))"},
		"lazy": {`{"1": {"class_type": "Paint", "inputs": {"width": 16, "colour": "red"}},
			"2": {"class_type": "Blur", "inputs": {"image": ["1", 0], "radius": 9}},
			"3": {"class_type": "Either", "inputs": {"first": true, "a": ["1", 0], "b": ["2", 0]}},
			"4": {"class_type": "Show", "inputs": {"value": ["3", 0]}}}`, "4: red16"},
		"an output node inside": {`{"1": {"class_type": "Paint", "inputs": {"width": 16, "colour": "red"}},
			"7": {"class_type": "Shown", "inputs": {"image": ["1", 0]}}}`, "7.0.0.1: red16"},
		"lists": {`{"1": {"class_type": "Split", "inputs": {"n": 2}}, "2": {"class_type": "Each", "inputs": {"images": ["1", 0]}},
			"3": {"class_type": "Show", "inputs": {"value": ["2", 0]}}, "4": {"class_type": "Show", "inputs": {"value": ["2", 1]}}}`,
			"3: [blur1(0) blur1(1)]\n4: blur1(0)\n4: blur1(1)"},
		"needed again after it was let go": {`{"1": {"class_type": "Soft", "inputs": {"size": 64, "colour": "red"}},
			"2": {"class_type": "IsRed", "inputs": {"image": ["1", 0]}},
			"3": {"class_type": "Choose", "inputs": {"first": ["2", 0], "a": ["4", 0], "b": ["5", 0]}},
			"5": {"class_type": "Blur", "inputs": {"image": ["1", 1], "radius": 1}},
			"4": {"class_type": "Blur", "inputs": {"image": ["1", 0], "radius": 1}},
			"6": {"class_type": "Show", "inputs": {"value": ["3", 0]}}}`, "6: blur1(blur2.5(red64))"},
		"an inner node fails": {`{"9": {"class_type": "Soft", "inputs": {"size": 64, "colour": "red", "strength": 9}},
			"2": {"class_type": "Show", "inputs": {"value": ["9", 0]}}}`,
			"node 9 (Soft), in its node 9.0.0.blur (Blur): too much blur"},
	} {
		t.Run(name, func(t *testing.T) {
			ty := newToys(t)
			s := ty.define(t, soft, twice, either, shownTwice, each)
			g := graph(t, tt.workflow)
			got := ty.run(t, &engine.Runner{}, g)
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Error(diff)
			}
			written, err := s.WriteOut(g)
			if err != nil {
				t.Fatal(err)
			}
			for _, n := range written.Nodes() {
				if s.byClass[n.Class] != nil {
					t.Errorf("node %s is still of the class %s", n.ID, n.Class)
				}
			}
			ids := strings.NewReplacer("7.0.0.1", "7:1", "node 9 (Soft), in its node 9.0.0.blur", "node 9:blur")
			if diff := cmp.Diff(ids.Replace(got), ty.run(t, &engine.Runner{}, written)); diff != "" {
				t.Errorf("written out: %s", diff)
			}
		})
	}
}

func TestCache(t *testing.T) {
	ty := newToys(t)
	ty.define(t, soft, hereFile, shownTwice)
	const text = `{"1": {"class_type": "Soft", "inputs": {"size": 64, "colour": "red", "strength": %s}},
		"2": {"class_type": "Show", "inputs": {"value": ["1", 0]}}}`
	r := &engine.Runner{Cache: &engine.Cache{}}
	ty.run(t, r, graph(t, fmt.Sprintf(text, "2")))
	ty.run(t, r, graph(t, fmt.Sprintf(text, "2")))
	ty.run(t, r, graph(t, fmt.Sprintf(text, "3")))
	if diff := cmp.Diff(map[string]int{"Paint": 1, "Blur": 2, "Show": 2}, ty.ran); diff != "" {
		t.Error(diff)
	}
	// A node of the workflow itself shares results with equal inner ones.
	ty.run(t, r, graph(t, `{"5": {"class_type": "Paint", "inputs": {"width": 64, "colour": "red"}},
		"6": {"class_type": "Show", "inputs": {"value": ["5", 0]}}}`))
	if ty.ran["Paint"] != 1 {
		t.Errorf("Paint ran %d times", ty.ran["Paint"])
	}
	// A file that an inner node loads has changed: what reads the outer node runs again.
	g := graph(t, `{"1": {"class_type": "Here", "inputs": {}}, "2": {"class_type": "Show", "inputs": {"value": ["1", 0]}},
		"3": {"class_type": "Shown", "inputs": {"image": ["1", 0]}}}`)
	if got := ty.run(t, r, g); got != "2: here.png=one\n3.0.0.1: here.png=one" {
		t.Error(got)
	}
	ty.content = "two"
	if got := ty.run(t, r, g); got != "2: here.png=two\n3.0.0.1: here.png=two" {
		t.Error(got)
	}
	before := ty.ran["Show"]
	if got := ty.run(t, r, g); got != "2: here.png=two\n3.0.0.1: here.png=two" || ty.ran["Show"] != before {
		t.Error(got, ty.ran)
	}
}

// What is shown by an output node inside is shown also when nothing runs.
func TestCachedOutputInside(t *testing.T) {
	ty := newToys(t)
	ty.define(t, shownTwice)
	r := &engine.Runner{Cache: &engine.Cache{}}
	g := graph(t, `{"1": {"class_type": "Paint", "inputs": {"width": 16, "colour": "red"}},
		"7": {"class_type": "Shown", "inputs": {"image": ["1", 0]}}}`)
	for range 2 {
		if got := ty.run(t, r, g); got != "7.0.0.1: red16" || ty.ran["Show"] != 1 {
			t.Error(got, ty.ran)
		}
	}
}

func TestFileThatIsNotHere(t *testing.T) {
	ty := newToys(t)
	s := ty.define(t, files)
	g, err := s.WriteOut(graph(t, `{"1": {"class_type": "Files", "inputs": {}}, "2": {"class_type": "Show", "inputs": {"value": ["1", 0]}}}`))
	if err != nil {
		t.Fatal(err)
	}
	_, err = engine.NewPlan(g, ty.Catalog, engine.PlanOptions{})
	if err == nil || !strings.Contains(err.Error(), "node 1:1 (Load), input name: 'not-here.png' is not one of here.png") {
		t.Error(err)
	}
}

func TestObjectInfo(t *testing.T) {
	ty := newToys(t)
	ty.define(t, soft)
	typ, _ := ty.Type("Soft")
	typ.Module = "custom_nodes.ours"
	got, err := json.MarshalIndent(typ.Info(), "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	golden(t, "testdata/soft.json", append(got, '\n'))
}

func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	if *update {
		if err := os.WriteFile(name, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), string(got)); diff != "" {
		t.Errorf("%s (-want +got):\n%s", name, diff)
	}
}

// TestMistakes loads folders of definitions with the mistakes that stand beside
// them.
func TestMistakes(t *testing.T) {
	cases, err := filepath.Glob("testdata/mistakes/*.txtar")
	if err != nil || len(cases) == 0 {
		t.Fatal("no cases", err)
	}
	for _, name := range cases {
		t.Run(strings.TrimSuffix(filepath.Base(name), ".txtar"), func(t *testing.T) {
			a, err := txtar.ParseFile(name)
			if err != nil {
				t.Fatal(err)
			}
			folder, want := t.TempDir(), ""
			for _, f := range a.Files {
				if f.Name == "errors" {
					want = string(f.Data)
				} else if err := os.WriteFile(filepath.Join(folder, f.Name), f.Data, 0o644); err != nil {
					t.Fatal(err)
				}
			}
			ty := newToys(t)
			s, err := Load(ty.Catalog, folder)
			var wrong Errors
			if !errors.As(err, &wrong) || s != nil {
				t.Fatalf("no mistakes found: %v", err)
			}
			got := strings.ReplaceAll(err.Error(), folder+string(filepath.Separator), "") + "\n"
			if *update {
				a.Files[len(a.Files)-1] = txtar.File{Name: "errors", Data: []byte(got)}
				if err := os.WriteFile(name, txtar.Format(a), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestFolders(t *testing.T) {
	folder := t.TempDir()
	for name, text := range map[string]string{
		"ours/a/Soft.node.json": soft, "theirs/Twice.node.json": twice, ".git/x.node.json": "broken", "ours/workflow.json": "{}",
	} {
		path := filepath.Join(folder, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	ty := newToys(t)
	s, err := Load(ty.Catalog, folder)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, d := range s.Definitions() {
		typ, _ := ty.Type(d.Class)
		got = append(got, d.Class+" of "+typ.Module)
	}
	if diff := cmp.Diff([]string{"Soft of custom_nodes.ours", "Twice of custom_nodes.theirs"}, got); diff != "" {
		t.Error(diff)
	}
	if _, err := Load(ty.Catalog, filepath.Join(folder, "absent")); err == nil || !errors.Is(err, os.ErrNotExist) {
		t.Error(err)
	}
}

// A few definitions that use each other twice would write out to more nodes than
// any machine holds.
func TestTooLarge(t *testing.T) {
	folder := t.TempDir()
	const text = `{"class_type": "C%d", "outputs": {"I": {"from": ["1", 0]}}, "workflow": {"1": {"class_type": %q, "inputs": {}}, "2": {"class_type": %[2]q, "inputs": {}}}}`
	for i := range 20 {
		uses := fmt.Sprintf("C%d", i-1)
		if i == 0 {
			uses = "Leaf"
		}
		if err := os.WriteFile(filepath.Join(folder, fmt.Sprintf("C%d%s", i, Suffix)), fmt.Appendf(nil, text, i, uses), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	ty := newToys(t)
	engine.Add(ty.Catalog, "Leaf", "", struct{}{}, leaf)
	_, err := Load(ty.Catalog, folder)
	if err == nil || !strings.Contains(err.Error(), "C16.node.json:1: with all that its nodes are defined by, it has 131072 nodes; 100000 are allowed") {
		t.Error(err)
	}
}

// The examples of the documentation are the files that the stories of cmd/comfyrun run.
func TestDocumentation(t *testing.T) {
	page, err := os.ReadFile("../../docs/node-packages.md")
	if err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob("../../workflows/nodes/*" + Suffix)
	if err != nil || len(files) != 2 {
		t.Fatalf("examples %v: %v", files, err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(string(page), "```json\n"+string(text)+"```\n") {
			t.Errorf("the page does not show %s as it is", file)
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, text := range []string{soft, twice, either, files, shownTwice, each, "", "{}", `{"class_type": 1, "inputs": []}`,
		`{"class_type": "A", "workflow": {"prompt": {"1": {"class_type": "Paint"}}}}`} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		d, errs := Parse("f", data)
		if (d == nil) == (len(errs) == 0) {
			t.Fatalf("definition %v with mistakes %v", d, errs)
		}
		for _, e := range errs {
			if e.Line < 1 || e.Line > strings.Count(string(data), "\n")+1 || e.Error() == "" {
				t.Errorf("mistake %v at line %d", e, e.Line)
			}
		}
		if d == nil {
			return
		}
		ty := newToys(t)
		s, wrong := declare(ty.Catalog, []*Definition{d})
		if len(wrong) > 0 {
			return
		}
		g := &workflows.Graph{}
		if err := g.Add(&workflows.Node{ID: "1", Class: d.Class}); err != nil {
			t.Fatal(err)
		}
		if _, err := s.WriteOut(g); err != nil {
			t.Error(err)
		}
	})
}
