package web

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"runtime"
	"testing"
	"time"

	"github.com/comfyrun/comfyrun/engine/queue"
)

// BenchmarkThousandClients is a prompt, from submission until its client knows
// that it has ended, with a thousand sockets open, which all get the queue's length.
func BenchmarkThousandClients(b *testing.B) {
	const clients = 1000
	c := newCluster(b, 1)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	listeners := make([]*listener, clients)
	for i := range listeners {
		listeners[i] = listen(b, c.replicas[0].url, fmt.Sprintf("/ws?clientId=c%d", i))
		listeners[i].Next(b)
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	n := 0
	for b.Loop() {
		client := n % clients
		c.submit(b, fmt.Sprintf("c%d", client), showing(n))
		listeners[client].hears(b, finished)
		for _, l := range listeners {
			l.skip()
		}
		n++
	}
	b.ReportMetric(float64(after.Sys-before.Sys)/clients/1024, "KiB/client") // both ends
}

// submit puts a workflow on the queue as POST /prompt does.
func (c *cluster) submit(t testing.TB, client, graph string) {
	t.Helper()
	r, err := c.queue.Submit(context.Background(), queue.Prompt{ClientID: client, Graph: json.RawMessage(graph)})
	if err != nil {
		t.Fatal(err)
	}
	c.replicas[0].tellStatus(r.ID)
}

// hears waits for a message that holds a text.
func (l *listener) hears(t testing.TB, text string) {
	t.Helper()
	for !bytes.Contains(l.Next(t).Data, []byte(text)) {
	}
}

// skip takes what has come.
func (l *listener) skip() {
	for {
		select {
		case <-l.Frames:
		default:
			return
		}
	}
}

// TestManyPromptsAreBearable: a thousand prompts in a row do not send three thousand status messages to everybody, and
// the last one is right.
func TestManyPromptsAreBearable(t *testing.T) {
	c := newCluster(t, 1)
	l := listen(t, c.replicas[0].url, "/ws?clientId=onlooker")
	const prompts = 1000
	began := time.Now()
	for n := range prompts {
		c.submit(t, fmt.Sprintf("c%d", n%7), showing(n))
	}
	messages := 0
	for {
		f := l.Next(t)
		messages++
		if bytes.Contains(f.Data, []byte(`"queue_remaining":0`)) && messages > 1 && c.queue.Depth() == 0 {
			break
		}
	}
	took := time.Since(began)
	if most := statusBurst + int(took.Seconds()*2*statusRate) + 10; messages > most {
		t.Errorf("%d messages in %v, want at most %d", messages, took, most)
	}
}
