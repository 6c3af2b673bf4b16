package web

import (
	"fmt"
	"slices"
	"testing"

	"github.com/comfyrun/comfyrun/engine"
	"github.com/comfyrun/comfyrun/engine/queue"
	"github.com/comfyrun/comfyrun/engine/worker"
	"github.com/comfyrun/comfyrun/web/webtest"
)

// A client two of whose prompts run at once is shown a node of one that still runs when it connects again.
func TestReconnectToSeveral(t *testing.T) {
	q, base := openQueue(t, queue.Options{Memory: true}), webtest.Base(t)
	catalog := webtest.Catalog(t, base)
	r := startReplica(t, q, base, catalog)
	w := &worker.Worker{Queue: q}
	for i := range 2 {
		w.Runners = append(w.Runners, &worker.Runner{Device: fmt.Sprintf("cuda:%d", i), Catalog: func() *engine.Catalog { return catalog }, Engine: &engine.Runner{}})
	}
	startWorker(t, w)
	first := listen(t, r.url, "/ws?clientId=a")
	for _, id := range []string{"1", "7"} {
		r.post(t, "a", fmt.Sprintf(`{"%s":{"class_type":"FxSleep","inputs":{"value":%s,"ms":60000}},"2":{"class_type":"FxShow","inputs":{"value":["%s",0]}}}`, id, id, id))
		first.until(t, `"executing","data":{"node":"`+id+`"`)
	}
	prompts := running(q)
	if len(prompts) != 2 {
		t.Fatalf("running are %q, want two", prompts)
	}
	for i, want := range []string{"7", "1"} {
		again := listen(t, r.url, "/ws?clientId=a")
		again.Next(t)
		if got := string(again.Next(t).Data); got != `{"type":"executing","data":{"node":"`+want+`"}}` {
			t.Errorf("%s, want node %s", got, want)
		}
		if _, err := q.Cancel(t.Context(), prompts[1-i]); err != nil {
			t.Fatal(err)
		}
		again.until(t, finished)
		if left := running(q); slices.Contains(left, prompts[1-i]) {
			t.Errorf("running are %q", left)
		}
	}
	last := listen(t, r.url, "/ws?clientId=a")
	last.Next(t)
	last.Silent(t, "last")
}

func running(q *queue.Queue) (ids []string) {
	for _, i := range q.List() {
		if i.State == queue.Running {
			ids = append(ids, i.ID)
		}
	}
	return ids
}
