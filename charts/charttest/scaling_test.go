//go:build keda

package charttest

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// comfyrun is a server without a worker, and the cluster of NATS servers that has its queue.
type comfyrun struct {
	*testing.T
	program string
	api     string            // its URL
	nats    string            // their URLs
	monitor string            // port of their monitoring
	stop    map[string]func() // ends the NATS server of a host
}

// hosts have one NATS server each, on the same ports: that is how KEDA looks for the others.
var hosts = []string{"127.0.0.1", "127.0.0.2", "127.0.0.3"}

func startComfyrun(t *testing.T) comfyrun {
	t.Helper()
	c := comfyrun{T: t, program: program(t), monitor: freePort(t), stop: map[string]func(){}}
	c.startNATS()
	api := "127.0.0.1:" + freePort(t)
	c.api = "http://" + api
	background(t, c.program, "serve", "--no-worker", "--nats", c.nats, "--queue-replicas", "3", "--listen", api, "--home", t.TempDir(), "--library", library(t))
	eventually(t, "server", func() bool { return answers(c.api + "/healthz") })
	return c
}

func (c *comfyrun) startNATS() {
	c.Helper()
	tool := absolute(c.T, tools+"/nats-server")
	port, peers := freePort(c.T), freePort(c.T)
	var urls, routes []string
	for _, host := range hosts {
		urls, routes = append(urls, "nats://"+host+":"+port), append(routes, "nats://"+host+":"+peers)
	}
	c.nats = strings.Join(urls, ",")
	for i, host := range hosts {
		c.stop[host] = background(c.T, tool, "--name", "nats-"+host, "--addr", host, "--port", port, "--http_port", c.monitor, "--jetstream",
			"--store_dir", c.TempDir(), "--cluster_name", "nats", "--cluster", routes[i], "--routes", strings.Join(routes, ","))
	}
	for _, host := range hosts {
		eventually(c.T, "NATS server on "+host, func() bool { return answers("http://" + host + ":" + c.monitor + "/healthz") })
	}
}

// follower returns the host of a NATS server that does not lead the consumer that KEDA counts with.
func (c *comfyrun) follower() (host string) {
	c.Helper()
	eventually(c.T, "leader of the consumer", func() bool { return c.leader() != "" })
	return hosts[(slices.Index(hosts, c.leader())+1)%len(hosts)]
}

// leader returns the host of the server that leads that consumer, "" while there is none.
func (c *comfyrun) leader() string {
	for _, host := range hosts {
		response, err := http.Get("http://" + host + ":" + c.monitor + "/jsz?acc=$G&consumers=true")
		if err != nil {
			continue // it has been stopped
		}
		var answer object
		err = json.NewDecoder(response.Body).Decode(&answer)
		response.Body.Close()
		if err != nil {
			continue
		}
		if leader := leaderOf(answer); leader != "" {
			return leader
		}
	}
	return ""
}

// leaderOf reads the leader out of what NATS's monitoring tells.
func leaderOf(answer object) string {
	for _, account := range list(answer, "account_details") {
		for _, stream := range list(account, "stream_detail") {
			for _, consumer := range list(stream, "consumer_detail") {
				if text(consumer, "name") == "workers" {
					return strings.TrimPrefix(text(consumer, "cluster", "leader"), "nats-")
				}
			}
		}
	}
	return ""
}

// freePort returns a port that is free on every host.
func freePort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "0.0.0.0:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return fmt.Sprint(l.Addr().(*net.TCPAddr).Port)
}

func answers(url string) bool {
	response, err := http.Get(url)
	if err != nil {
		return false
	}
	response.Body.Close()
	return response.StatusCode == http.StatusOK
}

func library(t *testing.T) string {
	t.Helper()
	return absolute(t, "../../lib")
}

// background runs a program until it is stopped or the test ends. What it said is shown if the test has failed.
func background(t *testing.T, name string, args ...string) (stop func()) {
	t.Helper()
	output, err := os.Create(filepath.Join(t.TempDir(), "output"))
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(name, args...)
	cmd.Stdout, cmd.Stderr = output, output
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	stop = sync.OnceFunc(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		_ = cmd.Wait()
	})
	t.Cleanup(func() {
		stop()
		output.Close()
		if said, _ := os.ReadFile(output.Name()); t.Failed() {
			t.Logf("%s %s:\n%s", filepath.Base(name), args[0], said[max(0, len(said)-4000):])
		}
	})
	return stop
}

// monitor stands between KEDA and the monitoring of the NATS servers; hidden, it cuts every connection.
type monitor struct {
	port   string
	hidden atomic.Bool
}

func startMonitor(t *testing.T, target string) *monitor {
	t.Helper()
	m := &monitor{port: freePort(t)}
	for _, host := range hosts {
		l, err := net.Listen("tcp", host+":"+m.port)
		if err != nil {
			t.Fatal(err)
		}
		server := &http.Server{Handler: m.pass(host + ":" + target)}
		done := make(chan struct{})
		go func() { defer close(done); _ = server.Serve(l) }()
		t.Cleanup(func() { server.Close(); <-done })
	}
	return m
}

func (m *monitor) pass(target string) http.Handler {
	proxy := httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: target})
	proxy.ErrorLog = log.New(io.Discard, "", 0)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if m.hidden.Load() {
			panic(http.ErrAbortHandler)
		}
		proxy.ServeHTTP(w, r)
	})
}

// scaling follows the number of workers and logs every change of it.
type scaling struct {
	comfyrun
	began  time.Time
	posted int

	mu            sync.Mutex
	wanted, ready int
	fewest        int // wanted since forget
}

// watch follows the Deployment until the test ends.
func watch(t *testing.T, c comfyrun) *scaling {
	t.Helper()
	s := &scaling{comfyrun: c, began: time.Now(), wanted: -1, ready: -1}
	cmd := exec.Command("kubectl", "get", "deployment", deployment, "-n", "scaled", "--watch", "-o", `jsonpath={.spec.replicas} {.status.readyReplicas}{"\n"}`)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for lines := bufio.NewScanner(out); lines.Scan(); {
			s.note(lines.Text())
		}
	}()
	t.Cleanup(func() { _ = cmd.Process.Kill(); <-done; _ = cmd.Wait() })
	return s
}

// note takes in a line of the watch.
func (s *scaling) note(line string) {
	var numbers [2]int
	for i, word := range strings.Fields(line) { // the status has no number for none
		numbers[i], _ = strconv.Atoi(word)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if numbers[0] != s.wanted {
		s.Logf("%6.1f s    workers wanted: %d", time.Since(s.began).Seconds(), numbers[0])
	}
	s.wanted, s.ready, s.fewest = numbers[0], numbers[1], min(s.fewest, numbers[0])
}

// say logs an event with its time and what there is at that time.
func (s *scaling) say(format string, args ...any) {
	s.Helper()
	running, waiting := s.queue()
	wanted, ready := s.now()
	s.Logf("%6.1f s  %-46s %2d wait, %d run; %d workers wanted, %d ready", time.Since(s.began).Seconds(), fmt.Sprintf(format, args...), waiting, running, wanted, ready)
}

func (s *scaling) now() (wanted, ready int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.wanted, s.ready
}

// reach waits until so many workers are wanted and ready.
func (s *scaling) reach(n int, format string, args ...any) {
	s.Helper()
	within(s.T, 3*time.Minute, fmt.Sprintf("number of %d workers", n), func() bool { w, r := s.now(); return w == n && r == n })
	s.say(format, args...)
}

// forget begins a new stretch for atLeast.
func (s *scaling) forget() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fewest = s.wanted
}

// atLeast checks that since forget there was no time with fewer workers.
func (s *scaling) atLeast(n int, when string) {
	s.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.fewest < n {
		s.Errorf("%d workers %s, want %d", s.fewest, when, n)
	}
}
