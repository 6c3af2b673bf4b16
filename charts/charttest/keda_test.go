//go:build keda

package charttest

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

const (
	deployment = "comfyrun-worker"
	polling    = 5 * time.Second
	cooldown   = 20 * time.Second
	perWorker  = 2
	most       = 6
)

// TestKEDA lets KEDA's operator choose the number of the chart's workers by a backlog of real prompts in a real cluster of NATS
// servers. Pods only pretend to run: a server, and what two workers would run, are processes beside the control plane.
func TestKEDA(t *testing.T) {
	folder := controlPlane(t)
	script(t, "keda.sh", "up", folder)
	t.Cleanup(func() { script(t, "keda.sh", "down", folder) })
	c := startComfyrun(t)
	monitor := startMonitor(t, c.monitor)
	namespace(t, "scaled")
	values := []string{"upgrade", "--install", "comfyrun", chart, "-n", "scaled", "-f", chart + "/values-test.yaml", "--wait", "--timeout", "120s",
		"--set", "queue.mode=nats,outputs.url=s3://b/p,queue.nats.url=" + strings.ReplaceAll(c.nats, ",", `\,`),
		"--set", "queue.nats.monitoringEndpoint=" + c.follower() + ":" + monitor.port,
		"--set", "gpu.enabled=true,gpu.products={NVIDIA-H200},autoscaling.enabled=true,autoscaling.kind=keda,autoscaling.minReplicas=0",
		"--set", fmt.Sprintf("autoscaling.maxReplicas=%d,autoscaling.promptsPerWorker=%d,autoscaling.pollingInterval=%d,autoscaling.cooldownPeriod=%d",
			most, perWorker, int(polling.Seconds()), int(cooldown.Seconds()))}
	mustRun(t, helms[0], values...)
	s := watch(t, c)
	s.reach(0, "the chart is installed, nothing waits")
	s.backlog()
	s.outage(monitor)
	s.failover()
	s.upgrade(values)
	s.inFlight()
	s.drained()
}

// backlog queues prompts: first fewer than the most workers are for, then more.
func (s *scaling) backlog() {
	for range 4 * perWorker {
		s.post(20, 128)
	}
	s.say("%d prompts posted, %d for each worker", 4*perWorker, perWorker)
	s.reach(4, "a worker for every %d prompts", perWorker)
	if n := s.metric(); n != fmt.Sprint(4*perWorker) {
		s.Errorf("the metric is %s with %d prompts waiting", n, 4*perWorker)
	}
	within(s.T, time.Minute, "decision of the HPA for 4 workers", func() bool {
		return at(get(s.T, "scaled", "hpa", "keda-hpa-"+deployment), "status", "desiredReplicas") == 4.0
	})
	for range 10 {
		s.post(20, 128)
	}
	s.post(10000, 512) // two that run until they are interrupted
	s.post(10000, 512)
	s.say("12 more posted, the last two long ones")
	s.reach(most, "the most workers")
	nodes := strings.Fields(kubectl(s.T, "get", "pods", "-n", "scaled", "-l", "app.kubernetes.io/component=worker", "-o", "jsonpath={.items[*].spec.nodeName}"))
	if len(nodes) != most || strings.Count(strings.Join(nodes, " "), "gpu-") != most {
		s.Errorf("%d workers are on the nodes %v", most, nodes)
	}
}

// outage hides the queue from KEDA for as long as it takes to fall back: the workers stay.
func (s *scaling) outage(m *monitor) {
	s.forget()
	m.hidden.Store(true)
	s.say("KEDA cannot reach NATS")
	s.condition("Fallback", "True")
	s.say("KEDA has fallen back")
	m.hidden.Store(false)
	s.condition("Fallback", "False")
	s.say("KEDA reaches NATS again")
	s.atLeast(most, "while KEDA could not reach NATS")
}

// failover ends the NATS server that KEDA reads. It finds the next one, although the old one's name is not in its settings.
func (s *scaling) failover() {
	old := s.leader()
	s.stop[old]()
	s.say("NATS on %s ends", old)
	within(s.T, time.Minute, "other leader", func() bool { l := s.leader(); return l != "" && l != old })
	s.say("NATS on %s leads", s.leader())
	within(s.T, 2*time.Minute, "metric of 20 from the new leader", func() bool { return s.metric() == "20" })
	s.condition("Fallback", "False")
	s.say("KEDA counts 20 there")
	s.atLeast(most, "while another NATS server took over")
}

// upgrade changes the release under the autoscaler, with either Helm.
func (s *scaling) upgrade(values []string) {
	for i, helm := range []string{"helm3", "helm4"} {
		mustRun(s.T, helm, append(values, "--set", fmt.Sprintf("worker.extraArgs[0]=--threads=%d", i+1))...)
		s.say("upgraded with %s", helm)
	}
	s.atLeast(most, "during upgrades")
}

// inFlight runs all prompts but those two, which hold the workers while nothing waits.
func (s *scaling) inFlight() {
	s.forget()
	s.startWorkers(2)
	s.say("two workers take prompts")
	within(s.T, 3*time.Minute, "queue of two running prompts", func() bool { r, w := s.queue(); return r == 2 && w == 0 })
	s.say("two run, nothing waits")
	within(s.T, time.Minute, "metric of 2", func() bool { return s.metric() == "2" })
	for end := time.Now().Add(2 * (cooldown + polling)); time.Now().Before(end); time.Sleep(time.Second) {
		if r, w := s.queue(); r != 2 || w != 0 {
			s.Fatalf("%d prompts run and %d wait, not the two that were to hold the workers", r, w)
		}
	}
	s.say("the two have run for two cool-downs")
	s.atLeast(1, "while prompts were running")
}

// drained ends the two prompts: after the cool-down, and not before, there are no workers.
func (s *scaling) drained() {
	s.ask(http.MethodPost, "/interrupt", map[string]any{}, nil)
	within(s.T, time.Minute, "empty queue", func() bool { r, w := s.queue(); return r+w == 0 })
	empty := time.Now()
	s.say("interrupted, the queue is empty")
	s.reach(0, "no workers")
	if took := time.Since(empty); took < cooldown-polling {
		s.Errorf("the workers went after %v, with a cool-down of %v", took, cooldown)
	}
	if pods := kubectl(s.T, "get", "pods", "-n", "scaled", "-l", "app.kubernetes.io/component=worker", "-o", "name"); pods != "" {
		s.Errorf("there are still %s", pods)
	}
	var history map[string]struct {
		Status struct {
			Text string `json:"status_str"`
		} `json:"status"`
	}
	s.ask(http.MethodGet, "/history", nil, &history)
	ends := map[string]int{}
	for _, h := range history {
		ends[h.Status.Text]++
	}
	s.say("ends of the prompts: %v", ends)
	if ends["success"] != 18 || len(history) != 20 {
		s.Errorf("of 20 prompts %d are in the history, and 18 were to succeed: %v", len(history), ends)
	}
}

// post queues the default workflow with so many steps, of a picture of so many pixels each way.
func (s *scaling) post(steps, side int) {
	s.Helper()
	data, err := os.ReadFile("../../workflows/default.json")
	if err != nil {
		s.Fatal(err)
	}
	var workflow map[string]map[string]any
	if err := json.Unmarshal(data, &workflow); err != nil {
		s.Fatal(err)
	}
	s.posted++
	sampler, latent := workflow["3"]["inputs"].(object), workflow["5"]["inputs"].(object)
	sampler["seed"], sampler["steps"], latent["width"], latent["height"] = s.posted, steps, side, side
	s.ask(http.MethodPost, "/prompt", map[string]any{"prompt": workflow}, nil)
}

// queue counts the prompts that run and that wait.
func (s *scaling) queue() (running, waiting int) {
	s.Helper()
	var answer struct {
		Running []any `json:"queue_running"`
		Waiting []any `json:"queue_pending"`
	}
	s.ask(http.MethodGet, "/queue", nil, &answer)
	return len(answer.Running), len(answer.Waiting)
}

// ask sends a request to the server and reads its answer.
func (s *scaling) ask(method, path string, body, answer any) {
	s.Helper()
	data, err := json.Marshal(body)
	if err != nil {
		s.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(s.Context(), 30*time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, method, s.api+path, bytes.NewReader(data))
	if err != nil {
		s.Fatal(err)
	}
	request.Header.Set("Content-Type", "application/json")
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		s.Fatal(err)
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		s.Fatalf("%s %s: %s", method, path, response.Status)
	}
	if answer == nil {
		return
	}
	if err := json.NewDecoder(response.Body).Decode(answer); err != nil {
		s.Fatalf("%s %s: %v", method, path, err)
	}
}

// metric is what the HPA is told, through the API server and KEDA's adapter, "" while that is an error.
func (s *scaling) metric() string {
	s.Helper()
	name := kubectl(s.T, "get", "scaledobject", "-n", "scaled", deployment, "-o", "jsonpath={.status.externalMetricNames[0]}")
	data, err := run(s.T, "kubectl", "get", "--raw", "/apis/external.metrics.k8s.io/v1beta1/namespaces/scaled/"+name+"?labelSelector=scaledobject.keda.sh%2Fname%3D"+deployment)
	if err != nil {
		return ""
	}
	var answer object
	if err := json.Unmarshal([]byte(data), &answer); err != nil {
		s.Fatal(err)
	}
	items := list(answer, "items")
	if len(items) != 1 {
		s.Fatalf("the metric is %s", data)
	}
	return text(items[0], "value")
}

// condition waits until a condition of the ScaledObject has a state.
func (s *scaling) condition(kind, state string) {
	s.Helper()
	kubectl(s.T, "wait", "-n", "scaled", "scaledobject/"+deployment, "--for=condition="+kind+"="+state, "--timeout=180s")
}

// startWorkers starts what pods of the Deployment would run.
func (s *scaling) startWorkers(n int) {
	s.Helper()
	for i := range n {
		name := fmt.Sprintf("worker-%d", i)
		background(s.T, s.program, "worker", "--nats", s.nats, "--home", filepath.Join(s.T.TempDir(), name), "--library", library(s.T),
			"--listen", "127.0.0.1:0", "--worker-name", name, "--threads", "1", "--drain-timeout", "1s")
	}
}
