// Package metrics counts and measures what a server or worker does, for Prometheus.
//
// # Vocabulary
//
// Metrics is the figures of one process, in a registry of its own. All names begin with comfyrun_, units are
// seconds and bytes, and every label has a bounded set of values: node types that the catalogue lacks are
// "other", and there is no label for prompts, users or addresses. docs/metrics.md lists them all.
//
// A nil *Metrics counts nothing, so that callers need not ask whether somebody wants figures.
package metrics

import (
	"context"
	"net/http"
	"runtime/debug"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/comfyrun/comfyrun/engine/queue"
	"github.com/comfyrun/comfyrun/engine/worker"
)

// Options are where figures come from that somebody else keeps. The zero value of each leaves its figures out.
type Options struct {
	Version string
	Queue   func() queue.Stats
	Cache   func() (results int, bytes int64) // of node results
	Sockets func() int                        // websockets that are open
	Ready   func() bool
	Classes func(class string) bool // whether a node type is in the catalogue; nil: every one is "other"
	Devices []Device                // that prompts run on
}

// Device is one that prompts run on. Several of one name count together.
type Device struct {
	Name   string
	Loaded func() int64 // bytes of weights that are loaded on it; nil: not known
}

// Metrics is the figures of one process.
type Metrics struct {
	registry *prometheus.Registry
	known    func(class string) bool

	prompts      *prometheus.CounterVec
	promptTime   *prometheus.HistogramVec
	wait         prometheus.Histogram
	running      *prometheus.GaugeVec
	nodes        *prometheus.CounterVec
	nodeTime     *prometheus.HistogramVec
	requests     *prometheus.CounterVec
	requestTime  *prometheus.HistogramVec
	authFailures *prometheus.CounterVec
	refusals     prometheus.Counter
	webhooks     *prometheus.CounterVec
	inputs       *prometheus.CounterVec

	loadTime *prometheus.HistogramVec
	models   bounded // that loadTime has
	fetched  prometheus.Counter
	swaps    *prometheus.CounterVec
	stale    prometheus.Gauge
}

// New makes the figures and their registry, with those of the Go runtime and the process.
func New(o Options) *Metrics {
	m := &Metrics{registry: prometheus.NewRegistry(), known: o.Classes}
	if m.known == nil {
		m.known = func(string) bool { return false }
	}
	m.declareWork(o.Devices)
	m.declareServer()
	m.declareModels()
	m.registry.MustRegister(m.prompts, m.promptTime, m.wait, m.running, m.nodes, m.nodeTime, m.requests, m.requestTime,
		m.authFailures, m.refusals, m.webhooks, m.inputs, m.loadTime, m.fetched, m.swaps, m.stale, buildInfo(o.Version),
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	m.watch(o)
	return m
}

// seconds are bounds of buckets for work that takes from milliseconds to half an hour.
func seconds() []float64 { return []float64{.1, .5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600, 1800} }

func (m *Metrics) declareWork(devices []Device) {
	m.prompts = counters("prompts_total", "Prompts that this process executed, by how they ended: success, error, interrupted, or given_back when another process has them now.", "device", "status")
	m.promptTime = prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "comfyrun_prompt_duration_seconds",
		Help: "Time from the start of a prompt's execution to its end.", Buckets: seconds()}, []string{"device", "status"})
	m.wait = prometheus.NewHistogram(prometheus.HistogramOpts{Name: "comfyrun_prompt_wait_seconds",
		Help: "Time from the submission of a prompt to the start of its execution.", Buckets: seconds()})
	m.running = prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "comfyrun_prompts_running", Help: "Prompts that this process executes now."}, []string{"device"})
	m.nodes = counters("nodes_total", "Nodes of executed prompts: executed, or cached when the result was there.", "result")
	m.nodeTime = prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "comfyrun_node_duration_seconds",
		Help: "Time that an executed node took.", Buckets: []float64{.001, .01, .1, 1, 10, 60, 300}}, []string{"class_type"})
	for _, d := range devices {
		m.running.WithLabelValues(d.Name)
		for _, status := range []string{"success", "error", "interrupted", "given_back"} {
			m.prompts.WithLabelValues(d.Name, status)
		}
	}
}

func (m *Metrics) declareServer() {
	m.requests = counters("http_requests_total", "Requests that were answered, by route (not path), method and status.", "route", "method", "code")
	m.requestTime = prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "comfyrun_http_request_duration_seconds",
		Help: "Time to answer a request; websockets, which last, are not in it.", Buckets: []float64{.001, .005, .02, .1, .5, 2, 10, 60}}, []string{"route", "method"})
	m.authFailures = counters("auth_failures_total", "Requests without a good token: missing, unknown or throttled.", "reason")
	m.refusals = prometheus.NewCounter(prometheus.CounterOpts{Name: "comfyrun_policy_refusals_total", Help: "Prompts that the policy did not allow."})
	m.webhooks = counters("webhook_deliveries_total", "Attempts to deliver a webhook: delivered, failed (tried again) or abandoned.", "outcome")
	m.inputs = counters("remote_inputs_total", "Pictures that prompts named by URL: fetched, cached or refused.", "outcome")
}

func counters(name, help string, labels ...string) *prometheus.CounterVec {
	return prometheus.NewCounterVec(prometheus.CounterOpts{Name: "comfyrun_" + name, Help: help}, labels)
}

func buildInfo(version string) prometheus.Collector {
	revision, goVersion := "unknown", "unknown"
	if info, ok := debug.ReadBuildInfo(); ok {
		goVersion = info.GoVersion
		for _, s := range info.Settings {
			if s.Key == "vcs.revision" {
				revision = s.Value
			}
		}
	}
	return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "comfyrun_build_info", Help: "Always 1; the labels say what runs.",
		ConstLabels: prometheus.Labels{"version": version, "goversion": goVersion, "revision": revision}}, func() float64 { return 1 })
}

// Registry is what Handler answers from; others may add figures of their own.
func (m *Metrics) Registry() *prometheus.Registry { return m.registry }

// Handler answers GET /metrics.
func (m *Metrics) Handler() http.Handler {
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{Registry: m.registry, EnableOpenMetrics: true, MaxRequestsInFlight: 4})
}

// Taken is of worker.Observer.
func (m *Metrics) Taken(ctx context.Context, t worker.Taken) context.Context {
	if m != nil {
		m.running.WithLabelValues(t.Device).Inc()
		m.wait.Observe(max(0, t.Wait.Seconds()))
	}
	return ctx
}

// Finished is of worker.Observer.
func (m *Metrics) Finished(_ context.Context, f worker.Finished) {
	if m == nil {
		return
	}
	status := "error"
	switch f.State {
	case queue.Done:
		status = "success"
	case queue.Cancelled:
		status = "interrupted"
	case queue.Queued, queue.Lost:
		status = "given_back"
	}
	m.running.WithLabelValues(f.Device).Dec()
	m.prompts.WithLabelValues(f.Device, status).Inc()
	m.promptTime.WithLabelValues(f.Device, status).Observe(f.Took.Seconds())
}

// NodeDone is of worker.Observer.
func (m *Metrics) NodeDone(_ context.Context, n worker.NodeDone) {
	if m == nil {
		return
	}
	if n.Cached {
		m.nodes.WithLabelValues("cached").Inc()
		return
	}
	m.nodes.WithLabelValues("executed").Inc()
	class := n.Class
	if !m.known(class) {
		class = "other"
	}
	m.nodeTime.WithLabelValues(class).Observe(n.Duration.Seconds())
}

// Request notes an answer. The route is the pattern that took the request, "" for none; took below 0 is not measured.
func (m *Metrics) Request(route, method string, status int, took time.Duration) {
	if m == nil {
		return
	}
	if route == "" {
		route = "other"
	}
	switch method {
	case http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete, http.MethodOptions:
	default:
		method = "other"
	}
	m.requests.WithLabelValues(route, method, strconv.Itoa(status)).Inc()
	if took >= 0 {
		m.requestTime.WithLabelValues(route, method).Observe(took.Seconds())
	}
}

// AuthFailure notes a request without a good token.
func (m *Metrics) AuthFailure(reason string) {
	if m != nil {
		m.authFailures.WithLabelValues(reason).Inc()
	}
}

// Refused notes a prompt that the policy did not allow.
func (m *Metrics) Refused() {
	if m != nil {
		m.refusals.Inc()
	}
}

// Webhook notes an attempt to deliver one.
func (m *Metrics) Webhook(outcome string) {
	if m != nil {
		m.webhooks.WithLabelValues(outcome).Inc()
	}
}

// RemoteInput notes a picture that a prompt named by URL.
func (m *Metrics) RemoteInput(outcome string) {
	if m != nil {
		m.inputs.WithLabelValues(outcome).Inc()
	}
}
