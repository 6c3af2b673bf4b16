//go:build slow

package queue_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/comfyrun/comfyrun/engine/queue"
	"github.com/nats-io/nats-server/v2/server"
)

// cluster starts three NATS servers that keep three replicas.
func cluster(t *testing.T) (servers []*server.Server, urls string) {
	var routes []*url.URL
	var ports []int
	for range 3 {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		ports = append(ports, l.Addr().(*net.TCPAddr).Port)
		routes = append(routes, &url.URL{Scheme: "nats", Host: l.Addr().String()})
		l.Close()
	}
	var clients []string
	for i, port := range ports {
		s, err := server.NewServer(&server.Options{ServerName: fmt.Sprint("n", i), Host: "127.0.0.1", Port: -1, JetStream: true,
			StoreDir: t.TempDir(), NoSigs: true, NoLog: true, JetStreamMaxStore: 16 << 30, Routes: routes,
			Cluster: server.ClusterOpts{Name: "test", Host: "127.0.0.1", Port: port}})
		if err != nil {
			t.Fatal(err)
		}
		s.Start()
		servers = append(servers, s)
		t.Cleanup(func() { s.Shutdown(); s.WaitForShutdown() })
	}
	for _, s := range servers {
		if !s.ReadyForConnections(30 * time.Second) {
			t.Fatal("a server of the cluster does not start")
		}
		clients = append(clients, s.ClientURL())
	}
	for deadline := time.Now().Add(60 * time.Second); !current(servers); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the cluster finds no leader")
		}
	}
	return servers, strings.Join(clients, ",")
}

func current(servers []*server.Server) bool {
	for _, s := range servers {
		if !s.JetStreamIsCurrent() {
			return false
		}
	}
	return true
}

// leader returns the server that leads the prompts' stream.
func leader(t *testing.T, servers []*server.Server) *server.Server {
	t.Helper()
	for _, s := range servers {
		if s.JetStreamIsStreamLeader("$G", "COMFYRUN_PROMPTS") {
			return s
		}
	}
	t.Fatal("the stream has no leader")
	return nil
}

// The leading server of three goes away amid the work: every prompt is accepted once and has one result.
func TestClusterLosesAServer(t *testing.T) {
	servers, urls := cluster(t)
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	o := queue.Options{URL: urls, Replicas: 3}
	web, workers := open(t, o), []*queue.Queue{open(t, o), open(t, o)}
	var mu sync.Mutex
	results := map[string]string{}
	var working sync.WaitGroup
	for w, q := range workers {
		working.Go(func() {
			for n := 0; ; n++ {
				l, err := q.Take(ctx)
				if ctx.Err() != nil {
					return
				}
				if err != nil {
					t.Error(err)
					continue
				}
				result := fmt.Sprintf("%d%04d", w+1, n)
				if err := l.Done(ctx, json.RawMessage(result)); err != nil {
					t.Logf("prompt %s on worker %d: %v", l.Prompt.ID, w, err)
					continue
				}
				mu.Lock()
				if before, ok := results[l.Prompt.ID]; ok {
					t.Errorf("prompt %s has the results %s and %s", l.Prompt.ID, before, result)
				}
				results[l.Prompt.ID] = result
				mu.Unlock()
			}
		})
	}
	const n = 300
	var longest time.Duration
	for i := range n {
		if i == n/3 {
			leader(t, servers).Shutdown()
		}
		began := time.Now()
		submit(t, web, queue.Prompt{ID: fmt.Sprint(i), IdempotencyKey: fmt.Sprint(i)})
		longest = max(longest, time.Since(began))
	}
	for i := range n {
		wait, cancel := context.WithTimeout(ctx, 60*time.Second)
		e, err := web.Wait(wait, fmt.Sprint(i))
		cancel()
		if err != nil || e.State != queue.Done {
			t.Fatalf("prompt %d: %s %v", i, e.State, err)
		}
		mu.Lock()
		if told, ok := results[e.ID]; ok && told != string(e.Result) {
			t.Errorf("prompt %s was told to have the result %s, the history has %s", e.ID, told, e.Result)
		}
		mu.Unlock()
	}
	t.Logf("the longest submission took %v", longest)
	stop()
	working.Wait()
}
