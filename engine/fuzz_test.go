package engine

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/comfyrun/comfyrun/workflows"
	"github.com/rogpeppe/go-internal/txtar"
)

// FuzzPlan checks that no workflow makes planning panic, that every mistake
// can be shown as JSON, and that a plan holds each node after its sources.
func FuzzPlan(f *testing.F) {
	files, _ := filepath.Glob("testdata/plan/*.txtar")
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(txtar.Parse(data).Files[0].Data)
	}
	c := newToys(f).Catalog
	f.Fuzz(func(t *testing.T, data []byte) {
		g, err := workflows.Parse(data)
		if err != nil {
			return
		}
		p, err := NewPlan(g, c, PlanOptions{})
		if e, ok := errors.AsType[*InvalidError](err); ok {
			marshals(t, e)
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		if p.Invalid != nil {
			marshals(t, p.Invalid)
		}
		ordered(t, p)
	})
}

func marshals(t *testing.T, e *InvalidError) {
	for _, n := range e.Errors {
		if _, err := json.Marshal(n.Extra); err != nil {
			t.Errorf("%v: %v", n, err)
		}
	}
}

func ordered(t *testing.T, p *Plan) {
	at := map[*Step]int{}
	for i, s := range p.Steps {
		at[s] = i
	}
	for i, target := range p.Targets {
		target.ancestors(-i-1, func(s *Step) {
			s.links(func(src *Source) {
				if at[src.From] >= at[s] {
					t.Errorf("%s comes before %s, which it reads", s.ID, src.From.ID)
				}
			})
			if s.Key == (Key{}) {
				t.Errorf("%s has no key", s.ID)
			}
		})
	}
}
