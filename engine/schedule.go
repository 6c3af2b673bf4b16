package engine

import (
	"cmp"
	"container/heap"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"
)

// run is one execution of a plan. One goroutine, that of Run, owns all of it;
// the nodes' functions run in others, or in the same when there is only one
// thing to do.
type run struct {
	runner  *Runner
	plan    *Plan
	options RunOptions
	result  *Result
	stop    context.CancelCauseFunc

	tasks   map[*Step]*task
	order   int // tasks so far
	open    int // tasks not done
	ready   [2]queue
	running int
	busy    bool // a node of this run has the device
	done    chan report

	results map[Key]*outcome // of tasks that somebody may still read
	holders map[Key]int      // tasks with that key that are not spent
	uses    map[*Step]int    // links to a step from tasks that are not done
	flying  map[Key]*task    // executing now, or waiting for its expansion
	ui      map[*Step]NodeUI
	grown   map[*Step]int // expansions so far

	failure  *NodeError
	failedAt Meta

	emitting sync.Mutex
	executed []string // guarded by emitting

	mu   sync.RWMutex // guards what DynPrompt reads from other goroutines
	made []*Step      // by expansions
	byID map[string]*Step
}

// task is a step that has to be done in this run.
type task struct {
	step    *Step
	index   int
	rank    int // 0 an output node, 1 feeds one, 2 feeds a feeder, 3 others
	queued  bool
	waits   int // links to tasks that are not done
	readers []*task
	twins   []*task // of the same key: they take over this one's results
	done    bool
	held    bool // counted in holders
	out     *outcome
	parked  []returned // results that wait for the nodes of an expansion
	awaits  []*Step    // what they wait for
	took    time.Duration
}

const lowestRank = 3

func newRun(r *Runner, p *Plan, o RunOptions) *run {
	return &run{
		runner: r, plan: p, options: o, done: make(chan report),
		result: &Result{values: map[string][][]any{}},
		tasks:  make(map[*Step]*task, len(p.Steps)), uses: make(map[*Step]int, len(p.Steps)),
		results: map[Key]*outcome{}, holders: map[Key]int{}, flying: map[Key]*task{},
		ui: map[*Step]NodeUI{}, byID: map[string]*Step{}, grown: map[*Step]int{},
	}
}

// queue is a heap of tasks that are ready, the first to start on top.
type queue []*task

func (q queue) Len() int      { return len(q) }
func (q queue) Swap(i, j int) { q[i], q[j] = q[j], q[i] }
func (q *queue) Push(t any)   { *q = append(*q, t.(*task)) }
func (q queue) Less(i, j int) bool {
	return cmp.Or(cmp.Compare(q[i].rank, q[j].rank), cmp.Compare(q[i].index, q[j].index)) < 0
}

func (q *queue) Pop() any {
	last := len(*q) - 1
	t := (*q)[last]
	*q = (*q)[:last]
	return t
}

// loop starts what is ready and takes in what is done, until nothing is left.
func (r *run) loop(ctx context.Context) {
	for _, s := range r.plan.Targets {
		r.need(s, nil)
	}
	for {
		for r.failure == nil && r.running < r.runner.parallel() {
			t := r.pick()
			if t == nil {
				break
			}
			r.begin(ctx, t)
		}
		if r.running == 0 {
			if r.failure == nil && r.open > 0 {
				r.deadlock(ctx)
			}
			return
		}
		r.take(ctx, <-r.done)
	}
}

// edge is a link on its way into the schedule.
type edge struct {
	from   *Step
	reader *task
}

// need schedules a step and what it reads: not what lies behind lazy inputs,
// and not what lies behind results that are there already. reader waits for
// the step, if there is one.
func (r *run) need(s *Step, reader *task) {
	var fresh []*task
	for todo := []edge{{s, reader}}; len(todo) > 0; {
		e := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		t, ok := r.tasks[e.from]
		if !ok || t.done && t.out == nil {
			t = r.newTask(e.from)
			if !t.done {
				fresh = append(fresh, t)
				todo = r.addLinks(t, todo)
			}
		}
		t.feeds(e.reader)
	}
	for _, t := range fresh {
		if t.waits == 0 {
			r.push(t)
		}
	}
}

func (r *run) newTask(s *Step) *task {
	t := &task{step: s, index: r.order, rank: lowestRank}
	if s.Type.IsOutput {
		t.rank = 0
	}
	r.order++
	r.tasks[s] = t
	if out, ok := r.lookup(s.Key); ok {
		t.done, t.out = true, out
		r.report(t, true)
		return t
	}
	r.open++
	r.holders[s.Key]++
	t.held = true
	return t
}

func (r *run) addLinks(t *task, todo []edge) []edge {
	s := t.step
	for i := range s.Inputs {
		if from := s.Inputs[i].From; from != nil {
			r.uses[from]++
			if !s.Type.Inputs[i].Lazy {
				todo = append(todo, edge{from, t})
			}
		}
	}
	for i := range s.Rest {
		if from := s.Rest[i].From; from != nil {
			r.uses[from]++
			todo = append(todo, edge{from, t})
		}
	}
	return todo
}

func (t *task) feeds(reader *task) {
	if reader == nil || t.done {
		return
	}
	reader.waits++
	t.readers = append(t.readers, reader)
	if !t.queued {
		t.rank = min(t.rank, reader.rank+1)
	}
}

func (r *run) lookup(key Key) (*outcome, bool) {
	if out, ok := r.results[key]; ok {
		return out, true
	}
	return r.runner.Cache.get(key)
}

func (r *run) push(t *task) {
	t.queued = true
	heap.Push(r.queueOf(t), t)
}

func (r *run) queueOf(t *task) *queue {
	if t.step.Type.Device && t.parked == nil {
		return &r.ready[1]
	}
	return &r.ready[0]
}

// pick takes the next task that may start now.
func (r *run) pick() *task {
	from := -1
	for i := range r.ready {
		if len(r.ready[i]) == 0 || i == 1 && r.busy {
			continue
		}
		if from < 0 || r.ready[i][0].before(r.ready[from][0]) {
			from = i
		}
	}
	if from < 0 {
		return nil
	}
	t := heap.Pop(&r.ready[from]).(*task)
	t.queued = false
	return t
}

func (t *task) before(u *task) bool { return queue{t, u}.Less(0, 1) }

// needLazy makes the task wait for lazy inputs.
func (r *run) needLazy(t *task, names []string) error {
	for _, name := range names {
		src := t.step.source(name)
		if src == nil || src.From == nil {
			return &InputError{Input: name, Err: errors.New("is asked for, but not linked")}
		}
		r.need(src.From, t)
	}
	if t.waits == 0 {
		r.push(t)
	}
	return nil
}

func (s *Step) source(name string) *Source {
	for i := range s.Inputs {
		if s.Inputs[i].Name == name {
			return &s.Inputs[i]
		}
	}
	return nil
}

// finish gives a task its results and wakes those that wait for them.
func (r *run) finish(t *task, out *outcome, shared bool) {
	t.done, t.out = true, out
	r.open--
	if !shared {
		out.meta = t.step.meta()
		delete(r.flying, t.step.Key)
		if !t.step.Type.Transient {
			r.runner.Cache.put(t.step.Key, out)
		}
	}
	r.results[t.step.Key] = out
	r.report(t, shared)
	for _, reader := range t.readers {
		if reader.waits--; reader.waits == 0 {
			r.push(reader)
		}
	}
	t.step.links(func(src *Source) { r.unuse(src.From) })
	r.release(t)
	for _, twin := range t.twins {
		r.finish(twin, out, true)
	}
}

// report tells of a finished task.
func (r *run) report(t *task, shared bool) {
	s, out := t.step, t.out
	if r.options.Digests && out.digests == nil {
		out = out.digested()
	}
	if len(out.ui) > 0 {
		meta := out.meta
		if !shared {
			meta = s.meta()
		}
		r.ui[s] = NodeUI{Node: s.ID, Meta: meta, UI: out.ui}
	}
	if s.target && s.parent == nil {
		r.result.values[s.ID] = out.values
	}
	if len(out.ui) > 0 && !shared || shared && s.Type.IsOutput {
		r.tell(s, Event{Kind: EventExecuted, UI: out.ui, Cached: shared})
	}
	if !shared {
		r.emitting.Lock()
		r.executed = append(r.executed, s.ID)
		r.emitting.Unlock()
	}
	r.result.Nodes = append(r.result.Nodes, NodeReport{Meta: s.meta(), Class: s.Type.Class, Key: s.Key,
		Cached: shared, Digests: out.digests, Sketches: out.sketches, Duration: t.took})
	r.tell(s, Event{Kind: EventNodeDone, Cached: shared, Key: s.Key, Digests: out.digests, Duration: t.took})
}

func (r *run) unuse(s *Step) {
	r.uses[s]--
	if t, ok := r.tasks[s]; ok {
		r.release(t)
	}
}

// release lets go of results that nobody in this run will read, so that they
// live no longer than the cache wants them.
func (r *run) release(t *task) {
	if !t.done || r.uses[t.step] > 0 || t.step.target {
		return
	}
	t.out = nil
	if !t.held {
		return
	}
	t.held = false
	if r.holders[t.step.Key]--; r.holders[t.step.Key] == 0 {
		delete(r.holders, t.step.Key)
		delete(r.results, t.step.Key)
	}
}

// deadlock fails a run in which every task waits for another: expansions made
// a cycle. It names the node whose expansion did.
func (r *run) deadlock(ctx context.Context) {
	var waiting []*task
	for _, t := range r.tasks {
		if !t.done {
			waiting = append(waiting, t)
		}
	}
	first := slices.MinFunc(waiting, func(a, b *task) int {
		return cmp.Or(-cmp.Compare(boolNumber(a.step.parent != nil), boolNumber(b.step.parent != nil)), cmp.Compare(a.index, b.index))
	})
	at := first.step
	err := fmt.Errorf("%d nodes wait for each other, among them %s (%s)", len(waiting), at.ID, at.Type.Class)
	r.fail(ctx, at, &NodeError{Kind: DependencyCycle, Err: err}, nil)
}
