package engine

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/comfyrun/comfyrun/engine/cputest"
	"github.com/comfyrun/comfyrun/workflows"
	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"
)

var update = flag.Bool("update", false, "write what is found into testdata")

// TestPlan checks workflows with the mistakes that stand beside them.
func TestPlan(t *testing.T) {
	files, err := filepath.Glob("testdata/plan/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatal("no cases", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) {
			a, err := txtar.ParseFile(file)
			if err != nil {
				t.Fatal(err)
			}
			want := map[string]string{}
			for _, f := range a.Files {
				want[f.Name] = string(f.Data)
			}
			p, err := NewPlan(graph(t, want["workflow.json"]), newToys(t).Catalog, PlanOptions{})
			valid, text := describe(t, p, err)
			if *update {
				rewrite(t, file, a, map[string]string{"valid": valid, "error": text})
			}
			if diff := cmp.Diff(want["error"], text); diff != "" {
				t.Errorf("errors (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(want["valid"], valid); diff != "" {
				t.Errorf("valid outputs (-want +got):\n%s", diff)
			}
		})
	}
}

func rewrite(t *testing.T, file string, a *txtar.Archive, got map[string]string) {
	t.Helper()
	a.Files = slices.DeleteFunc(a.Files, func(f txtar.File) bool { return f.Name != "workflow.json" })
	for _, name := range []string{"valid", "error"} {
		if got[name] != "" {
			a.Files = append(a.Files, txtar.File{Name: name, Data: []byte(got[name])})
		}
	}
	if err := os.WriteFile(file, txtar.Format(a), 0o644); err != nil {
		t.Fatal(err)
	}
}

// describe writes the outputs that can run, and each mistake with kind,
// details, the keys of extra_info and the outputs that depend on it.
func describe(t *testing.T, p *Plan, err error) (valid, text string) {
	var ids []string
	var invalid *InvalidError
	if p != nil {
		for _, s := range p.Targets {
			ids = append(ids, s.ID)
		}
		valid = strings.Join(ids, " ") + "\n"
		invalid = p.Invalid
	}
	if err != nil && !errors.As(err, &invalid) {
		t.Fatal(err)
	}
	if invalid == nil {
		return valid, ""
	}
	var b strings.Builder
	fmt.Fprintln(&b, invalid.Kind)
	for _, e := range invalid.Errors {
		fmt.Fprintf(&b, "%v\n  %s | %s | %s | %s\n", e, e.Kind, e.Details,
			strings.Join(e.Extra.keys(), " "), strings.Join(e.Outputs, " "))
	}
	return valid, b.String()
}

func TestPlanTargets(t *testing.T) {
	c := newToys(t).Catalog
	g := brief(t, "1 Show value=1", "2 Show value=2", "3 Src v=1")
	for _, targets := range [][]string{{}, {"3"}, {"77"}} {
		_, err := NewPlan(g, c, PlanOptions{Targets: targets})
		if e, ok := errors.AsType[*InvalidError](err); !ok || e.Kind != NoOutputs {
			t.Errorf("targets %v: %v", targets, err)
		}
	}
	_, err := NewPlan(nil, c, PlanOptions{})
	if e, ok := errors.AsType[*InvalidError](err); !ok || e.Kind != NoPrompt {
		t.Errorf("no graph: %v", err)
	}
}

// TestCoercion is ComfyUI's recorded behaviour, literal by literal.
func TestCoercion(t *testing.T) {
	c := newToys(t).Catalog
	for _, k := range []struct{ input, given, want string }{
		{"opt", "5.7", "5"}, {"opt", `" 5 "`, "5"}, {"opt", "true", "1"}, {"opt", "5.0", "5"}, {"opt", `"1_0"`, "10"}, {"opt", `"+7"`, "7"},
		{"f", "1", "1.0"}, {"f", `"1e-1"`, "0.1"}, {"f", `"nan"`, "null"}, {"f", "true", "1.0"}, {"f", `" .5 "`, "0.5"},
		{"st", "5", `"5"`}, {"st", "1.0", `"1.0"`}, {"st", "true", `"True"`}, {"st", "null", `"None"`},
		{"st", `{"a": [1, "x"]}`, `"{'a': [1, 'x']}"`}, {"st", `{"__value__": ["a", 1]}`, `"['a', 1]"`},
		{"st", "9007199254740993", `"9007199254740993"`}, {"st", `{"a": "it's"}`, `"{'a': \"it's\"}"`},
		{"st", `{"__value__": ["a\n\u0000é\u200b😀\\", false, null, 1e20]}`, `"['a\\n\\x00é\\u200b😀\\\\', False, None, 1e+20]"`},
		{"bo", `"false"`, "true"}, {"bo", `""`, "false"}, {"bo", "0", "false"}, {"bo", "null", "false"}, {"bo", "0.5", "true"},
		{"bo", "{}", "false"}, {"bo", `{"__value__": [0]}`, "true"}, {"bo", "0.0", "false"},
		{"any", `{"x": 1}`, `{"x":1}`}, {"any", `{"__value__": [1, 2]}`, "[1,2]"}, {"extra", "5", "5"}, {"c", `{"__value__": "b"}`, `"b"`},
	} {
		g := brief(t, `1 Combo c="a" f=0.5 bo=true st="text"`)
		v, err := workflows.ParseValue([]byte(k.given))
		if err != nil {
			t.Fatal(err)
		}
		g.Nodes()[0].Inputs.Set(k.input, v)
		p, err := NewPlan(g, c, PlanOptions{})
		if err != nil {
			t.Errorf("%s=%s: %v", k.input, k.given, err)
			continue
		}
		if got, _ := p.Graph.Node("1").Inputs.Get(k.input); got.Raw() != k.want {
			t.Errorf("%s=%s became %s, want %s", k.input, k.given, got.Raw(), k.want)
		}
		if got, _ := g.Node("1").Inputs.Get(k.input); got != v {
			t.Errorf("%s=%s: the caller's graph was changed", k.input, k.given)
		}
	}
}

func TestSeedsAreExact(t *testing.T) {
	c := NewCatalog()
	type in struct {
		Seed uint64 `in:"seed" range:"0,0xffffffffffffffff"`
	}
	Add(c, "Seed", "x", in{}, nothing[in, UI]).Output()
	for given, want := range map[string]string{
		"18446744073709551615": "18446744073709551615", "9007199254740993": "9007199254740993", "1000000000000000.0": "1000000000000000",
		`"12345678901234567890"`: "12345678901234567890", "1e19": "10000000000000000000",
	} {
		p, err := NewPlan(brief(t, "1 Seed seed="+given), c, PlanOptions{})
		if err != nil {
			t.Error(err)
			continue
		}
		if got, _ := p.Graph.Node("1").Inputs.Get("seed"); got.Raw() != want {
			t.Errorf("%s became %s", given, got.Raw())
		}
	}
	for given, kind := range map[string]ErrorKind{"18446744073709551616": TooBig, "-1": TooSmall, "1e999": InvalidType} {
		_, err := NewPlan(brief(t, "1 Seed seed="+given), c, PlanOptions{})
		e, ok := errors.AsType[*InvalidError](err)
		if !ok || e.Errors[0].Kind != kind {
			t.Errorf("%s: %v, want %s", given, err, kind)
		}
	}
}

func TestKeys(t *testing.T) {
	ty := newToys(t)
	key := func(id string, lines ...string) Key {
		p, err := NewPlan(brief(t, lines...), ty.Catalog, PlanOptions{})
		if err != nil {
			t.Fatal(err)
		}
		s, _ := p.Step(id)
		return s.Key
	}
	same := key("3", chain...)
	if key("9", "7 Src v=3.2", "8 Mid image=@7.0", `9 Save filename_prefix="x" images=@8.0`) != same {
		t.Error("ids, the order of inputs and coercion change the key")
	}
	for name, other := range map[string]Key{
		"a literal":         key("3", with(chain, 2, `3 Save images=@2.0 filename_prefix="y"`)...),
		"a literal above":   key("3", with(chain, 0, "1 Src v=4")...),
		"another link":      key("3", with(chain, 2, `3 Save images=@1.0 filename_prefix="x"`)...),
		"the zero key":      {},
		"a node of another": key("2", chain...),
	} {
		if other == same {
			t.Errorf("%s gives the same key", name)
		}
	}
	one := []string{`1 Combo c="a" f=0 bo=0 st=""`, `2 Combo c="a" f=0 bo=0 st=""`}
	if key("1", one...) == key("2", one...) {
		t.Error("a node that sees its id shares its key with another")
	}
	first := key("1", "1 Volatile v=1", "2 Show value=@1.0")
	if again := key("1", "1 Volatile v=1", "2 Show value=@1.0"); first == again {
		t.Error("a volatile node has one key twice")
	}
}

func TestPlanPrints(t *testing.T) {
	p, err := NewPlan(brief(t, "3 Show value=@2.0", "2 Mid image=@1.0", "1 Src v=3.0"), newToys(t).Catalog, PlanOptions{})
	if err != nil {
		t.Fatal(err)
	}
	key := func(id string) string { s, _ := p.Step(id); return s.Key.String()[:8] }
	want := fmt.Sprintf("  1 Src %s v=3\n  2 Mid %s image=@1.0\n* 3 Show %s value=@2.0\n", key("1"), key("2"), key("3"))
	if diff := cmp.Diff(want, p.String()); diff != "" {
		t.Error(diff)
	}
}

// TestLongChain would overflow the stack of a recursive checker, and take
// very long with a quadratic one.
func TestLongChain(t *testing.T) {
	const n = 10000
	ty := newToys(t)
	lines := []string{"0 Src v=1"}
	for i := 1; i < n; i++ {
		lines = append(lines, fmt.Sprintf("%d Mid image=@%d.0", i, i-1))
	}
	lines = append(lines, fmt.Sprintf("end Show value=@%d.0", n-1))
	slices.Reverse(lines)
	cputest.Within(t, 30*time.Second)
	tr := ty.run(t, &Runner{Cache: &Cache{}}, lines...).ok()
	if got := len(tr.ui("end")); got != n || tr.plan.Steps[0].ID != "0" {
		t.Errorf("the end shows %d letters", got)
	}
	lines[len(lines)-1] = "0 Src v=11"
	for i := range n {
		lines = append(lines, fmt.Sprintf("out%d Show value=@%d.0", i, i))
	}
	_, err := NewPlan(brief(t, lines...), ty.Catalog, PlanOptions{})
	if e, ok := errors.AsType[*InvalidError](err); !ok || len(e.Errors) != 1 || len(e.Errors[0].Outputs) != n+1 {
		t.Errorf("one mistake above %d outputs: %v", n, err)
	}
	lines = lines[:n+1]
	lines[n] = fmt.Sprintf("0 Mid image=@%d.0", n-1)
	_, err = NewPlan(brief(t, lines...), ty.Catalog, PlanOptions{})
	if e, ok := errors.AsType[*InvalidError](err); !ok || len(e.Errors) != n || e.Errors[0].Kind != DependencyCycle {
		t.Errorf("a cycle of %d nodes: %v", n, err)
	}
}
