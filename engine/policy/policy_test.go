package policy

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/comfyrun/comfyrun/engine"
	"github.com/comfyrun/comfyrun/workflows"
)

type (
	latent  struct{ w, h int }
	picture struct{ w, h int }
	ckpt    string
	emptyIn struct {
		Width  int `in:"width" range:"16,16384"`
		Height int `in:"height" range:"16,16384"`
		Batch  int `in:"batch_size" range:"1,4096"`
	}
	sampleIn struct {
		Latent latent `in:"latent"`
		Steps  int    `in:"steps" range:"1,10000"`
	}
	upIn struct {
		Latent latent `in:"latent"`
	}
	saveIn struct {
		Image picture `in:"image"`
	}
	loadIn struct {
		Name  ckpt   `in:"ckpt_name"`
		After latent `in:"after,optional"`
	}
	intIn struct {
		Value int `in:"value"`
	}
)

// catalogue is a small one, in which "Double" makes a picture of twice the size and "Number" gives an integer.
func catalogue(t *testing.T) *engine.Catalog {
	t.Helper()
	c := engine.NewCatalog(engine.Socket[latent]("LATENT"), engine.Socket[picture]("IMAGE"),
		engine.Combo[ckpt](engine.Choices("good.safetensors", "bad.safetensors")))
	engine.Add(c, "Empty", "x", emptyIn{512, 512, 1}, func(_ context.Context, in emptyIn) (latent, error) { return latent{in.Width, in.Height}, nil })
	engine.Add(c, "Sample", "x", sampleIn{Steps: 20}, func(_ context.Context, in sampleIn) (latent, error) { return in.Latent, nil })
	engine.Add(c, "Double", "x", upIn{}, func(_ context.Context, in upIn) (picture, error) {
		return picture{2 * in.Latent.w, 2 * in.Latent.h}, nil
	})
	engine.Add(c, "Load", "x", loadIn{}, func(_ context.Context, in loadIn) (latent, error) { return latent{8, 8}, nil })
	engine.Add(c, "Number", "x", intIn{}, func(_ context.Context, in intIn) (int, error) { return in.Value, nil })
	engine.Add(c, "Save", "x", saveIn{}, func(context.Context, saveIn) (engine.UI, error) { return nil, nil }).Output()
	if err := c.Err(); err != nil {
		t.Fatal(err)
	}
	return c
}

func plan(t *testing.T, c *engine.Catalog, text string) *engine.Plan {
	t.Helper()
	g, err := workflows.Parse([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	p, err := engine.NewPlan(g, c, engine.PlanOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func parse(t *testing.T, text string) *Policy {
	t.Helper()
	p, err := Parse([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

const flow = `{
 "1": {"class_type": "Empty", "inputs": {"width": 2048, "height": 2048, "batch_size": 4}},
 "2": {"class_type": "Sample", "inputs": {"latent": ["1", 0], "steps": 30}},
 "3": {"class_type": "Load", "inputs": {"ckpt_name": "bad.safetensors", "after": ["2", 0]}},
 "4": {"class_type": "Double", "inputs": {"latent": ["3", 0]}},
 "5": {"class_type": "Save", "inputs": {"image": ["4", 0]}}
}`

func TestCheck(t *testing.T) {
	for _, tt := range []struct {
		name, policy string
		want         []string // node, input, details
	}{
		{"zero", ``, nil},
		{"just enough", "[limits]\nmegapixels = 4\nsteps = 30\nbatch = 4\nnodes = 5", nil},
		{"pixels", "[limits]\nmegapixels = 3.9", []string{"1 width: 2048 x 2048 are 4.00 megapixels, allowed are 3.9"}},
		{"steps and batch", "[limits]\nsteps = 29\nbatch = 3", []string{
			"1 batch_size: 4 pictures at a time, allowed are 3", "2 steps: 30 steps, allowed are 29"}},
		{"denied class", "[nodes]\ndeny = [\"Sam*\"]", []string{"2 : node type Sample is denied (by Sam*)"}},
		{"allowed classes", "[nodes]\nallow = [\"*m*\", \"Lo?d\", \"Save\"]", []string{"4 : node type Double is not allowed; allowed: *m*, Lo?d, Save"}},
		{"model", "[models]\nallow = [\"checkpoints/good*\"]", []string{"3 ckpt_name: model checkpoints/bad.safetensors is not allowed; allowed: checkpoints/good*"}},
		{"denied model", "[models]\ndeny = [\"*/bad*\"]", []string{"3 ckpt_name: model checkpoints/bad.safetensors is denied (by */bad*)"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			err := parse(t, tt.policy).Check(plan(t, catalogue(t), flow))
			var r *Refusal
			var got []string
			if errors.As(err, &r) {
				for _, e := range r.Nodes.Errors {
					got = append(got, e.Node+" "+e.Input+": "+e.Details)
					if e.Kind != Violation || !cmp.Equal(e.Outputs, []string{"5"}) {
						t.Errorf("kind %s, outputs %v", e.Kind, e.Outputs)
					}
				}
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
		})
	}
}

func TestWhole(t *testing.T) {
	p := parse(t, "[limits]\nnodes = 4\nprompt_bytes = 10\n[tokens.\"*\"]\nqueued = 2\n[tokens.ci]\nqueued = 9")
	err := p.Check(plan(t, catalogue(t), flow))
	if want := "policy: the workflow has 5 nodes, allowed are 4"; err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
	if p.CheckSize(10) != nil || p.CheckSize(11) == nil {
		t.Error("10 bytes are allowed, 11 are not")
	}
	if p.Queued("ci") != 9 || p.Queued("x") != 2 || (*Policy)(nil).Queued("x") != 0 {
		t.Error("quotas are mixed up")
	}
	var none *Policy
	if none.Check(nil) != nil || none.CheckSize(1<<40) != nil {
		t.Error("no policy allows everything")
	}
}

func TestRefusedPolicies(t *testing.T) {
	for text, want := range map[string]string{
		"[limit]\nsteps = 3":         "unknown keys",
		"[limits]\nsteps = -1":       "limits.steps is -1",
		"[limits]\nmegapixels = nan": "limits.megapixels is NaN",
		"[nodes]\ndeny = [\"\"]":     "empty pattern",
		"[tokens.a]\nqueued = -2":    "tokens.a.queued is -2",
		"[nodes":                     "parse policy",
	} {
		if _, err := Parse([]byte(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
	}
	path := filepath.Join(t.TempDir(), "p.toml")
	if err := os.WriteFile(path, []byte("[limits]\nsteps = 5"), 0o600); err != nil {
		t.Fatal(err)
	}
	if p, err := Load(path); err != nil || p.Limits.Steps != 5 {
		t.Errorf("load: %v, %v", p, err)
	}
	if _, err := Load(path + "x"); err == nil {
		t.Error("a missing file loads")
	}
}

// What comes over a link, and how large pictures get, is seen while running.
func TestGuard(t *testing.T) {
	size := func(v any) (int, int, bool) {
		p, ok := v.(picture)
		return p.w, p.h, ok
	}
	run := func(policy, text string) error {
		c := catalogue(t)
		p := parse(t, policy)
		p.Guard(c, size)
		plan := plan(t, c, text)
		if err := p.Check(plan); err != nil {
			t.Fatalf("the plan shows it already: %v", err)
		}
		_, err := (&engine.Runner{}).Run(t.Context(), plan, engine.RunOptions{})
		return err
	}
	const linked = `{"0": {"class_type": "Number", "inputs": {"value": 4096}},
 "1": {"class_type": "Empty", "inputs": {"width": ["0", 0], "height": 1024, "batch_size": 1}},
 "4": {"class_type": "Double", "inputs": {"latent": ["1", 0]}},
 "5": {"class_type": "Save", "inputs": {"image": ["4", 0]}}}`
	for policy, want := range map[string]string{
		"[limits]\nmegapixels = 16": "",
		"[limits]\nmegapixels = 3":  "node 1 (Empty), input width: not allowed by the server's policy: 4096 x 1024 are 4.00 megapixels, allowed are 3",
		"[limits]\nmegapixels = 15": "node 4 (Double): not allowed by the server's policy: output 0 is 8192 x 2048, 16.00 megapixels, allowed are 15",
	} {
		got := ""
		if err := run(policy, linked); err != nil {
			got = err.Error()
		}
		if got != want {
			t.Errorf("%q: %q, want %q", policy, got, want)
		}
	}
}

func TestMatch(t *testing.T) {
	for _, tt := range []struct {
		pattern, name string
		want          bool
	}{
		{"*", "", true}, {"", "", true}, {"", "a", false}, {"a*c", "abcbc", true}, {"a*c", "ab", false},
		{"*/x?", "a/b/xy", true}, {"?", "", false}, {"**a", "ba", true}, {"A", "a", false},
	} {
		if got := Match(tt.pattern, tt.name); got != tt.want {
			t.Errorf("Match(%q, %q) = %v", tt.pattern, tt.name, got)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add("[limits]\nsteps = 3\n[nodes]\nallow = [\"*\"]", "KSampler")
	f.Add("[tokens.\"*\"]\nqueued = 1", "*")
	f.Fuzz(func(t *testing.T, text, name string) {
		p, err := Parse([]byte(text))
		if err != nil {
			return
		}
		if p.Queued(name) < 0 || p.Limits.Steps < 0 || !(p.Limits.Megapixels >= 0) {
			t.Errorf("accepted a negative bound: %+v", p)
		}
		if len(p.Nodes.Allow) == 0 && len(p.Nodes.Deny) == 0 && p.Nodes.refuses(name) != "" {
			t.Errorf("refuses %q without a rule", name)
		}
	})
}
