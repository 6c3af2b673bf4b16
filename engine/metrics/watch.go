package metrics

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/comfyrun/comfyrun/engine/queue"
)

// watch registers the figures that are asked for at each scrape.
func (m *Metrics) watch(o Options) {
	if o.Queue != nil {
		m.registry.MustRegister(newQueueFigures(o.Queue))
	}
	if o.Cache != nil {
		m.gauge("cache_results", "Node results that are kept in memory.", func() float64 { n, _ := o.Cache(); return float64(n) })
		m.gauge("cache_bytes", "Size of the node results that are kept in memory.", func() float64 { _, n := o.Cache(); return float64(n) })
	}
	if o.Sockets != nil {
		m.CountSockets(o.Sockets)
	}
	if len(o.Devices) > 0 {
		m.registry.MustRegister(deviceFigures{prometheus.NewDesc("comfyrun_models_loaded_bytes",
			"Size of the model weights that are loaded; weights that networks have in common count once.", []string{"device"}, nil), o.Devices})
	}
	if o.Ready != nil {
		m.gauge("ready", "Whether GET /readyz says so: 1 or 0.", func() float64 {
			if o.Ready() {
				return 1
			}
			return 0
		})
	}
}

// CountSockets adds the number of open websockets, for who knows it later than Options are made.
func (m *Metrics) CountSockets(count func() int) {
	if m != nil {
		m.gauge("websocket_clients", "Websockets that are open.", func() float64 { return float64(count()) })
	}
}

func (m *Metrics) gauge(name, help string, f func() float64) {
	// Two servers of one process may share the figures; then the first one tells of itself.
	_ = m.registry.Register(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "comfyrun_" + name, Help: help}, f))
}

// figure is one number of queue.Stats.
type figure struct {
	desc  *prometheus.Desc
	kind  prometheus.ValueType
	label []string
	value func(queue.Stats) float64
}

// queueFigures asks for the queue's figures once per scrape, so that they fit together.
type queueFigures struct {
	stats   func() queue.Stats
	figures []figure
}

func newQueueFigures(stats func() queue.Stats) *queueFigures {
	q := &queueFigures{stats: stats}
	q.add("depth", "Prompts that wait, run, or were lost by a worker and wait again.", nil,
		func(s queue.Stats) float64 { return float64(s.Queued + s.Running + s.Lost) })
	q.add("limit", "Prompts that the queue takes at most.", nil, func(s queue.Stats) float64 { return float64(s.MaxQueued) })
	q.add("oldest_seconds", "Age of the prompt that has waited longest, 0 when none waits.", nil,
		func(s queue.Stats) float64 { return s.OldestQueued.Seconds() })
	q.add("history_prompts", "Finished prompts that are kept.", nil, func(s queue.Stats) float64 { return float64(s.History) })
	q.add("history_bytes", "Size of the finished prompts that are kept.", nil, func(s queue.Stats) float64 { return float64(s.HistoryBytes) })
	q.add("events_dropped_total", "Previews and progress that slow receivers missed.", nil, func(s queue.Stats) float64 { return float64(s.Dropped) })
	q.states()
	q.outcomes()
	return q
}

func (q *queueFigures) states() {
	const help = "Prompts in the queue by state: queued, running or lost."
	q.add("prompts", help, []string{"state", "queued"}, func(s queue.Stats) float64 { return float64(s.Queued) })
	q.add("prompts", help, []string{"state", "running"}, func(s queue.Stats) float64 { return float64(s.Running) })
	q.add("prompts", help, []string{"state", "lost"}, func(s queue.Stats) float64 { return float64(s.Lost) })
}

func (q *queueFigures) outcomes() {
	const submitted, leased, finished = "Submissions by this process: accepted, duplicate or refused (full).",
		"What this process did with leases: taken, given_back, or expired (seen to run out).",
		"Results that this process recorded: done, failed or cancelled."
	for _, o := range []struct {
		name, help, label, value string
		count                    func(queue.Stats) uint64
	}{
		{"submissions_total", submitted, "outcome", "accepted", func(s queue.Stats) uint64 { return s.Accepted }},
		{"submissions_total", submitted, "outcome", "duplicate", func(s queue.Stats) uint64 { return s.Duplicates }},
		{"submissions_total", submitted, "outcome", "refused", func(s queue.Stats) uint64 { return s.Refused }},
		{"leases_total", leased, "event", "taken", func(s queue.Stats) uint64 { return s.Taken }},
		{"leases_total", leased, "event", "given_back", func(s queue.Stats) uint64 { return s.GivenBack }},
		{"leases_total", leased, "event", "expired", func(s queue.Stats) uint64 { return s.Expired }},
		{"results_total", finished, "state", "done", func(s queue.Stats) uint64 { return s.Done }},
		{"results_total", finished, "state", "failed", func(s queue.Stats) uint64 { return s.Failed }},
		{"results_total", finished, "state", "cancelled", func(s queue.Stats) uint64 { return s.Cancelled }},
	} {
		q.add(o.name, o.help, []string{o.label, o.value}, func(s queue.Stats) float64 { return float64(o.count(s)) })
	}
}

// add declares a figure; label is none, or a name and a value. A name that ends in _total is a counter.
func (q *queueFigures) add(name, help string, label []string, value func(queue.Stats) float64) {
	f := figure{kind: prometheus.GaugeValue, value: value}
	if len(name) > 6 && name[len(name)-6:] == "_total" {
		f.kind = prometheus.CounterValue
	}
	var names []string
	if label != nil {
		names, f.label = label[:1], label[1:]
	}
	f.desc = prometheus.NewDesc("comfyrun_queue_"+name, help, names, nil)
	q.figures = append(q.figures, f)
}

// Describe is of prometheus.Collector.
func (q *queueFigures) Describe(out chan<- *prometheus.Desc) {
	for _, f := range q.figures {
		out <- f.desc
	}
}

// Collect is of prometheus.Collector.
func (q *queueFigures) Collect(out chan<- prometheus.Metric) {
	s := q.stats()
	for _, f := range q.figures {
		out <- prometheus.MustNewConstMetric(f.desc, f.kind, f.value(s), f.label...)
	}
}

// deviceFigures tells of the weights on devices.
type deviceFigures struct {
	loaded  *prometheus.Desc
	devices []Device
}

// Describe is of prometheus.Collector.
func (d deviceFigures) Describe(out chan<- *prometheus.Desc) { out <- d.loaded }

// Collect is of prometheus.Collector.
func (d deviceFigures) Collect(out chan<- prometheus.Metric) {
	bytes := map[string]int64{}
	for _, device := range d.devices {
		if device.Loaded != nil {
			bytes[device.Name] += device.Loaded()
		}
	}
	for name, n := range bytes {
		out <- prometheus.MustNewConstMetric(d.loaded, prometheus.GaugeValue, float64(n), name)
	}
}
