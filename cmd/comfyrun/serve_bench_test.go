package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// BenchmarkServe measures a server process from outside: how soon it is ready, what it holds when idle, how many prompts of two nodes it
// accepts from ten clients, and how many it runs.
func BenchmarkServe(b *testing.B) {
	for name, flags := range map[string][]string{"synced": nil, "memory": {"--queue-in-memory"}} {
		b.Run(name+"/accept", func(b *testing.B) { benchAccept(b, append(flags, "--no-worker", "--max-queued", "1000000")) })
		b.Run(name+"/through", func(b *testing.B) { benchThrough(b, append(flags, "--max-queued", "1000000")) })
	}
	b.Run("ready", benchReady)
}

const benchClients = 10

func benchAccept(b *testing.B, flags []string) {
	server := start(b, b.TempDir(), append([]string{"serve", "--listen", "127.0.0.1:0"}, flags...)...)
	b.ResetTimer()
	took := server.flood(b.N)
	b.StopTimer()
	slices.Sort(took)
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "prompts/s")
	b.ReportMetric(float64(took[len(took)*99/100].Microseconds())/1000, "p99-ms")
}

func benchThrough(b *testing.B, flags []string) {
	server := start(b, b.TempDir(), append([]string{"serve", "--listen", "127.0.0.1:0"}, flags...)...)
	b.ResetTimer()
	server.flood(b.N)
	server.drainQueue()
	b.StopTimer()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "prompts/s")
}

// flood submits prompts from several clients and returns how long each answer took.
func (c *child) flood(n int) []time.Duration {
	took := make([][]time.Duration, benchClients)
	var group sync.WaitGroup
	for client := range benchClients {
		group.Go(func() {
			for i := client; i < n; i += benchClients {
				body, _ := json.Marshal(map[string]any{"prompt": grey(i % (1 << 24))}) // texts and numbers
				at := time.Now()
				if _, err := tryPrompt(c.url, body); err != nil {
					c.t.Errorf("prompt %d: %v", i, err)
					return
				}
				took[client] = append(took[client], time.Since(at))
			}
		})
	}
	group.Wait()
	return slices.Concat(took...)
}

// benchReady measures from the start of the process to a good answer of /readyz, with no model to warm, and what an idle process holds. Its
// home has been used before: the demo model is there.
func benchReady(b *testing.B) {
	home := b.TempDir()
	start(b, home, "serve", "--listen", "127.0.0.1:0").stop()
	b.ResetTimer()
	var resident float64
	for range b.N {
		server := start(b, home, "serve", "--listen", "127.0.0.1:0")
		server.get("/readyz", nil)
		b.StopTimer()
		time.Sleep(200 * time.Millisecond)
		resident = max(resident, server.resident())
		server.stop()
		b.StartTimer()
	}
	b.ReportMetric(resident, "MB-idle")
}

// resident is the memory of the process in megabytes.
func (c *child) resident() float64 {
	c.t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", c.cmd.Process.Pid))
	if err != nil {
		c.t.Fatal(err)
	}
	var kb float64
	for line := range strings.Lines(string(text)) {
		if _, err := fmt.Sscanf(line, "VmRSS: %f kB", &kb); err == nil {
			return kb * 1024 / 1e6
		}
	}
	c.t.Fatal("no VmRSS")
	return 0
}

// BenchmarkServeView measures a picture's way out.
func BenchmarkServeView(b *testing.B) {
	server := start(b, b.TempDir(), "serve", "--listen", "127.0.0.1:0")
	image := server.wait(server.submit(grey(1))).Outputs["2"].Images[0]
	url := fmt.Sprintf("%s/view?filename=%s&subfolder=%s&type=%s", server.url, image.Filename, image.Subfolder, image.Type)
	for b.Loop() {
		response, err := http.Get(url)
		if err != nil {
			b.Fatal(err)
		}
		if _, err := io.Copy(io.Discard, response.Body); err != nil {
			b.Fatal(err)
		}
		response.Body.Close()
	}
}
