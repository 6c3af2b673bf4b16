package engine

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestExpansion(t *testing.T) {
	everyRunner(t, func(t *testing.T, ty *toys, r *Runner) {
		tr := ty.run(t, r, "1 Src v=1", "3 Exp image=@1.0 n=2", "4 Show value=@3.0").ok()
		tr.shows("4", "1mm").ran("1", "3", "3.0.0.1", "3.0.0.2", "4")
		i := slices.IndexFunc(tr.events, func(e Event) bool { return e.Kind == EventExecuting && e.Node == "3.0.0.2" })
		if diff := cmp.Diff(Meta{Node: "3.0.0.2", Display: "3", Parent: "3", Real: "3"}, tr.events[i].Meta); diff != "" {
			t.Error(diff)
		}
	})
}

func TestExpansionIsCached(t *testing.T) {
	ty, r := newToys(t), &Runner{Cache: &Cache{}}
	lines := []string{"1 Src v=1", "3 Exp image=@1.0 n=2", "4 Show value=@3.0"}
	ty.run(t, r, lines...).ok()
	ty.run(t, r, lines...).ok().ran().shows("4", "1mm")
	// Another node may expand to nodes that are there already.
	ty.run(t, r, "1 Src v=1", "3 Exp image=@1.0 n=3", "4 Show value=@3.0").ok().ran("3", "3.0.0.3", "4").shows("4", "1mmm")
}

func TestMixedExpansion(t *testing.T) {
	everyRunner(t, func(t *testing.T, ty *toys, r *Runner) {
		ty.run(t, r, "1 MkList a=5", "2 Mixed n=@1.0", "3 Show value=@2.0").ok().shows("3", "plain0 1 plain2 3 plain4")
	})
}

func TestOutputsInExpansionRun(t *testing.T) {
	everyRunner(t, func(t *testing.T, ty *toys, r *Runner) {
		tr := ty.run(t, r, "1 Src v=1", "2 ExpSave image=@1.0", "3 Show value=@2.0").ok()
		tr.shows("3", "1").shows("2.0.0.1", "inner:1")
	})
}

func TestExpansionRunsInParallel(t *testing.T) {
	ty := newToys(t)
	ty.run(t, &Runner{Parallel: 4}, "1 ExpSleep n=60", "2 Show value=@1.2").ok().shows("2", "3")
	if ty.most != 3 {
		t.Errorf("%d at a time", ty.most)
	}
}

func TestDynamicCycle(t *testing.T) {
	everyRunner(t, func(t *testing.T, ty *toys, r *Runner) {
		tr := ty.run(t, r, "1 Src v=1", "2 DynCycle image=@1.0", "3 Show value=@2.0")
		e, ok := errors.AsType[*NodeError](tr.err)
		if !ok || e.Kind != DependencyCycle || e.Display != "2" || e.Real != "2" {
			t.Fatalf("%v", tr.err)
		}
	})
}

func TestBadExpansions(t *testing.T) {
	ty := newToys(t)
	for n, want := range []string{
		"node 1 (ExpBad): expand: there is no node type Midd; the nearest is Mid",
		"node 1 (ExpBad): expand: node 1.0.0.1 (Mid): input image: is missing",
		"node 1 (ExpBad): expand: node 1.0.0.1 (Mid): input image: is linked to node none, which does not exist",
		"node 1 (ExpBad): expand: node 1.0.0.1 (Src): input v: got string, want int",
		"node 1 (ExpBad): expand: node 1.0.0.x exists already",
		"node 1 (ExpBad): the expansion returns an output of node none, which does not exist",
		"node 1 (ExpBad): expand: the node type Listed is not supported: toys do not do that",
	} {
		tr := ty.run(t, &Runner{}, fmt.Sprintf("1 ExpBad n=%d", n), "2 Show value=@1.0")
		if tr.err == nil || tr.err.Error() != want {
			t.Errorf("%v, want %s", tr.err, want)
		}
	}
}

func TestLoop(t *testing.T) {
	everyRunner(t, func(t *testing.T, ty *toys, r *Runner) {
		want := 255.0
		for n := 1; n <= 4; n++ {
			want /= 2
			ty.run(t, r, "1 Float value=255", fmt.Sprintf("2 LoopOpen left=%d value=@1.0", n), "3 Half value=@2.2",
				"4 LoopClose flow=@2.0 left=@2.1 value=@3.0", "5 Show value=@4.0").ok().shows("5", fmt.Sprint(want))
		}
	})
}

func TestErrorInExpansion(t *testing.T) {
	ty := newToys(t)
	tr := ty.run(t, &Runner{}, `1 Combo c="a" f=0 bo=0 st="x"`, "2 LoopOpen left=2 value=@1.0", "3 Half value=@2.2",
		"4 LoopClose flow=@2.0 left=@2.1 value=@3.0", "5 Show value=@4.0")
	if tr.err == nil || !strings.HasPrefix(tr.err.Error(), "node 3 (Half): panic: ") {
		t.Errorf("%v", tr.err)
	}
}

func TestErrorNamesTheExpandingNode(t *testing.T) {
	c := NewCatalog()
	Add(c, "Fail", "", struct{}{}, func(context.Context, struct{}) (int, error) { return 0, errors.New("no") })
	c.AddType(&NodeType{Class: "Outer", IsOutput: true, Call: func(ctx context.Context, _ *Args) (Returned, error) {
		e := NewExpand(ctx)
		return Returned{Expand: e.Return(e.Named("inner", "Fail", nil).Out(0))}, nil
	}, Outputs: []Output{{Kind: KindInt}}})
	plan, err := NewPlan(brief(t, "7 Outer"), c, PlanOptions{})
	if err != nil {
		t.Fatal(err)
	}
	_, err = (&Runner{}).Run(t.Context(), plan, RunOptions{})
	if want := "node 7 (Outer), in its node 7.0.0.inner (Fail): no"; err == nil || err.Error() != want {
		t.Errorf("%v, want %s", err, want)
	}
}

func TestTransient(t *testing.T) {
	ty, r := newToys(t), &Runner{Cache: &Cache{}}
	exp, _ := ty.Type("Exp")
	exp.Transient = true
	lines := []string{"1 Src v=1", "3 Exp image=@1.0 n=2", "4 Show value=@3.0"}
	ty.run(t, r, lines...).ok().ran("1", "3", "3.0.0.1", "3.0.0.2", "4")
	ty.run(t, r, lines...).ok().ran().shows("4", "1mm")
	// The node expands again; what it expands to is there.
	ty.run(t, r, lines[0], lines[1], "4 ExpSave image=@3.0", "5 Show value=@4.0").ok().ran("3", "4", "4.0.0.1", "5")
}
