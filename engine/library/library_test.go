package library

import (
	"context"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/comfyrun/comfyrun/engine"
	"github.com/comfyrun/comfyrun/workflows"
)

var update = flag.Bool("update", false, "write testdata anew")

type (
	sampler string
	file    string
	pic     string
)

type drawIn struct {
	Seed    uint64  `in:"seed" range:"0,0xffffffffffffffff" ui:"control_after_generate" doc:"Decides the noise."`
	Steps   int     `in:"steps" range:"1,100"`
	CFG     float64 `in:"cfg" range:"0,20,0.5"`
	Sampler sampler `in:"sampler_name"`
	Text    string  `in:"text" ui:"multiline"`
	Tiled   bool    `in:"tiled,optional"`
	Image   pic     `in:"image"`
}

type loadIn struct {
	Image file `in:"image" ui:"image_upload"`
}

type saveIn struct {
	Image  pic    `in:"image"`
	Prefix string `in:"prefix"`
}

type intIn struct {
	Value int64 `in:"value" range:"-5,5" ui:"control_after_generate"`
}

// toys is a catalogue of nodes that only say what they were given.
func toys(pictures ...string) func() *engine.Catalog {
	c := engine.NewCatalog(engine.Socket[pic]("IMAGE"),
		engine.Combo[sampler](engine.Choices("euler", "heun")), engine.Combo[file](engine.Choices(pictures...)))
	engine.Add(c, "Draw", "t", drawIn{Steps: 20, Sampler: "euler"}, func(context.Context, drawIn) (pic, error) { return "", nil })
	engine.Add(c, "Load", "t", loadIn{}, func(context.Context, loadIn) (pic, error) { return "", nil })
	engine.Add(c, "Int", "t", intIn{}, func(context.Context, intIn) (int64, error) { return 0, nil })
	engine.Add(c, "Save", "t", saveIn{}, func(context.Context, saveIn) (engine.UI, error) { return nil, nil }).Output()
	if err := c.Err(); err != nil {
		panic(err)
	}
	return func() *engine.Catalog { return c }
}

// graph is a workflow whose nodes have the given titles by id.
func graph(titles map[string]string) string {
	const text = `{
	"1": {"class_type": "Load", "inputs": {"image": "a.png"}},
	"2": {"class_type": "Draw", "inputs": {"seed": 5, "steps": 20, "cfg": 7.5, "sampler_name": "euler", "text": "a cat", "image": ["1", 0]}},
	"3": {"class_type": "Save", "inputs": {"image": ["2", 0], "prefix": "x"}}}`
	g, err := workflows.Parse([]byte(text))
	if err != nil {
		panic(err)
	}
	for id, title := range titles {
		g.Node(id).Title = title
	}
	return string(workflows.Encode(g))
}

func write(t *testing.T, dir, name, text string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func load(t *testing.T, workflow, sidecar string) (*Workflow, error) {
	t.Helper()
	return read("w", files{workflow: []byte(workflow), sidecar: []byte(sidecar)}, toys("a.png", "b.png")())
}

func TestParameters(t *testing.T) {
	for _, tt := range []struct {
		name    string
		titles  map[string]string
		sidecar string
		want    string // parameter:type:default:targets
		err     string
	}{
		{"no titles", nil, "", "", ""},
		{"only input", map[string]string{"1": "photo: What to start from"}, "", `photo:picture:"a.png":1.image`, ""},
		{"same name", map[string]string{"2": "steps: How many"}, "", "steps:integer:20:2.steps", ""},
		{"renamed", map[string]string{"2": "guidance=cfg: How strict"}, "", "guidance:number:7.5:2.cfg", ""},
		{"several", map[string]string{"2": "seed, cfg,prompt=text: Drawing"}, "", `seed:integer:null:2.seed cfg:number:7.5:2.cfg prompt:string:"a cat":2.text`, ""},
		{"plain titles", map[string]string{"2": "Note: steps", "3": "save:now", "1": "Load Image: x"}, "", "", ""},
		{"ambiguous", map[string]string{"2": "thing: x"}, "", "", "which input is meant? The node has cfg, sampler_name, seed, steps, text"},
		{"linked", map[string]string{"2": "image=image: x"}, "", "", "is linked: only a value can be set"},
		{"unknown input", map[string]string{"2": "x=nope: x"}, "", "", "has no input nope"},
		{"titles off", map[string]string{"2": "thing: x"}, "titles = false", "", ""},
		{"sidecar", nil, "[[param]]\nname = \"p\"\nnode = \"Draw\"\ninput = \"text\"\ndefault = \"dog\"", `p:string:"dog":2.text`, ""},
		{"sidecar adds", map[string]string{"2": "steps: x"}, "[[param]]\nname = \"steps\"\nmax = 30\ndefault = 10", "steps:integer:10:2.steps", ""},
		{"fixed seed", map[string]string{"2": "seed: x"}, "[[param]]\nname = \"seed\"\ndefault = 9", "seed:integer:9:2.seed", ""},
		{"not given input", nil, "[[param]]\nname = \"tiled\"\nnode = \"2\"\ninput = \"tiled\"", "tiled:boolean:false:2.tiled", ""},
		{"also", nil, "[[param]]\nname = \"p\"\nnode = \"2\"\ninput = \"text\"\nalso = [\"3.prefix\"]", `p:string:"a cat":2.text 3.prefix`, ""},
		{"also of another type", nil, "[[param]]\nname = \"p\"\nnode = \"2\"\ninput = \"text\"\nalso = [\"2.steps\"]", "", "is of type integer, another one of type string"},
		{"wider", map[string]string{"2": "steps: x"}, "[[param]]\nname = \"steps\"\nmax = 300", "", "max 300 is above the node's own 100"},
		{"default outside", map[string]string{"2": "steps: x"}, "[[param]]\nname = \"steps\"\nmax = 15", "", "default of parameter steps: 20 is above 15"},
		{"default of another type", map[string]string{"2": "steps: x"}, "[[param]]\nname = \"steps\"\ndefault = \"7\"", "", `"7" is not an integer from 1 to 100`},
		{"choice unknown", map[string]string{"2": "sampler_name: x"}, "[[param]]\nname = \"sampler_name\"\nchoices = [\"ddim\"]", "", `choice "ddim" is none of the node's own: euler, heun`},
		{"key unknown", nil, "[[param]]\nnmae = \"x\"", "", "line 2, column 1: unknown key"},
		{"twice", nil, "[[param]]\nname=\"p\"\nnode=\"2\"\ninput=\"text\"\n[[param]]\nname=\"p\"\nnode=\"3\"\ninput=\"prefix\"", "", "declared twice"},
		{"overlap", map[string]string{"2": "steps: x"}, "[[param]]\nname=\"p\"\nnode=\"2\"\ninput=\"steps\"", "", "parameters steps and p both set input steps of node 2"},
		{"required with default", nil, "[[param]]\nname=\"p\"\nnode=\"2\"\ninput=\"steps\"\nrequired=true\ndefault=3", "", "a required parameter has no default"},
		{"bad name", nil, "[[param]]\nname=\"P\"\nnode=\"2\"\ninput=\"steps\"", "", "a name is a lower-case letter"},
		{"no toml", nil, "[[param", "", "w.params.toml: line 1"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w, err := load(t, graph(tt.titles), tt.sidecar)
			if tt.err != "" {
				if err == nil || !strings.Contains(err.Error(), tt.err) {
					t.Fatalf("error %v, want %q", err, tt.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, describe(w)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func describe(w *Workflow) string {
	var list []string
	for _, p := range w.Params {
		var targets []string
		for _, x := range p.Targets {
			targets = append(targets, x.Node+"."+x.Input)
		}
		list = append(list, strings.Join([]string{p.Name, string(p.Type), p.Default.Raw(), strings.Join(targets, " ")}, ":"))
	}
	return strings.Join(list, " ")
}

func TestMistakesOfTheWorkflow(t *testing.T) {
	for _, tt := range []struct{ name, workflow, want string }{
		{"no JSON", "{", "w.json: "},
		{"empty drawing", `{"nodes": [], "links": []}`, "output"},
		{"unknown class", `{"1": {"class_type": "Nope", "inputs": {}}}`, "there is no node type Nope"},
		{"out of range", strings.Replace(graph(nil), `"steps": 20`, `"steps": 0`, 1), "steps"},
		{"no output", `{"1": {"class_type": "Load", "inputs": {"image": "a.png"}}}`, "output"},
		{"empty", `{}`, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if _, err := load(t, tt.workflow, ""); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error %v, want %q", err, tt.want)
			}
		})
	}
}

func TestAbsentPictureIsRequired(t *testing.T) {
	text := strings.Replace(graph(map[string]string{"1": "photo: x"}), "a.png", "gone.png", 1)
	w, err := load(t, text, "")
	if err != nil {
		t.Fatal(err)
	}
	if p, _ := w.Param("photo"); !p.Required || !p.Default.IsNull() {
		t.Errorf("photo is %+v, want it required", p)
	}
	if _, err := load(t, strings.Replace(graph(nil), "a.png", "gone.png", 1), ""); err == nil {
		t.Error("a picture that no parameter sets and that is not there checks")
	}
}

const allTitles = "seed, steps, cfg, sampler_name, prompt=text: Drawing"

func TestFill(t *testing.T) {
	w, err := load(t, graph(map[string]string{"2": allTitles, "1": "photo: x"}), "[[param]]\nname=\"tiled\"\nnode=\"2\"\ninput=\"tiled\"\n")
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct{ given, want, problem string }{
		{`{"seed": 18446744073709551615, "steps": 7.0}`, `"seed":18446744073709551615,"steps":7,"cfg":7.5`, ""},
		{`{"seed": 1e3, "cfg": 8}`, `"seed":1000,"steps":20,"cfg":8,`, ""},
		{`{"seed": 1, "steps": null}`, `"steps":20`, ""},
		{`{"seed": 1, "tiled": true}`, `"tiled":true`, ""},
		{`{"seed": 18446744073709551616}`, "", "seed invalid_input_type"},
		{`{"seed": -1}`, "", "seed value_smaller_than_min"},
		{`{"steps": 101}`, "", "steps value_bigger_than_max"},
		{`{"steps": "7"}`, "", "steps invalid_input_type"},
		{`{"steps": 7.5}`, "", "steps invalid_input_type"},
		{`{"cfg": 1e999}`, "", "cfg invalid_input_type"},
		{`{"tiled": 1}`, "", "tiled invalid_input_type"},
		{`{"prompt": 7}`, "", "prompt invalid_input_type"},
		{`{"prompt": ["1", 0]}`, "", "prompt invalid_input_type"},
		{`{"sampler_name": "ddim"}`, "", "sampler_name value_not_in_list"},
		{`{"prmpt": "x", "steps": 0}`, "", "prmpt unknown_parameter, steps value_smaller_than_min"},
	} {
		t.Run(tt.given, func(t *testing.T) {
			f, err := w.Fill(object(t, tt.given))
			if tt.problem != "" {
				if diff := cmp.Diff(tt.problem, problems(err)); diff != "" {
					t.Error(diff)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if got := workflows.ObjectValue(f.Values).Raw(); !strings.Contains(got, tt.want) {
				t.Errorf("values %s, want %s in them", got, tt.want)
			}
		})
	}
}

func object(t *testing.T, text string) workflows.Object {
	t.Helper()
	v, err := workflows.ParseValue([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	o, _ := v.Object()
	return o
}

func problems(err error) string {
	e, ok := err.(*ValuesError)
	if !ok {
		return "no ValuesError"
	}
	var list []string
	for _, p := range e.Problems {
		list = append(list, p.Param+" "+string(p.Kind))
	}
	return strings.Join(list, ", ")
}

func TestFillLeavesTheWorkflowAlone(t *testing.T) {
	w, err := load(t, graph(map[string]string{"2": allTitles}), "")
	if err != nil {
		t.Fatal(err)
	}
	before := string(workflows.Encode(w.Graph()))
	f, err := w.Fill(object(t, `{"prompt": "a dog", "seed": 3}`))
	if err != nil {
		t.Fatal(err)
	}
	if v, _ := f.Graph.Node("2").Inputs.Get("text"); v.Raw() != `"a dog"` {
		t.Errorf("text is %s", v.Raw())
	}
	if after := string(workflows.Encode(w.Graph())); after != before {
		t.Errorf("the workflow changed:\n%s", cmp.Diff(before, after))
	}
}

func TestRandomSeeds(t *testing.T) {
	w, err := load(t, graph(map[string]string{"2": "seed: x"}), "[[param]]\nname=\"seed\"\nmin=100\nmax=131\n")
	if err != nil {
		t.Fatal(err)
	}
	seen := map[int64]bool{}
	for range 400 {
		f, err := w.Fill(nil)
		if err != nil {
			t.Fatal(err)
		}
		v, _ := f.Values.Get("seed")
		n, ok := v.Int64()
		if !ok || n < 100 || n > 131 {
			t.Fatalf("seed %s is not within 100 to 131", v.Raw())
		}
		seen[n] = true
	}
	if len(seen) < 20 {
		t.Errorf("400 seeds gave %d of 32 values", len(seen))
	}
}

func TestSameTitleSetsBoth(t *testing.T) {
	text := strings.Replace(graph(map[string]string{"2": "count=steps: x"}), "{\n",
		`{"9": {"class_type": "Int", "inputs": {"value": 3}, "_meta": {"title": "count: y"}}, `, 1)
	w, err := load(t, text, "")
	if err != nil {
		t.Fatal(err)
	}
	p, _ := w.Param("count")
	if p.Min.String() != "1" || p.Max.String() != "5" || len(p.Targets) != 2 || p.Seed {
		t.Errorf("count is %+v, want the range 1 to 5 that both nodes take", p)
	}
}

func TestSchema(t *testing.T) {
	w, err := load(t, graph(map[string]string{"2": allTitles, "1": "photo: Start"}), "title=\"T\"\ndescription=\"D\"\n[[param]]\nname=\"photo\"\nrequired=true\n")
	if err != nil {
		t.Fatal(err)
	}
	got, err := json.MarshalIndent(w.Schema(), "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	if *update {
		write(t, "testdata", "schema.json", string(got)+"\n")
	}
	want, err := os.ReadFile("testdata/schema.json")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), string(got)+"\n"); diff != "" {
		t.Error(diff)
	}
}

func TestFolder(t *testing.T) {
	dir := t.TempDir()
	l := New(dir, toys("a.png"))
	scan := func() string {
		t.Helper()
		changes, err := l.Scan()
		if err != nil {
			t.Fatal(err)
		}
		var list []string
		for _, c := range changes {
			word := " ok"
			switch {
			case c.Removed:
				word = " removed"
			case c.Err != nil:
				word = " refused"
			}
			list = append(list, c.Name+word)
		}
		return strings.Join(list, ", ")
	}
	step := func(want string) {
		t.Helper()
		if got := scan(); got != want {
			t.Fatalf("scan found %q, want %q", got, want)
		}
	}
	step("")
	write(t, dir, "a.json", graph(nil))
	write(t, dir, ".b.json", "{")
	write(t, dir, "Class.node.json", "{}") // the definition of a node
	write(t, dir, "two words.json", graph(nil))
	write(t, dir, "lone.params.toml", "")
	write(t, dir, "README.md", "")
	step("a ok, lone refused, two words refused")
	step("")
	first, _ := l.Get("a")
	write(t, dir, "a.params.toml", "titel = 1")
	step("a refused")
	kept, _ := l.Get("a")
	if kept.Workflow != first.Workflow || kept.Newest == first.Newest || len(l.Problems()) != 3 {
		t.Errorf("after a sidecar that cannot be read: %+v, problems %q", kept, l.Problems())
	}
	write(t, dir, "a.params.toml", "title = 'A'")
	step("a ok")
	if now, _ := l.Get("a"); now.Workflow.Title != "A" || now.Workflow.Digest == first.Workflow.Digest {
		t.Errorf("the new version is not offered: %+v", now.Workflow)
	}
	os.Remove(filepath.Join(dir, "a.json"))
	os.Remove(filepath.Join(dir, "a.params.toml"))
	step("a removed")
	os.RemoveAll(dir)
	if _, err := l.Scan(); err == nil || l.Err() == nil || len(l.List()) != 2 {
		t.Errorf("without the folder: error %v, entries %d", err, len(l.List()))
	}
}

// A ConfigMap is mounted as links to files below "..data", which is itself a
// link that is turned in one step.
func TestConfigMapMount(t *testing.T) {
	dir := t.TempDir()
	version := func(name, text string) {
		if err := os.Mkdir(filepath.Join(dir, name), 0o700); err != nil {
			t.Fatal(err)
		}
		write(t, filepath.Join(dir, name), "a.json", text)
		link := filepath.Join(dir, "..tmp")
		if err := os.Symlink(name, link); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(link, filepath.Join(dir, "..data")); err != nil {
			t.Fatal(err)
		}
	}
	version("..2024_1", graph(nil))
	if err := os.Symlink("..data/a.json", filepath.Join(dir, "a.json")); err != nil {
		t.Fatal(err)
	}
	l := New(dir, toys("a.png"))
	if changes, err := l.Scan(); err != nil || len(changes) != 1 {
		t.Fatalf("first scan: %v, %v", changes, err)
	}
	before, _ := l.Get("a")
	version("..2024_2", graph(map[string]string{"2": "steps: x"}))
	changes, err := l.Scan()
	if err != nil || len(changes) != 1 || changes[0].Workflow.Digest == before.Workflow.Digest || len(l.List()) != 1 {
		t.Errorf("after the swap: %+v, %v", changes, err)
	}
}

func TestRecheckWhenAModelArrives(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, "a.json", graph(nil))
	catalog := toys()
	l := New(dir, func() *engine.Catalog { return catalog() })
	l.Recheck = time.Nanosecond
	if _, err := l.Scan(); err != nil {
		t.Fatal(err)
	}
	if e, _ := l.Get("a"); e.Err == nil || e.Workflow != nil {
		t.Fatalf("a workflow whose picture is not there checks: %+v", e)
	}
	catalog = toys("a.png")
	if changes, err := l.Scan(); err != nil || len(changes) != 1 || changes[0].Err != nil {
		t.Errorf("second scan: %+v, %v", changes, err)
	}
}

func TestWatch(t *testing.T) {
	dir := t.TempDir()
	ctx, stop := context.WithCancel(t.Context())
	found := make(chan string, 10)
	l := New(dir, toys("a.png"))
	done := make(chan struct{})
	go func() {
		defer close(done)
		l.Watch(ctx, time.Millisecond, func(changes []Change, err error) {
			for _, c := range changes {
				found <- c.Name
			}
		})
	}()
	write(t, dir, "a.json", graph(nil))
	select {
	case name := <-found:
		if name != "a" {
			t.Errorf("found %q", name)
		}
	case <-time.After(time.Minute):
		t.Error("nothing was found")
	}
	stop()
	<-done
}

func FuzzRead(f *testing.F) {
	f.Add(graph(map[string]string{"2": allTitles}), "title = 'x'\n[[param]]\nname='steps'\nmax=30\n", `{"steps": 5, "seed": 9}`)
	f.Add(graph(map[string]string{"2": "a=b,c: d"}), "[[param]]\nname='p'\nnode='Draw'\ninput='text'\nalso=['3.prefix']", `{"p": "x"}`)
	f.Add(`{"1": {"class_type": "Int", "inputs": {"value": 1e400}, "_meta": {"title": "x: y"}}}`, "", `{"x": 1e400}`)
	catalog := toys("a.png")()
	f.Fuzz(func(t *testing.T, workflow, sidecar, given string) {
		w, err := read("w", files{workflow: []byte(workflow), sidecar: []byte(sidecar)}, catalog)
		if err != nil {
			return
		}
		if _, err := json.Marshal(w.Schema()); err != nil {
			t.Fatalf("schema: %v", err)
		}
		v, err := workflows.ParseValue([]byte(given))
		if err != nil {
			return
		}
		o, _ := v.Object()
		filled, err := w.Fill(o)
		if err != nil {
			return
		}
		plan, err := engine.NewPlan(filled.Graph, catalog, engine.PlanOptions{})
		if err != nil {
			t.Fatalf("values that were accepted cannot be planned: %v", err)
		}
		if plan.Invalid != nil {
			for _, e := range plan.Invalid.Errors {
				t.Logf("%v", e)
			}
			t.Fatalf("values that were accepted are refused: %v", plan.Invalid)
		}
	})
}
