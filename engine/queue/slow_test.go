//go:build slow

package queue_test

import (
	"encoding/json"
	"fmt"
	"runtime"
	"testing"
	"time"

	"github.com/comfyrun/comfyrun/engine/queue"
)

// Killed ten times amid 2,000 prompts.
func TestKillTenTimes(t *testing.T) { crashes(t, 2000, 10) }

// With the lease that is the default a prompt moves within 40 s.
func TestWorkerKilledDefaultLease(t *testing.T) {
	if _, _, took := moves(t, 30*time.Second, (*process).kill); took > 40*time.Second {
		t.Errorf("the prompt moved after %v", took)
	}
}

// Memory does not grow with the number of prompts that went through.
func TestMemoryIsFlat(t *testing.T) {
	q := open(t, queue.Options{Dir: t.TempDir(), SyncInterval: time.Minute, HistoryMax: 1000})
	heap := func() int {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return int(m.HeapAlloc) >> 10
	}
	after := map[int]int{}
	for i := 1; i <= 20_000; i++ {
		submit(t, q, queue.Prompt{ID: fmt.Sprint(i), Graph: body4k, IdempotencyKey: fmt.Sprint("key", i)})
		if i%10 == 0 {
			if _, err := q.Cancel(t.Context(), fmt.Sprint(i)); err != nil {
				t.Fatal(err)
			}
			continue
		}
		if err := take(t, q).Done(t.Context(), json.RawMessage(`{}`)); err != nil {
			t.Fatal(err)
		}
		if i == 5001 || i == 10_001 || i == 19_999 {
			after[i] = heap()
		}
	}
	t.Logf("heap in KiB after so many prompts: %v", after)
	if grown := after[19_999] - after[5001]; grown > 16<<10 {
		t.Errorf("the heap grew by %d KiB over 15,000 prompts", grown)
	}
	if s := q.Stats(); s.History != 1000 || q.Depth() != 0 {
		t.Errorf("%+v", s)
	}
}
