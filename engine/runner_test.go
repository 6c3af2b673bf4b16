package engine

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

// trace is one run and what was told of it.
type trace struct {
	t       testing.TB
	plan    *Plan
	result  *Result
	err     error
	events  []Event
	elapsed time.Duration
}

func (ty *toys) run(t testing.TB, r *Runner, lines ...string) *trace {
	t.Helper()
	return ty.runTargets(t, r, nil, lines...)
}

func (ty *toys) runTargets(t testing.TB, r *Runner, targets []string, lines ...string) *trace {
	t.Helper()
	p, err := NewPlan(brief(t, lines...), ty.Catalog, PlanOptions{Targets: targets})
	if err != nil {
		t.Fatal(err)
	}
	return runPlan(context.Background(), t, r, p)
}

func runPlan(ctx context.Context, t testing.TB, r *Runner, p *Plan) *trace {
	tr := &trace{t: t, plan: p}
	start := time.Now()
	tr.result, tr.err = r.Run(ctx, p, RunOptions{Events: func(e Event) { tr.events = append(tr.events, e) }})
	tr.elapsed = time.Since(start)
	return tr
}

func (tr *trace) ids(kind EventKind) []string {
	var out []string
	for _, e := range tr.events {
		if e.Kind == kind {
			out = append(out, e.Node)
		}
	}
	return out
}

// ui is what a node shows, as text.
func (tr *trace) ui(node string) string {
	for _, u := range tr.result.UI {
		if u.Node == node {
			for _, values := range u.UI {
				return strings.Trim(fmt.Sprint(values), "[]")
			}
		}
	}
	return ""
}

func (tr *trace) ok() *trace {
	tr.t.Helper()
	if tr.err != nil {
		tr.t.Fatal(tr.err)
	}
	return tr
}

func (tr *trace) shows(node, want string) *trace {
	tr.t.Helper()
	if got := tr.ui(node); got != want {
		tr.t.Errorf("node %s shows %q, want %q", node, got, want)
	}
	return tr
}

func (tr *trace) ran(want ...string) *trace {
	tr.t.Helper()
	got := tr.ids(EventExecuting)
	slices.Sort(got)
	slices.Sort(want)
	if diff := cmp.Diff(want, got, cmp.Transformer("", func(s []string) []string { return append([]string{}, s...) })); diff != "" {
		tr.t.Errorf("executed (-want +got):\n%s", diff)
	}
	return tr
}

var chain = []string{"1 Src v=3", "2 Mid image=@1.0", `3 Save images=@2.0 filename_prefix="x"`}

func with(lines []string, at int, line string) []string {
	out := slices.Clone(lines)
	out[at] = line
	return out
}

// runners are the three ways of caching; every rule holds in each of them.
func runners() map[string]*Runner {
	return map[string]*Runner{
		"lru": {Cache: &Cache{}}, "classic": {Cache: &Cache{Classic: true}}, "none": {}, "one": {Cache: &Cache{}, Parallel: 1},
	}
}

func everyRunner(t *testing.T, f func(t *testing.T, ty *toys, r *Runner)) {
	for name, r := range runners() {
		t.Run(name, func(t *testing.T) { f(t, newToys(t), r) })
	}
}

func TestRunChain(t *testing.T) {
	everyRunner(t, func(t *testing.T, ty *toys, r *Runner) {
		ty.run(t, r, chain...).ok().ran("1", "2", "3").shows("3", "x:3m")
	})
}

func TestEventsInOrder(t *testing.T) {
	ty := newToys(t)
	tr := ty.run(t, &Runner{}, chain...).ok()
	var got []string
	for _, e := range tr.events {
		got = append(got, strings.TrimSpace(string(e.Kind)+" "+e.Node))
	}
	want := []string{
		"start", "cached", "executing 1", "node_done 1", "executing 2", "node_done 2",
		"executing 3", "executed 3", "node_done 3", "success",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestSecondRunIsCached(t *testing.T) {
	ty, r := newToys(t), &Runner{Cache: &Cache{}}
	ty.run(t, r, chain...).ok()
	tr := ty.run(t, r, chain...).ok().ran().shows("3", "x:3m")
	if got := tr.events[1].Nodes; !slices.Equal(got, []string{"1", "2", "3"}) {
		t.Errorf("cached: %v", got)
	}
	if got := tr.ids(EventExecuted); !slices.Equal(got, []string{"3"}) || !tr.events[2].Cached {
		t.Errorf("executed: %v", got)
	}
}

func TestIDsDoNotMatter(t *testing.T) {
	ty, r := newToys(t), &Runner{Cache: &Cache{}}
	ty.run(t, r, chain...).ok()
	ty.run(t, r, `c Save filename_prefix="x" images=@b.0`, "b Mid image=@a.0", "a Src v=3").ok().ran().shows("c", "x:3m")
}

func TestOneLiteralChanges(t *testing.T) {
	ty, r := newToys(t), &Runner{Cache: &Cache{}}
	ty.run(t, r, chain...).ok()
	ty.run(t, r, with(chain, 2, `3 Save images=@2.0 filename_prefix="y"`)...).ok().ran("3").shows("3", "y:3m")
	ty.run(t, r, with(chain, 0, "1 Src v=4")...).ok().ran("1", "2", "3").shows("3", "x:4m")
}

func TestABA(t *testing.T) {
	other := with(chain, 0, "1 Src v=4")
	for _, c := range []struct {
		name  string
		cache *Cache
		want  []string
	}{
		{"all", &Cache{}, nil},
		{"classic", &Cache{Classic: true}, []string{"1", "2", "3"}},
		{"tight", &Cache{MaxBytes: 3 * 540}, []string{"1", "2", "3"}},
		{"none", nil, []string{"1", "2", "3"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			ty, r := newToys(t), &Runner{Cache: c.cache}
			ty.run(t, r, chain...).ok()
			ty.run(t, r, other...).ok()
			ty.run(t, r, chain...).ok().ran(c.want...)
		})
	}
}

func TestCacheBudget(t *testing.T) {
	c := &Cache{MaxBytes: 2000}
	for i := range 10 {
		c.put(Key{byte(i)}, &outcome{values: [][]any{{strings.Repeat("x", 400)}}})
	}
	if c.Len() != 2 || c.Bytes() > 2000 {
		t.Errorf("%d entries, %d bytes", c.Len(), c.Bytes())
	}
	c.put(Key{99}, &outcome{values: [][]any{{strings.Repeat("x", 4000)}}})
	if _, ok := c.get(Key{99}); ok || c.Len() != 2 {
		t.Error("a result larger than the budget was kept, or others gave way to it")
	}
	c.get(Key{8})
	c.put(Key{7}, &outcome{})
	if held := c.begin([]*Step{{ID: "a", Key: Key{8}}, {ID: "b", Key: Key{9}}}); !slices.Equal(held, []string{"a"}) {
		t.Errorf("begin says that %v is held", held)
	}
	c.put(Key{6}, &outcome{values: [][]any{{strings.Repeat("x", 400)}}})
	if _, ok := c.get(Key{8}); !ok {
		t.Error("what the plan uses was dropped first")
	}
	if c.Clear(); c.Len() != 0 || c.Bytes() != 0 {
		t.Error("Clear leaves something")
	}
}

func TestEqualNodesRunOnce(t *testing.T) {
	everyRunner(t, func(t *testing.T, ty *toys, r *Runner) {
		tr := ty.run(t, r, append(chain, `4 Save images=@2.0 filename_prefix="x"`, "5 Src v=3", "6 Mid image=@5.0",
			`7 Save images=@6.0 filename_prefix="z"`)...).ok()
		tr.shows("3", "x:3m").shows("4", "x:3m").shows("7", "z:3m")
		if got := []int{ty.count("Src"), ty.count("Mid"), ty.count("Save")}; !slices.Equal(got, []int{1, 1, 2}) {
			t.Errorf("Src, Mid, Save ran %v times", got)
		}
		nodes := map[string]string{}
		for _, u := range tr.result.UI {
			nodes[u.Node] = u.Meta.Node
		}
		if nodes["3"] != nodes["4"] {
			t.Errorf("the twins name %s and %s as their origin", nodes["3"], nodes["4"])
		}
	})
}

func TestErrorNamesTheNode(t *testing.T) {
	everyRunner(t, func(t *testing.T, ty *toys, r *Runner) {
		for class, want := range map[string]string{
			"Boom": "node 2 (Boom): boom on 3", "Panic": "node 2 (Panic): panic: panic on 3",
		} {
			if r.Cache != nil {
				r.Cache.Clear()
			}
			tr := ty.run(t, r, "0 Show value=5", "1 Src v=3", "2 "+class+" image=@1.0", `3 Save images=@2.0 filename_prefix="x"`)
			e, ok := errors.AsType[*NodeError](tr.err)
			if !ok || e.Error() != want || e.Kind != ExecutionFailed || e.Real != "2" {
				t.Fatalf("%v, want %s", tr.err, want)
			}
			last := tr.events[len(tr.events)-1]
			if last.Kind != EventError || last.Node != "2" || len(last.All) != 4 || !slices.Contains(last.Nodes, "1") {
				t.Errorf("last event: %+v", last)
			}
			if diff := cmp.Diff(map[string][]any{"image": {pic("3")}}, e.Inputs); diff != "" {
				t.Error(diff)
			}
			if r.Parallel == 1 {
				tr.shows("0", "5")
			}
		}
	})
}

func TestNodeInterrupts(t *testing.T) {
	ty := newToys(t)
	tr := ty.run(t, &Runner{}, "1 Src v=3", "2 Intr image=@1.0", `3 Save images=@2.0 filename_prefix="x"`)
	e, ok := errors.AsType[*NodeError](tr.err)
	if !ok || e.Kind != Interrupted || tr.events[len(tr.events)-1].Kind != EventInterrupted {
		t.Fatalf("%v", tr.err)
	}
}

func TestOwnTimeoutIsAnError(t *testing.T) {
	ty := newToys(t)
	tr := ty.run(t, &Runner{}, "1 Timeout", "2 Show value=@1.0")
	e, ok := errors.AsType[*NodeError](tr.err)
	if !ok || e.Kind != ExecutionFailed || !strings.Contains(e.Error(), "timeout") {
		t.Fatalf("%v", tr.err)
	}
	ty.run(t, &Runner{}, chain...).ok()
}

func TestCancel(t *testing.T) {
	everyRunner(t, func(t *testing.T, ty *toys, r *Runner) {
		p, err := NewPlan(brief(t, "1 Sleep value=1 ms=20000", "2 Show value=@1.0", "3 DeviceSleep value=2 ms=20000", "4 Show value=@3.0"),
			ty.Catalog, PlanOptions{})
		if err != nil {
			t.Fatal(err)
		}
		cause := errors.New("the user had enough")
		synctest.Test(t, func(t *testing.T) {
			ctx, cancel := context.WithCancelCause(context.Background())
			time.AfterFunc(20*time.Millisecond, func() { cancel(cause) })
			tr := runPlan(ctx, t, r, p)
			e, ok := errors.AsType[*NodeError](tr.err)
			if !ok || e.Kind != Interrupted || !errors.Is(tr.err, cause) || tr.elapsed != 20*time.Millisecond {
				t.Fatalf("%v after %v", tr.err, tr.elapsed)
			}
			if tr := runPlan(ctx, t, r, p); len(tr.ids(EventExecuting)) > 0 || tr.err == nil {
				t.Errorf("a run that was stopped before it began executed %v", tr.ids(EventExecuting))
			}
		})
	})
}

func TestLazy(t *testing.T) {
	everyRunner(t, func(t *testing.T, ty *toys, r *Runner) {
		tr := ty.run(t, r, "1 Src v=1", "2 Boom image=@1.0", "3 Lazy a=@1.0 b=@2.0", "4 Show value=@3.0").ok()
		tr.ran("1", "3", "3", "4").shows("4", "1")
		if ty.count("Lazy") != 1 {
			t.Errorf("Lazy was called %d times", ty.count("Lazy"))
		}
		tr = ty.run(t, r, "1 Src v=1", "2 Src v=2", "3 Switch on=false yes=@1.0 no=@2.0", "4 Show value=@3.0").ok()
		tr.shows("4", "2")
		tr = ty.run(t, r, "2 Src v=2", "3 Switch on=true no=@2.0", "4 Show value=@3.0")
		if tr.err == nil || !strings.Contains(tr.err.Error(), "input yes: is asked for, but not linked") {
			t.Errorf("%v", tr.err)
		}
	})
}

func TestLazyPerElement(t *testing.T) {
	ty := newToys(t)
	ty.run(t, &Runner{}, "1 MkList a=4", "2 Mixed n=@1.0", "3 Src v=9", "4 Lazy a=@2.0 b=@3.0", "5 Show value=@4.0").ok().
		shows("5", "plain0 1 plain2 3")
}

func TestLists(t *testing.T) {
	for _, c := range []struct{ name, a, b, want string }{
		{"three against two", "3", "2", "0+0 1+1 2+1"},
		{"two against three", "2", "3", "0+0 1+1 1+2"},
	} {
		t.Run(c.name, func(t *testing.T) {
			ty := newToys(t)
			ty.run(t, &Runner{}, "1 MkList a="+c.a, "2 MkList a="+c.b, "3 Two a=@1.0 b=@2.0").ok().shows("3", c.want)
		})
	}
	ty := newToys(t)
	ty.run(t, &Runner{}, "1 MkList a=3", "2 Two a=@1.0 b=7").ok().shows("2", "0+7 1+7 2+7")
	ty.run(t, &Runner{}, "1 MkList a=3", "2 Two a=@1.1 b=7").ok().shows("2", "3+7")
	ty.run(t, &Runner{}, "1 MkList a=3", `2 Join a=@1.0 with="-"`).ok().shows("2", "0-1-2")
	ty.run(t, &Runner{}, "1 MkList a=3", "2 MkList a=2 b=@1.0", `3 Join a=@2.0 with="-"`).ok().shows("3", "0-1-1-2-2-3")
	ty.run(t, &Runner{}, "1 MkList a=0", `2 Join a=@1.0 with="-"`).ok().shows("2", "")
	tr := ty.run(t, &Runner{}, "1 MkList a=0", "2 MkList a=2", "3 Two a=@2.0 b=@1.0")
	if tr.err == nil || tr.err.Error() != "node 3 (Two), input b: got an empty list" {
		t.Errorf("%v", tr.err)
	}
}

func TestBlockers(t *testing.T) {
	everyRunner(t, func(t *testing.T, ty *toys, r *Runner) {
		silent := ty.run(t, r, "1 Src v=1", `2 Block image=@1.0 msg=""`, "3 Mid image=@2.0", `4 Save images=@3.0 filename_prefix="x"`).ok()
		if silent.ran("1", "2", "3", "4").shows("4", ""); ty.count("Mid")+ty.count("Save") != 0 || len(silent.ids(EventBlocked)) != 0 {
			t.Error("a blocked node was called, or told of")
		}
		loud := ty.run(t, r, "1 Src v=1", `2 Block image=@1.0 msg="no"`, "3 Mid image=@2.0", `4 Save images=@3.0 filename_prefix="x"`).ok()
		if got := loud.ids(EventBlocked); !slices.Equal(got, []string{"3"}) {
			t.Errorf("blocked: %v", got)
		}
		ty.run(t, r, "1 MkList a=3", "2 BlockOdd n=@1.0", "3 Show value=@2.0").ok().shows("3", "0 2")
		ty.run(t, r, "1 MkList a=3", "2 BlockOdd n=@1.0", `3 Join a=@2.0 with="-"`).ok().shows("3", "")
	})
}

func TestRest(t *testing.T) {
	ty := newToys(t)
	ty.run(t, &Runner{}, "1 Float value=1", "2 Float value=2.5", "3 Sum first=@1.0 a=@1.0 b=@2.0 literal=5", "4 Show value=@3.0").
		ok().shows("4", "4.5")
}

func TestVolatileAndFingerprint(t *testing.T) {
	ty, r := newToys(t), &Runner{Cache: &Cache{}}
	volatile := []string{"1 Volatile v=1", "2 Mid image=@1.0", "3 Show value=@2.0"}
	ty.run(t, r, volatile...).ok()
	ty.run(t, r, volatile...).ok().ran("1", "2", "3")

	file := []string{"0 Src v=1", `1 File name="f" link=@0.0`, "2 Show value=@1.0"}
	ty.run(t, r, file...).ok()
	if ty.asked != 1 {
		t.Errorf("the fingerprint was asked %d times", ty.asked)
	}
	ty.run(t, r, file...).ok().ran()
	ty.content = "two"
	ty.run(t, r, file...).ok().ran("1", "2").shows("2", "f two")
	ty.content = "one"
	ty.run(t, r, file...).ok().ran().shows("2", "f one")
	ty.content = ""
	ty.run(t, r, file...).ok().ran("1", "2")
	ty.run(t, r, file...).ok().ran("1", "2")
}

func TestPartialTargets(t *testing.T) {
	ty := newToys(t)
	lines := []string{"1 Show value=3", "2 Show value=@1.0", "3 Show value=@2.0", "4 Src v=1", "5 Show value=@4.0"}
	ty.runTargets(t, &Runner{}, []string{"2"}, lines...).ok().ran("1", "2").shows("2", "3")
	ty.runTargets(t, &Runner{}, []string{"2", "5"}, lines...).ok().ran("1", "2", "4", "5")
	tr := ty.runTargets(t, &Runner{}, []string{"5", "nosuch", "4"}, lines...).ok().ran("4", "5")
	if got := tr.result.Values("5"); len(got) != 1 || got[0][0] != pic("1") {
		t.Errorf("values: %v", got)
	}
	ty.runTargets(t, &Runner{}, []string{"9"}, "1 Src v=1", "2 Boom image=@1.0", "3 Lazy a=@1.0 b=@2.0", "9 Show value=@3.0", "8 Show value=@2.0").
		ok().ran("1", "3", "3", "9")
}

func TestParallel(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ty := newToys(t)
		lines := []string{"1 Sleep value=1 ms=80", "2 Sleep value=2 ms=80", "3 Sleep value=3 ms=80", "4 Show value=@1.0", "5 Show value=@2.0", "6 Show value=@3.0"}
		tr := ty.run(t, &Runner{Parallel: 3}, lines...).ok()
		if ty.most != 3 || tr.elapsed != 80*time.Millisecond {
			t.Errorf("%d at a time, %v", ty.most, tr.elapsed)
		}
		if got := len(tr.ids(EventProgress)); got != 12 {
			t.Errorf("%d progress events", got)
		}
		for i, line := range lines {
			lines[i] = strings.Replace(line, " Sleep", " DeviceSleep", 1)
		}
		ty.most = 0
		tr = ty.run(t, &Runner{Parallel: 3}, lines...).ok()
		if ty.most != 1 || tr.elapsed != 240*time.Millisecond {
			t.Errorf("%d nodes had the device at a time, %v", ty.most, tr.elapsed)
		}
	})
}

func TestDeviceIsSharedByRuns(t *testing.T) {
	ty, r := newToys(t), &Runner{Parallel: 2, Cache: &Cache{}}
	done := make(chan error)
	for i := range 3 {
		p, err := NewPlan(brief(t, fmt.Sprintf("1 DeviceSleep value=%d ms=20", i), "2 Show value=@1.0"), ty.Catalog, PlanOptions{})
		if err != nil {
			t.Fatal(err)
		}
		go func() {
			_, err := r.Run(context.Background(), p, RunOptions{})
			done <- err
		}()
	}
	for range 3 {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	if ty.most != 1 {
		t.Errorf("%d nodes had the device at a time", ty.most)
	}
}

func TestOnePlanInManyRuns(t *testing.T) {
	ty, r := newToys(t), &Runner{Cache: &Cache{MaxBytes: 3000}, Parallel: 3}
	p, err := NewPlan(brief(t, append(chain, "4 Exp image=@2.0 n=3", "5 Show value=@4.0", "6 MkList a=3", "7 Mixed n=@6.0", "8 Show value=@7.0")...),
		ty.Catalog, PlanOptions{})
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan *trace)
	for range 8 {
		go func() { done <- runPlan(context.Background(), t, r, p) }()
	}
	for range 8 {
		(<-done).ok().shows("3", "x:3m").shows("5", "3mmmm").shows("8", "plain0 1 plain2")
	}
}

// TestResultsAreLetGo: without a cache nothing stays that nobody will read.
func TestResultsAreLetGo(t *testing.T) {
	ty := newToys(t)
	p, err := NewPlan(brief(t, append(chain, "4 Exp image=@2.0 n=3", "5 Show value=@4.0", "6 Lazy a=@4.0 b=@1.0", "7 Show value=@6.0",
		"8 Mid image=@1.0", "9 Show value=@8.0")...), ty.Catalog, PlanOptions{})
	if err != nil {
		t.Fatal(err)
	}
	runner := &Runner{Parallel: 1}
	r := newRun(runner, p, RunOptions{})
	ctx, cancel := context.WithCancelCause(context.Background())
	defer cancel(nil)
	r.stop = cancel
	r.loop(ctx)
	if r.failure != nil {
		t.Fatal(r.failure)
	}
	for _, task := range r.tasks {
		if task.out != nil && !task.step.target {
			t.Errorf("the results of node %s are still held", task.step.ID)
		}
	}
	if len(r.results) != len(p.Targets) {
		t.Errorf("%d results are held, want those of %d targets", len(r.results), len(p.Targets))
	}
	if ty.count("Src") != 1 {
		t.Errorf("Src ran %d times", ty.count("Src"))
	}
}

func TestPromptReachesNodes(t *testing.T) {
	c := NewCatalog()
	type in struct {
		N      float64 `in:"n"`
		Prompt Prompt
		Extra  ExtraPNGInfo
		ID     UniqueID
	}
	var got in
	Add(c, "Look", "toys", in{}, func(_ context.Context, in in) (UI, error) { got = in; return nil, nil }).Output()
	p, err := NewPlan(brief(t, "7 Look n=3"), c, PlanOptions{})
	if err != nil {
		t.Fatal(err)
	}
	extra := ExtraPNGInfo{"workflow": []byte("{}")}
	if _, err := (&Runner{}).Run(context.Background(), p, RunOptions{Extra: extra}); err != nil {
		t.Fatal(err)
	}
	want := in{N: 3, Prompt: Prompt(`{"7":{"inputs":{"n":3.0},"class_type":"Look"}}`), Extra: extra, ID: "7"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

type named string

func (n named) Digest() string { return "digest of " + string(n) }
func (n named) Sketch() string { return "sketch of " + string(n) }

func TestDigests(t *testing.T) {
	c := NewCatalog(Socket[named]("NAMED"))
	Add(c, "Name", "toys", struct{}{}, func(context.Context, struct{}) (named, error) { return "x", nil })
	type in struct {
		N named `in:"n"`
	}
	Add(c, "Use", "toys", in{}, func(_ context.Context, in in) (int, error) { return len(in.N), nil }).Output()
	r := &Runner{Cache: &Cache{}}
	for _, cached := range []bool{false, true} {
		p, err := NewPlan(brief(t, "1 Name", "2 Use n=@1.0"), c, PlanOptions{})
		if err != nil {
			t.Fatal(err)
		}
		res, err := r.Run(context.Background(), p, RunOptions{Digests: true})
		if err != nil {
			t.Fatal(err)
		}
		last := res.Nodes[len(res.Nodes)-1]
		if last.Cached != cached || len(last.Digests) != 1 || len(last.Digests[0]) != 64 {
			t.Errorf("%+v", last)
		}
		if !cached && (res.Nodes[0].Digests[0] != "digest of x" || res.Nodes[0].Sketches[0] != "sketch of x" || last.Sketches[0] != "") {
			t.Errorf("%+v", res.Nodes[0])
		}
	}
}
