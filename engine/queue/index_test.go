package queue

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"
)

// Records of the three streams reach the index in any order and more than once.
func TestIndexTakesAnyOrder(t *testing.T) {
	s := submission{ID: "a", Run: "r", Number: 1}
	apply := map[string]func(x *index){
		"prompt": func(x *index) { x.applyPrompt("a", 1, s) },
		"claim":  func(x *index) { x.applyClaim("a", 1, claim{Run: "r", Owner: "other", Attempts: 1, Started: 1}) },
		"back":   func(x *index) { x.applyClaim("a", 2, claim{Run: "r"}) },
		"end":    func(x *index) { x.applyEnd("a", 1, ending{submission: s, State: Done}, 10) },
		"delete": func(x *index) { x.applyEnd("a", 2, ending{submission: s, Deleted: true}, 0) },
		"clear":  func(x *index) { x.cleared(3) },
		"again":  func(x *index) { x.applyPrompt("a", 5, submission{ID: "a", Run: "r2"}) },
	}
	for _, tt := range []struct {
		events string
		want   State
		depth  int
	}{
		{"prompt", Queued, 1},
		{"prompt claim", Running, 1},
		{"claim prompt", Running, 1},
		{"claim prompt claim prompt", Running, 1},
		{"prompt claim back", Queued, 1},
		{"prompt back claim", Queued, 1},
		{"prompt claim end", Done, 0},
		{"end prompt claim", Done, 0},
		{"claim end prompt end", Done, 0},
		{"prompt end delete prompt end claim", Unknown, 0},
		{"prompt claim end clear end prompt", Unknown, 0},
		{"prompt claim end again", Queued, 1},
		{"again end prompt claim", Queued, 1},
		{"prompt end again delete", Queued, 1},
	} {
		x := newIndex(Options{URL: "there"}.withDefaults(), "me")
		for _, event := range strings.Fields(tt.events) {
			apply[event](x)
		}
		if got := x.state(x.items["a"]); got != tt.want || len(x.active) != tt.depth {
			t.Errorf("%s: %s and depth %d, want %s and %d", tt.events, got, len(x.active), tt.want, tt.depth)
		}
		if tt.want == Unknown && len(x.items) != 0 && x.items["a"].claim.Run != "" {
			t.Errorf("%s: the index keeps %+v", tt.events, x.items["a"])
		}
	}
}

// A process may die after it recorded a result and before it removed the
// prompt; it may also be that the index missed something.
func TestAudit(t *testing.T) {
	dir, ctx := t.TempDir(), t.Context()
	q, err := Open(ctx, Options{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	for i := range 3 {
		if _, err := q.Submit(ctx, Prompt{ID: fmt.Sprint(i), Secret: json.RawMessage(`1`)}); err != nil {
			t.Fatal(err)
		}
	}
	l, err := q.Take(ctx)
	if err != nil {
		t.Fatal(err)
	}
	// As Done does, without what comes after.
	_, _, err = q.store(ctx, write{subject: q.subject(historySubject, "0"), meta: ending{submission: l.sub, State: Done, Attempts: 1}})
	if err != nil {
		t.Fatal(err)
	}
	q.stop(ErrClosed) // so that nothing is given back
	q.behind.Wait()
	q.conn.Close()
	if err := q.embedded.close(); err != nil {
		t.Fatal(err)
	}

	if q, err = Open(ctx, Options{Dir: dir}); err != nil {
		t.Fatal(err)
	}
	defer q.Close()
	sizes := func(prompts, claims uint64) {
		t.Helper()
		p, err := q.prompts.Info(ctx)
		if err != nil {
			t.Fatal(err)
		}
		c, err := q.claims.Info(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if p.State.Msgs != prompts || c.State.Msgs != claims || q.Depth() != int(prompts) {
			t.Errorf("%d prompts and %d claims are stored, want %d and %d; the index has %d", p.State.Msgs, c.State.Msgs, prompts, claims, q.Depth())
		}
	}
	sizes(2, 0)
	if i, err := q.Find(ctx, "0"); i.State != Done || err != nil {
		t.Error(i.State, err)
	}

	// A prompt that has been removed although nobody knows of a result.
	if err := q.prompts.Purge(ctx); err != nil {
		t.Fatal(err)
	}
	q.mu.Lock()
	for it := range q.active {
		it.sub.Created = time.Now().Add(-time.Minute).UnixMilli()
	}
	q.mu.Unlock()
	if err := q.audit(ctx); err != nil {
		t.Fatal(err)
	}
	sizes(0, 0)
	wait, cancel := context.WithTimeout(ctx, 50*time.Millisecond)
	defer cancel()
	if l, err := q.Take(wait); err == nil {
		t.Errorf("took %s, which is not there", l.Prompt.ID)
	}
}
