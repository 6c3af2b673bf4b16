package engine

import (
	"context"
	"testing"
)

// TestWarn follows what a node has to say to the events of its run.
func TestWarn(t *testing.T) {
	Warn(t.Context(), "outside a node nobody hears it")
	everyRunner(t, func(t *testing.T, ty *toys, r *Runner) {
		type in struct {
			Value int `in:"value"`
		}
		Add(ty.Catalog, "Careful", "toys", in{}, func(ctx context.Context, in in) (int, error) {
			if in.Value > 1 {
				Warn(ctx, "more than one")
			}
			return in.Value, nil
		})
		tr := ty.run(t, r, "1 Careful value=2", "2 Show value=@1.0", "3 Careful value=1", "4 Show value=@3.0").ok()
		var told []Event
		for _, e := range tr.events {
			if e.Kind == EventWarning {
				told = append(told, e)
			}
		}
		if len(told) != 1 || told[0].Node != "1" || told[0].Class != "Careful" || told[0].Text != "more than one" {
			t.Errorf("told %+v", told)
		}
	})
}
