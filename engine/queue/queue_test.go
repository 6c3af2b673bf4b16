package queue_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/comfyrun/comfyrun/engine/queue"
	"github.com/google/go-cmp/cmp"
)

const graph = `{"9":{"class_type":"SaveImage","inputs":{"images":["8",0],"filename_prefix":"a<b"}}}`

// patience is how long something may take that is sure to happen.
const patience = time.Minute

func open(t testing.TB, o queue.Options) *queue.Queue {
	t.Helper()
	if o.Dir == "" && o.URL == "" {
		o.Memory = true
	}
	q, err := queue.Open(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := q.Close(); err != nil {
			t.Error(err)
		}
	})
	return q
}

func submit(t testing.TB, q *queue.Queue, p queue.Prompt) queue.Receipt {
	t.Helper()
	if p.Graph == nil {
		p.Graph = json.RawMessage(graph)
	}
	r, err := q.Submit(t.Context(), p)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func take(t testing.TB, q *queue.Queue) *queue.Lease {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	l, err := q.Take(ctx)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func state(t testing.TB, q *queue.Queue, id string) queue.State {
	t.Helper()
	i, err := q.Find(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	return i.State
}

func wantState(t testing.TB, q *queue.Queue, id string, want queue.State) {
	t.Helper()
	if got := state(t, q, id); got != want {
		t.Errorf("prompt %s is %s, want %s", id, got, want)
	}
}

func number(f float64) *float64 { return &f }

// both runs a test on the embedded server's files and in memory.
func both(t *testing.T, f func(t *testing.T, o queue.Options)) {
	t.Run("files", func(t *testing.T) { f(t, queue.Options{Dir: t.TempDir()}) })
	t.Run("memory", func(t *testing.T) { f(t, queue.Options{Memory: true}) })
}

func TestThrough(t *testing.T) {
	both(t, func(t *testing.T, o queue.Options) {
		q := open(t, o)
		r := submit(t, q, queue.Prompt{ClientID: "c", Owner: "o", Trace: "00-t", Extra: json.RawMessage(`{"a":1}`), Targets: []string{"9"}, Secret: json.RawMessage(`"key"`)})
		wantState(t, q, r.ID, queue.Queued)
		l := take(t, q)
		wantState(t, q, r.ID, queue.Running)
		want := queue.Prompt{ID: r.ID, ClientID: "c", Owner: "o", Trace: "00-t", Number: number(0), Graph: json.RawMessage(escaped(graph)), Extra: json.RawMessage(`{"a":1}`),
			Targets: []string{"9"}, Secret: json.RawMessage(`"key"`)}
		if d := cmp.Diff(want, l.Prompt); d != "" {
			t.Error(d)
		}
		if d := cmp.Diff(r, l.Receipt); d != "" {
			t.Error(d)
		}
		if err := l.Done(t.Context(), json.RawMessage(`{"outputs":{}}`)); err != nil {
			t.Fatal(err)
		}
		wantState(t, q, r.ID, queue.Done)
		e, ok, err := q.Entry(t.Context(), r.ID)
		if err != nil || !ok {
			t.Fatal(ok, err)
		}
		want.Secret, want.Trace = nil, ""
		if d := cmp.Diff(want, e.Prompt); d != "" {
			t.Error(d)
		}
		if string(e.Result) != `{"outputs":{}}` || e.State != queue.Done || e.Attempts != 1 || e.Finished.Before(e.Started) {
			t.Errorf("%+v", e)
		}
		if err := l.Done(t.Context(), nil); !errors.Is(err, queue.ErrRecorded) {
			t.Errorf("a second result: %v", err)
		}
		if d := q.Depth(); d != 0 {
			t.Error("depth", d)
		}
	})
}

// escaped is how encoding/json writes a graph.
func escaped(graph string) string { return strings.ReplaceAll(graph, "<", `\u003c`) }

func TestOrder(t *testing.T) {
	q := open(t, queue.Options{})
	for _, p := range []queue.Prompt{
		{ID: "c0"},                         // 0
		{ID: "five", Number: number(5)},    // 5
		{ID: "c1"},                         // 1
		{ID: "front2", Front: true},        // -2
		{ID: "half", Number: number(0.5)},  //
		{ID: "one", Number: number(1)},     // as c1, later
		{ID: "front3", Front: true},        // -3
		{ID: "huge", Number: number(-1e9)}, //
		{ID: "both", Number: number(2), Front: true},
	} {
		submit(t, q, p)
	}
	want := []string{"huge", "front3", "front2", "c0", "half", "c1", "one", "both", "five"}
	var listed, taken []string
	for i, info := range q.List() {
		listed = append(listed, info.ID)
		if info.Ahead != i || info.State != queue.Queued {
			t.Errorf("%+v, want %d ahead", info, i)
		}
	}
	if d := cmp.Diff(want, listed); d != "" {
		t.Error(d)
	}
	for range want {
		taken = append(taken, take(t, q).Prompt.ID)
	}
	if d := cmp.Diff(want, taken); d != "" {
		t.Error(d)
	}
}

func TestNumbers(t *testing.T) {
	dir := t.TempDir()
	q := open(t, queue.Options{Dir: dir})
	var got []float64
	got = append(got, submit(t, q, queue.Prompt{Front: true}).Number, submit(t, q, queue.Prompt{}).Number, q.NextNumber(),
		submit(t, q, queue.Prompt{Front: true}).Number)
	if err := take(t, q).Done(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	if err := q.Close(); err != nil {
		t.Fatal(err)
	}
	q = open(t, queue.Options{Dir: dir})
	got = append(got, submit(t, q, queue.Prompt{}).Number)
	if d := cmp.Diff([]float64{0, 1, 2, -3, 4}, got); d != "" {
		t.Error(d)
	}
}

func TestSubmitRefuses(t *testing.T) {
	nan := 0.0
	nan /= nan
	for name, tt := range map[string]struct {
		prompt queue.Prompt
		want   error
	}{
		"graph that is no JSON": {queue.Prompt{Graph: json.RawMessage(`{"a":NaN}`)}, queue.ErrInvalid},
		"number":                {queue.Prompt{Number: &nan}, queue.ErrInvalid},
		"long id":               {queue.Prompt{ID: strings.Repeat("x", 2000)}, queue.ErrInvalid},
	} {
		q := open(t, queue.Options{})
		if _, err := q.Submit(t.Context(), tt.prompt); !errors.Is(err, tt.want) {
			t.Errorf("%s: %v, want %v", name, err, tt.want)
		}
		if d := q.Depth(); d != 0 {
			t.Errorf("%s: depth %d", name, d)
		}
	}
}

// noise is text that hardly gets smaller.
func noise(n int) string {
	b, x := make([]byte, n), uint64(1)
	for i := range b {
		x = x*6364136223846793005 + 1442695040888963407
		b[i] = ' ' + byte(x>>57)%90 + 3
		if b[i] == '\\' || b[i] == '"' {
			b[i] = 'x'
		}
	}
	return string(b)
}

// A prompt that is deflated, an id of any characters.
func TestLargeAndOdd(t *testing.T) {
	both(t, func(t *testing.T, o queue.Options) {
		q := open(t, o)
		for _, id := range []string{"None", "a.b*>c d", "ümläut\n", strings.Repeat("long", 200), "_", "*"} {
			big := json.RawMessage(`"` + strings.Repeat("AbC0", 1<<15) + `"`)
			submit(t, q, queue.Prompt{ID: id, ClientID: id, Graph: big, IdempotencyKey: id})
			l := take(t, q)
			if l.Prompt.ID != id || l.Prompt.ClientID != id || string(l.Prompt.Graph) != string(big) {
				t.Errorf("id %q came back as %q, graph of %d bytes", id, l.Prompt.ID, len(l.Prompt.Graph))
			}
			if err := l.Done(t.Context(), big); err != nil {
				t.Fatal(err)
			}
			e, _, err := q.Entry(t.Context(), id)
			if err != nil || string(e.Result) != string(big) {
				t.Errorf("id %q: result of %d bytes, %v", id, len(e.Result), err)
			}
		}
	})
}

func TestBound(t *testing.T) {
	q := open(t, queue.Options{MaxQueued: 3, Dir: t.TempDir()})
	submit(t, q, queue.Prompt{})
	running := take(t, q) // counts too
	submit(t, q, queue.Prompt{ID: "b"})
	submit(t, q, queue.Prompt{ID: "c"})
	_, err := q.Submit(t.Context(), queue.Prompt{Graph: json.RawMessage(graph)})
	var full *queue.FullError
	if !errors.As(err, &full) || !errors.Is(err, queue.ErrFull) || full.Max != 3 || full.RetryAfter < time.Second {
		t.Fatalf("a fourth prompt: %v", err)
	}
	if r := submit(t, q, queue.Prompt{ID: "b"}); !r.Duplicate {
		t.Error("a full queue does not know its own prompt")
	}
	if err := running.GiveBack(t.Context()); err != nil { // must not need room
		t.Fatal(err)
	}
	if err := take(t, q).Done(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(patience); ; {
		if _, err = q.Submit(t.Context(), queue.Prompt{ID: "d"}); err == nil || time.Now().After(deadline) {
			break
		}
	}
	if err != nil {
		t.Error("no room after one has finished:", err)
	}
	if s := q.Stats(); s.Refused == 0 || s.Accepted != 4 || s.Duplicates != 1 || s.Queued != 3 {
		t.Errorf("%+v", s)
	}
}

func TestIdempotency(t *testing.T) {
	both(t, func(t *testing.T, o queue.Options) {
		q := open(t, o)
		first := submit(t, q, queue.Prompt{IdempotencyKey: "k"})
		want := first
		want.Duplicate = true
		same := func(when string) {
			t.Helper()
			if d := cmp.Diff(want, submit(t, q, queue.Prompt{IdempotencyKey: "k", Graph: json.RawMessage(`{}`)})); d != "" {
				t.Error(when, d)
			}
			if d := cmp.Diff(want, submit(t, q, queue.Prompt{ID: "another", IdempotencyKey: "k"})); d != "" {
				t.Error(when, "with another id:", d)
			}
		}
		same("queued")
		l := take(t, q)
		same("running")
		if err := l.Done(t.Context(), nil); err != nil {
			t.Fatal(err)
		}
		same("done")
		if o.Dir != "" {
			if err := q.Close(); err != nil {
				t.Fatal(err)
			}
			q = open(t, o)
			same("after a restart")
		}
		if d := q.Depth(); d != 0 {
			t.Error("depth", d)
		}
		if a, b := submit(t, q, queue.Prompt{ID: "x"}), submit(t, q, queue.Prompt{ID: "x"}); a.Duplicate || !b.Duplicate || a.Number != b.Number {
			t.Error("an id that is queued:", a, b)
		}
		if err := take(t, q).Done(t.Context(), nil); err != nil {
			t.Fatal(err)
		}
		if r := submit(t, q, queue.Prompt{ID: "x"}); r.Duplicate {
			t.Error("an id that has finished is not run again")
		}
		wantState(t, q, "x", queue.Queued)
	})
}

// Many clients repeat the same submissions at the same time.
func TestIdempotencyRace(t *testing.T) {
	q := open(t, queue.Options{})
	var clients sync.WaitGroup
	var mu sync.Mutex
	ids, fresh := map[string]bool{}, 0
	for c := range 8 {
		clients.Go(func() {
			for i := range 20 {
				r, err := q.Submit(t.Context(), queue.Prompt{ID: fmt.Sprint(c, "-", i), IdempotencyKey: fmt.Sprint(i)})
				if err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				ids[r.ID] = true
				if !r.Duplicate {
					fresh++
				}
				mu.Unlock()
			}
		})
	}
	clients.Wait()
	if len(ids) != 20 || fresh != 20 || q.Depth() != 20 {
		t.Errorf("20 keys gave %d ids, %d new, depth %d", len(ids), fresh, q.Depth())
	}
}

func TestCancel(t *testing.T) {
	both(t, func(t *testing.T, o queue.Options) {
		q := open(t, o)
		ctx := t.Context()
		cancel := func(id string, want queue.State) {
			t.Helper()
			if was, err := q.Cancel(ctx, id); err != nil || was != want {
				t.Errorf("cancel %s: it was %s, want %s; %v", id, was, want, err)
			}
		}
		cancel("nobody", queue.Unknown)
		for _, id := range []string{"a", "b", "c", "d"} {
			submit(t, q, queue.Prompt{ID: id})
		}
		cancel("b", queue.Queued)
		cancel("b", queue.Cancelled)
		wantState(t, q, "b", queue.Cancelled)

		a := take(t, q)
		go cancel("a", queue.Running)
		err := a.Run(ctx, func(ctx context.Context) (json.RawMessage, error) {
			<-ctx.Done()
			return json.RawMessage(`{"half":1}`), context.Cause(ctx)
		})
		if err != nil {
			t.Error(err)
		}
		wantState(t, q, "a", queue.Cancelled)
		cancel("a", queue.Cancelled)

		c := take(t, q)
		cancel("c", queue.Running)
		if err := c.Done(ctx, nil); err != nil { // was quicker
			t.Error(err)
		}
		wantState(t, q, "c", queue.Done)

		d := take(t, q)
		cancel("d", queue.Running)
		if err := d.GiveBack(ctx); err != nil {
			t.Error(err)
		}
		submit(t, q, queue.Prompt{ID: "e"})
		if got := take(t, q).Prompt.ID; got != "e" {
			t.Errorf("took %s, which is cancelled", got)
		}
		wantState(t, q, "d", queue.Cancelled)
		if s := q.Stats(); s.Cancelled != 3 || s.Done != 1 {
			t.Errorf("%+v", s)
		}
	})
}

func TestClear(t *testing.T) {
	q := open(t, queue.Options{})
	for _, id := range []string{"a", "b", "c"} {
		submit(t, q, queue.Prompt{ID: id})
	}
	take(t, q)
	if n, err := q.Clear(t.Context()); n != 2 || err != nil {
		t.Error(n, err)
	}
	wantState(t, q, "a", queue.Running)
	wantState(t, q, "b", queue.Cancelled)
	if d := q.Depth(); d != 1 {
		t.Error("depth", d)
	}
	page, err := q.History(t.Context(), queue.Page{})
	if err != nil || len(page) != 0 {
		t.Error("prompts that never ran are in the history:", page, err)
	}
}

func TestFail(t *testing.T) {
	q := open(t, queue.Options{})
	submit(t, q, queue.Prompt{ID: "a"})
	err := take(t, q).Run(t.Context(), func(context.Context) (json.RawMessage, error) {
		return json.RawMessage(`[1]`), errors.New("node 3: no memory")
	})
	if err != nil {
		t.Fatal(err)
	}
	e, err := q.Wait(t.Context(), "a")
	if err != nil || e.State != queue.Failed || e.Error != "node 3: no memory" || string(e.Result) != "[1]" {
		t.Errorf("%+v %v", e, err)
	}
	if _, err := q.Wait(t.Context(), "b"); !errors.Is(err, queue.ErrUnknown) {
		t.Error(err)
	}
}

// A worker that has to stop gives its prompt back, to its old place.
func TestGiveBack(t *testing.T) {
	q := open(t, queue.Options{Dir: t.TempDir()})
	submit(t, q, queue.Prompt{ID: "a"})
	submit(t, q, queue.Prompt{ID: "b"})
	for range 5 { // more often than there are attempts
		ctx, stop := context.WithCancel(t.Context())
		l := take(t, q)
		err := l.Run(ctx, func(ctx context.Context) (json.RawMessage, error) {
			stop()
			return nil, ctx.Err()
		})
		if err != nil || l.Prompt.ID != "a" || l.Attempt != 1 {
			t.Fatal(l.Prompt.ID, l.Attempt, err)
		}
		wantState(t, q, "a", queue.Queued)
	}
}

func TestHistoryPages(t *testing.T) {
	q := open(t, queue.Options{})
	for i := range 5 {
		submit(t, q, queue.Prompt{ID: fmt.Sprint(i)})
		if err := take(t, q).Done(t.Context(), nil); err != nil {
			t.Fatal(err)
		}
	}
	n := func(i int) *int { return &i }
	for _, tt := range []struct {
		most, offset *int
		want         string
	}{
		{nil, nil, "01234"}, {n(2), nil, "34"}, {n(2), n(0), "01"}, {n(0), nil, ""}, {n(-1), nil, ""}, {nil, n(0), "01234"},
		{nil, n(3), "34"}, {n(10), nil, "01234"}, {n(2), n(-1), "34"}, {n(3), n(3), "34"}, {nil, n(5), ""}, {n(2), n(9), ""},
		{nil, n(-3), "01234"},
	} {
		entries, err := q.History(t.Context(), queue.Page{MaxItems: tt.most, Offset: tt.offset})
		if err != nil {
			t.Fatal(err)
		}
		got := ""
		for _, e := range entries {
			got += e.ID
		}
		if got != tt.want {
			t.Errorf("max %s, offset %s: %q, want %q", show(tt.most), show(tt.offset), got, tt.want)
		}
	}
}

func show(i *int) string {
	if i == nil {
		return "-"
	}
	return fmt.Sprint(*i)
}

func historyIDs(t testing.TB, q *queue.Queue) (ids []string) {
	t.Helper()
	entries, err := q.History(t.Context(), queue.Page{})
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		ids = append(ids, e.ID)
	}
	return ids
}

func TestHistoryBounds(t *testing.T) {
	run := func(q *queue.Queue, n int, result string) {
		for i := range n {
			submit(t, q, queue.Prompt{ID: fmt.Sprint(i)})
			if err := take(t, q).Done(t.Context(), json.RawMessage(result)); err != nil {
				t.Fatal(err)
			}
		}
	}
	t.Run("count", func(t *testing.T) {
		dir := t.TempDir()
		q := open(t, queue.Options{Dir: dir, HistoryMax: 3})
		run(q, 60, `1`)
		want := []string{"57", "58", "59"}
		if d := cmp.Diff(want, historyIDs(t, q)); d != "" {
			t.Error(d)
		}
		wantState(t, q, "3", queue.Unknown)
		if err := q.Close(); err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(want, historyIDs(t, open(t, queue.Options{Dir: dir, HistoryMax: 3}))); d != "" {
			t.Error("after a restart", d)
		}
	})
	t.Run("bytes", func(t *testing.T) {
		q := open(t, queue.Options{HistoryBytes: 1 << 20})
		run(q, 40, `"`+noise(50_000)+`"`)
		s := q.Stats()
		if s.HistoryBytes > 1<<20 || s.HistoryBytes < 900_000 || len(historyIDs(t, q)) != s.History {
			t.Errorf("%+v", s)
		}
	})
}

func TestHistoryDelete(t *testing.T) {
	both(t, func(t *testing.T, o queue.Options) {
		q := open(t, o)
		run := func(id string) {
			submit(t, q, queue.Prompt{ID: id, IdempotencyKey: id})
			if err := take(t, q).Done(t.Context(), json.RawMessage(`1`)); err != nil {
				t.Fatal(err)
			}
		}
		want := func(when string, ids ...string) {
			t.Helper()
			if d := cmp.Diff(ids, historyIDs(t, q)); d != "" {
				t.Error(when, d)
			}
		}
		run("a")
		run("b")
		run("c")
		if err := q.DeleteHistory(t.Context(), "b", "nobody"); err != nil {
			t.Fatal(err)
		}
		want("b deleted", "a", "c")
		submit(t, q, queue.Prompt{ID: "a"}) // again: keeps its place
		want("a queued again", "a", "c")
		wantState(t, q, "a", queue.Queued)
		if err := take(t, q).Done(t.Context(), json.RawMessage(`2`)); err != nil {
			t.Fatal(err)
		}
		want("a done again", "a", "c")
		if e, _, _ := q.Entry(t.Context(), "a"); string(e.Result) != "2" {
			t.Errorf("%s", e.Result)
		}
		if o.Dir != "" {
			q.Close()
			q = open(t, o)
			want("after a restart", "a", "c")
		}
		if err := q.ClearHistory(t.Context()); err != nil {
			t.Fatal(err)
		}
		want("cleared")
		wantState(t, q, "a", queue.Unknown)
		run("d")
		want("after that", "d")
		if o.Dir != "" {
			q.Close()
			q = open(t, o)
			want("after another restart", "d")
		}
	})
}

func TestRead(t *testing.T) {
	q := open(t, queue.Options{})
	submit(t, q, queue.Prompt{ID: "a", Graph: json.RawMessage(`{"a":1}`), Secret: json.RawMessage(`1`)})
	submit(t, q, queue.Prompt{ID: "b", Graph: json.RawMessage(`{"b":1}`)})
	list := q.List()
	if err := take(t, q).Done(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(patience); ; time.Sleep(time.Millisecond) {
		prompts, err := q.Read(t.Context(), list)
		if err != nil {
			t.Fatal(err)
		}
		if string(prompts[1].Graph) != `{"b":1}` || prompts[0].ID != "a" || prompts[0].Secret != nil {
			t.Fatalf("%+v", prompts)
		}
		if prompts[0].Graph == nil {
			break // gone, as the documentation says
		}
		if time.Now().After(deadline) {
			t.Fatal("a finished prompt stays in the queue's stream")
		}
	}
}

func TestEvents(t *testing.T) {
	q := open(t, queue.Options{})
	sub := func(f queue.Filter) *queue.Subscription {
		s, err := q.Subscribe(f)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(s.Close)
		return s
	}
	mine, all, prompt := sub(queue.Filter{Client: "me"}), sub(queue.Filter{}), sub(queue.Filter{Prompt: "p"})
	for i, e := range []queue.Event{
		{Client: "me", Prompt: "p"}, {Client: "you", Prompt: "p"}, {Prompt: "other"}, {Client: "me"}, {},
	} {
		e.Kind, e.Data = fmt.Sprint(i), []byte{0, 255, byte(i)}
		if err := q.Publish(e); err != nil {
			t.Fatal(err)
		}
	}
	for _, tt := range []struct {
		name string
		from *queue.Subscription
		want string
	}{{"client", mine, "0234"}, {"all", all, "01234"}, {"prompt", prompt, "01"}} {
		var got []string
		for range tt.want {
			select {
			case e := <-tt.from.C:
				got = append(got, e.Kind)
				if len(e.Data) != 3 {
					t.Errorf("%+v", e)
				}
			case <-time.After(patience):
				t.Fatalf("%s: got %q, want %s", tt.name, got, tt.want)
			}
		}
		if tt.from != mine && strings.Join(got, "") != tt.want {
			t.Errorf("%s: got %q, want %s", tt.name, got, tt.want)
		}
		slices.Sort(got) // two subjects feed it
		if strings.Join(got, "") != tt.want {
			t.Errorf("%s: got %q, want %s", tt.name, got, tt.want)
		}
	}
	mine.Close()
	if _, open := <-mine.C; open {
		t.Error("a closed subscription delivers")
	}
}

// A client that does not read loses previews, and nothing else.
func TestSlowSubscriber(t *testing.T) {
	q := open(t, queue.Options{})
	s, err := q.Subscribe(queue.Filter{Client: "me"})
	if err != nil {
		t.Fatal(err)
	}
	const n = 1000
	for i := range 2 * n {
		if err := q.Publish(queue.Event{Client: "me", Kind: fmt.Sprint(i), Passing: i%2 == 0}); err != nil {
			t.Fatal(err)
		}
	}
	for deadline := time.Now().Add(patience); s.Dropped() == 0 && time.Now().Before(deadline); {
		time.Sleep(time.Millisecond)
	}
	kept, passing := 0, 0
	for kept < n {
		select {
		case e := <-s.C:
			if e.Passing {
				passing++
			} else if kept++; e.Kind != fmt.Sprint(2*kept-1) {
				t.Fatalf("%s comes as %d", e.Kind, kept)
			}
		case <-time.After(patience):
			t.Fatalf("%d of %d arrived", kept, n)
		}
	}
	if s.Dropped() == 0 || passing+int(s.Dropped()) != n {
		t.Errorf("%d passing events arrived, %d were dropped", passing, s.Dropped())
	}
}

func TestClose(t *testing.T) {
	dir := t.TempDir()
	q := open(t, queue.Options{Dir: dir})
	if _, err := queue.Open(t.Context(), queue.Options{Dir: dir}); err == nil || !strings.Contains(err.Error(), "another process") {
		t.Errorf("a folder is opened twice: %v", err)
	}
	submit(t, q, queue.Prompt{ID: "a"})
	l := take(t, q)
	taking := make(chan error)
	go func() {
		_, err := q.Take(t.Context())
		taking <- err
	}()
	if err := q.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-taking; !errors.Is(err, queue.ErrClosed) {
		t.Errorf("the other Take: %v", err)
	}
	if l.Err() == nil {
		t.Error("the lease is not stopped")
	}
	if _, err := q.Submit(t.Context(), queue.Prompt{}); !errors.Is(err, queue.ErrClosed) {
		t.Error(err)
	}
	q = open(t, queue.Options{Dir: dir})
	if again := take(t, q); again.Attempt != 1 || again.Prompt.ID != "a" {
		t.Errorf("attempt %d of %s", again.Attempt, again.Prompt.ID)
	}
}

func TestOptions(t *testing.T) {
	for _, o := range []queue.Options{{}, {Dir: "x", Memory: true}, {Memory: true, Name: "a.b"}, {Memory: true, MaxQueued: -1}, {Memory: true, Replicas: 3}} {
		if q, err := queue.Open(t.Context(), o); err == nil {
			q.Close()
			t.Errorf("%+v is accepted", o)
		}
	}
}

// Several workers and clients at once, with cancellations and gifts back.
func TestRace(t *testing.T) {
	q := open(t, queue.Options{})
	const clients, each = 4, 50
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var everybody sync.WaitGroup
	ids := make(chan string, clients*each)
	for c := range clients {
		everybody.Go(func() {
			for i := range each {
				r, err := q.Submit(ctx, queue.Prompt{ID: fmt.Sprintf("%d-%d", c, i), Number: number(float64(i % 7)), Graph: json.RawMessage(graph)})
				if err != nil {
					t.Error(err)
				}
				ids <- r.ID
				if i%10 == 3 {
					if _, err := q.Cancel(ctx, r.ID); err != nil {
						t.Error(err)
					}
				}
				q.Stats()
				q.List()
			}
		})
	}
	var workers sync.WaitGroup
	for w := range 3 {
		workers.Go(func() {
			for n := 0; ; n++ {
				l, err := q.Take(ctx)
				if err != nil {
					return
				}
				if n%9 == w {
					err = l.GiveBack(ctx)
				} else {
					err = l.Run(ctx, func(context.Context) (json.RawMessage, error) { return json.RawMessage(fmt.Sprint(w)), nil })
				}
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
	everybody.Wait()
	close(ids)
	for id := range ids {
		e, err := q.Wait(ctx, id)
		if err != nil || !e.State.Finished() {
			t.Fatal(id, e.State, err)
		}
	}
	stop()
	workers.Wait()
	if s := q.Stats(); s.Queued+s.Running+s.Lost != 0 || s.Done+s.Cancelled != clients*each || s.Failed != 0 {
		t.Errorf("%+v", s)
	}
}
