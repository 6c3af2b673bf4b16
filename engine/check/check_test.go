package check

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"

	"github.com/comfyrun/comfyrun/engine"
	"github.com/comfyrun/comfyrun/engine/policy"
	"github.com/comfyrun/comfyrun/workflows"
	"github.com/comfyrun/comfyrun/workflows/ui"
)

var update = flag.Bool("update", false, "write the expected findings of testdata/findings anew")

// checker knows the classes of testdata/object_info.json.
func checker(t testing.TB) *Checker {
	t.Helper()
	data, err := os.ReadFile("testdata/object_info.json")
	if err != nil {
		t.Fatal(err)
	}
	catalog, err := engine.ParseObjectInfo(data)
	if err != nil {
		t.Fatal(err)
	}
	LeaveFiles(catalog, true)
	return &Checker{
		Catalog:     catalog,
		Definitions: func() (ui.Definitions, error) { return ui.ParseObjectInfo(data) },
		Unsupported: func(class string) (string, bool) { return "it wants a camera", class == "Webcam" },
	}
}

// describe is a finding with everything that it says.
func describe(f Finding) string {
	place := fmt.Sprintf("%d:%d-%d:%d", f.Line, f.Column, f.EndLine, f.EndColumn)
	more := ""
	if f.Received != nil {
		more += " received " + f.Received.Raw()
	}
	if f.Allowed != nil {
		text, _ := json.Marshal(f.Allowed)
		more += " allowed " + string(text)
	}
	return fmt.Sprintf("%s %s %s%s\n  %s\n", place, f.Severity, f.Kind, more, f.Text())
}

// Each file of testdata/findings holds a workflow and what is found in it.
func TestFindings(t *testing.T) {
	files, err := filepath.Glob("testdata/findings/*.txtar")
	if err != nil || len(files) < 30 {
		t.Fatalf("%d files, %v", len(files), err)
	}
	for _, file := range files {
		archive, err := txtar.ParseFile(file)
		if err != nil {
			t.Fatal(err)
		}
		parts := map[string][]byte{}
		for _, f := range archive.Files {
			parts[f.Name] = f.Data
		}
		c := checker(t)
		if text, ok := parts["policy.toml"]; ok {
			if c.Policy, err = policy.Parse(text); err != nil {
				t.Fatal(err)
			}
		}
		var got strings.Builder
		for _, f := range c.Check("w.json", parts["w.json"]) {
			got.WriteString(describe(f))
		}
		if *update {
			archive.Files[len(archive.Files)-1].Data = []byte(got.String())
			if err := os.WriteFile(file, txtar.Format(archive), 0o644); err != nil {
				t.Fatal(err)
			}
		} else if diff := cmp.Diff(string(parts["findings"]), got.String()); diff != "" {
			t.Errorf("%s (-want +got):\n%s", file, diff)
		}
	}
}

const sound = `{
  "1": {"class_type": "Load", "inputs": {"name": "base.safetensors"}},
  "2": {"class_type": "Text", "inputs": {"text": "a", "clip": ["1", 1]}},
  "3": {"class_type": "Empty", "inputs": {"width": 512, "height": 512}},
  "4": {"class_type": "Sample", "inputs": {"model": ["1", 0], "positive": ["2", 0], "latent": ["3", 0], "seed": 7, "steps": 20, "cfg": 8.0, "sampler": "euler"}},
  "5": {"class_type": "Decode", "inputs": {"samples": ["4", 0], "vae": ["1", 2]}},
  "6": {"class_type": "Save", "inputs": {"images": ["5", 0], "prefix": "x"}, "_meta": {"title": "The picture"}}
}`

func TestSound(t *testing.T) {
	for _, text := range []string{sound, "\ufeff" + sound, `{"prompt": ` + sound + `, "client_id": "x"}`} {
		if found := checker(t).Check("w.json", []byte(text)); len(found) > 0 {
			t.Errorf("%.30s: %v", text, found)
		}
	}
}

// A checker is used by several goroutines at a time.
func TestConcurrentChecks(t *testing.T) {
	c := checker(t)
	known, err := c.Definitions()
	if err != nil {
		t.Fatal(err)
	}
	c.Definitions = func() (ui.Definitions, error) { return known, nil }
	for range 8 {
		t.Run("", func(t *testing.T) {
			t.Parallel()
			for _, text := range []string{sound, strings.ReplaceAll(sound, "Empty", "Emtpy"), `{"nodes": [{"id": 1, "type": "Save"}], "links": []}`} {
				if found := c.Check("w.json", []byte(text)); (len(found) == 0) != (text == sound) {
					t.Errorf("%.40s: %v", text, found)
				}
			}
		})
	}
}

// What model files there are, the caller says; a finding inside of a defined node stands at that node.
func TestModelsAndDefinedNodes(t *testing.T) {
	c := checker(t)
	c.Models = func(*workflows.Graph) ([]Model, error) {
		return []Model{
			{Node: "1", Class: "Load", Input: "name", Severity: Error, Kind: ModelMissing, Message: "nobody has it", Allowed: []string{"a"}},
			{Node: "3:2", Class: "Load", Input: "name", Severity: Warning, Kind: ModelNotPinned, Message: "not pinned"},
		}, nil
	}
	c.WriteOut = func(g *workflows.Graph) (*workflows.Graph, error) {
		written := g.Clone()
		written.Remove("3")
		n := &workflows.Node{ID: "3:1", Class: "Empty", Inputs: workflows.Object{{Key: "width", Value: workflows.IntValue(1)}, {Key: "height", Value: workflows.IntValue(4096)}}}
		if err := written.Add(n); err != nil {
			return nil, err
		}
		return written, written.Set("4", "latent", `["3:1", 0]`)
	}
	var err error
	if c.Policy, err = policy.Parse([]byte("[limits]\nmegapixels = 4\n[nodes]\ndeny = [\"Sample\"]\n")); err != nil {
		t.Fatal(err)
	}
	got := ""
	for _, f := range c.Check("w.json", []byte(sound)) {
		got += describe(f)
	}
	want := `2:50-2:68 error model_missing received "base.safetensors" allowed {"choices":["a"]}
  node 1 (Load), input name: nobody has it
4:3-4:6 error value_smaller_than_min allowed {"type":"INT","min":16,"max":16384}
  node 3 (Empty): 1 is below the minimum 16 (inside of it, node 3:1, Empty)
4:3-4:6 warning model_not_pinned
  node 3 (Empty): not pinned (inside of it, node 3:2, Load)
5:3-5:6 error policy_violation
  node 4 (Sample): not allowed by the policy: node type Sample is denied (by Sample)
`
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	c.WriteOut = func(*workflows.Graph) (*workflows.Graph, error) { return nil, errors.New("it holds itself") }
	c.Models, c.Policy = func(*workflows.Graph) ([]Model, error) { return nil, errors.New("cannot look") }, nil
	got = ""
	for _, f := range c.Check("w.json", []byte(sound)) {
		got += describe(f)
	}
	if want := "1:1-1:2 error invalid_workflow\n  it holds itself\n1:1-1:2 error invalid_workflow\n  cannot look\n"; got != want {
		t.Errorf("%q", got)
	}
}

// A model that no choice names may be there all the same.
func TestHasModel(t *testing.T) {
	c := checker(t)
	c.HasModel = func(name string) bool { return name == "other.safetensors" }
	for name, want := range map[string]int{"base": 0, "other": 0, "nobodys": 1} {
		found := c.Check("w.json", []byte(strings.Replace(sound, "base.safetensors", name+".safetensors", 1)))
		if len(found) != want || want > 0 && found[0].Kind != ModelMissing {
			t.Errorf("%s: %v", name, found)
		}
	}
}

// Without LeaveFiles a picture that is not there is an error; with it pictures are left alone, and other choices not.
func TestLeaveFiles(t *testing.T) {
	const text = `{"1": {"class_type": "Picture", "inputs": {"image": "gone.png"}}, "2": {"class_type": "Save", "inputs": {"images": ["1", 0], "prefix": "x"}}}`
	data, err := os.ReadFile("testdata/object_info.json")
	if err != nil {
		t.Fatal(err)
	}
	for _, leave := range []bool{false, true} {
		c := checker(t)
		if c.Catalog, err = engine.ParseObjectInfo(data); err != nil {
			t.Fatal(err)
		}
		LeaveFiles(c.Catalog, leave)
		if found := c.Check("w.json", []byte(text)); (len(found) == 0) != leave {
			t.Errorf("%t: %v", leave, found)
		}
	}
}

// A picture carries its workflow, of which there are no lines.
func TestPicture(t *testing.T) {
	c := checker(t)
	broken := strings.Replace(sound, `"steps": 20`, `"steps": 0`, 1)
	picture := func(text string) []byte {
		return slices.Concat([]byte("\x89PNG\r\n\x1a\n"), chunk("tEXt", "prompt\x00"+text), chunk("IEND", ""))
	}
	found := c.Check("w.png", picture(broken))
	if len(found) != 1 || found[0].Line != 0 || found[0].Kind != engine.TooSmall || found[0].Node != "4" {
		t.Errorf("%+v", found)
	}
	for text, want := range map[string]engine.ErrorKind{"{": InvalidJSON, "[]": InvalidWorkflow} {
		if found := c.Check("w.png", picture(text)); len(found) != 1 || found[0].Line != 0 || found[0].Kind != want {
			t.Errorf("%s: %+v", text, found)
		}
	}
	if found := c.Check("w.png", []byte("\x89PNG\r\n\x1a\n")); len(found) != 1 || found[0].Kind != InvalidWorkflow || found[0].Severity != Error {
		t.Errorf("%+v", found)
	}
}

// chunk is a chunk of a PNG; nobody looks at its checksum.
func chunk(kind, data string) []byte {
	return fmt.Appendf(nil, "\x00\x00%c%c%s%s\x00\x00\x00\x00", len(data)>>8, len(data)&255, kind, data)
}

func TestIsWorkflow(t *testing.T) {
	for text, want := range map[string]bool{
		sound: true, `{"prompt": ` + sound + `}`: true, `{"nodes": [], "links": []}`: true, `<<<<<<< HEAD`: true,
		`{"1": {"class_type": "A"}}`: true, `{}`: false, `[1]`: false, `{"name": "x", "nodes": {}}`: false, `{"prompt": {"a": 1}}`: false,
	} {
		if got := IsWorkflow([]byte(text)); got != want {
			t.Errorf("%.40s: %t", text, got)
		}
	}
}

// However broken a file is, nothing panics and places lie within it.
func FuzzCheck(f *testing.F) {
	files, _ := filepath.Glob("testdata/findings/*.txtar")
	for _, file := range files {
		archive, err := txtar.ParseFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(archive.Files[0].Data)
	}
	f.Add([]byte("\x89PNG\r\n\x1a\n"))
	c := checker(f)
	var err error
	if c.Policy, err = policy.Parse([]byte("[limits]\nsteps = 5\nmegapixels = 1\nnodes = 50\n[nodes]\ndeny = [\"Size\"]\n")); err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		found := c.Check("w.json", data)
		lines := strings.Split(strings.TrimPrefix(string(data), "\ufeff"), "\n")
		for _, f := range found {
			if workflows.IsPicture(data) {
				continue
			}
			if f.Line < 1 || f.EndLine > len(lines) || f.EndLine < f.Line || f.EndLine == f.Line && f.EndColumn < f.Column {
				t.Fatalf("%+v of %d lines", f, len(lines))
			}
			// A syntax error may stand behind the last character.
			if f.Column < 1 || f.Column > len([]rune(lines[f.Line-1]))+1 || f.EndColumn > len([]rune(lines[f.EndLine-1]))+2 {
				t.Fatalf("%+v: line %q", f, lines[f.Line-1])
			}
		}
		for _, write := range []func(*bytes.Buffer) error{
			func(b *bytes.Buffer) error { return WriteText(b, found) },
			func(b *bytes.Buffer) error { return WriteGitHub(b, found) },
			func(b *bytes.Buffer) error { return WriteJSON(b, found) },
		} {
			var b bytes.Buffer
			if err := write(&b); err != nil || strings.Count(b.String(), "\n") != len(found) {
				t.Fatalf("%v, %d findings:\n%s", err, len(found), b.String())
			}
		}
	})
}

// BenchmarkCheck checks a workflow of 50 nodes, sound and with a mistake in each sampler.
func BenchmarkCheck(b *testing.B) {
	for name, steps := range map[string]int{"sound": 20, "broken": 0} {
		g := &workflows.Graph{}
		add := func(id, class string, inputs ...workflows.Member) {
			if err := g.Add(&workflows.Node{ID: id, Class: class, Title: class, Inputs: inputs}); err != nil {
				b.Fatal(err)
			}
		}
		link := func(key, node string, slot int) workflows.Member {
			return workflows.Member{Key: key, Value: workflows.LinkValue(workflows.Link{Node: node, Slot: slot})}
		}
		number := func(key string, n int) workflows.Member {
			return workflows.Member{Key: key, Value: workflows.IntValue(int64(n))}
		}
		text := func(key, s string) workflows.Member {
			return workflows.Member{Key: key, Value: workflows.StringValue(s)}
		}
		add("load", "Load", text("name", "base.safetensors"))
		add("0", "Empty", number("width", 512), number("height", 512))
		for i := 1; i < 24; i++ {
			prompt, id := fmt.Sprintf("p%d", i), fmt.Sprint(i)
			add(prompt, "Text", text("text", "a red house in the mountains at sunset"), link("clip", "load", 1))
			add(id, "Sample", link("model", "load", 0), link("positive", prompt, 0), link("latent", fmt.Sprint(i-1), 0),
				number("seed", i), number("steps", steps), number("cfg", 8), text("sampler", "euler"))
		}
		add("decode", "Decode", link("samples", "23", 0), link("vae", "load", 2))
		add("save", "Save", link("images", "decode", 0), text("prefix", "x"))
		data, c := workflows.Encode(g), checker(b)
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				if found := c.Check("w.json", data); (len(found) == 0) != (steps > 0) {
					b.Fatal(found)
				}
			}
		})
	}
}
