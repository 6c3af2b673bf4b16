package metrics

import (
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// labelledModels bounds the model files that have figures of their own. Those that are loaded later are "other".
const labelledModels = 100

func (m *Metrics) declareModels() {
	m.loadTime = prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "comfyrun_model_load_seconds",
		Help: "Time to load a network of a model file: its weights converted or found, its session made.", Buckets: seconds()}, []string{"model"})
	m.fetched = prometheus.NewCounter(prometheus.CounterOpts{Name: "comfyrun_model_fetch_bytes_total", Help: "Bytes of model files that arrived from their sources."})
	m.swaps = counters("model_swaps_total", "Attempts to serve what a changed models.lock says: done or failed.", "outcome")
	m.stale = prometheus.NewGauge(prometheus.GaugeOpts{Name: "comfyrun_models_stale",
		Help: "1 while the newest models.lock cannot be served and the one before is, 0 otherwise."})
	for _, outcome := range []string{"done", "failed"} {
		m.swaps.WithLabelValues(outcome)
	}
}

// bounded lets a number of values through; what comes later is "other".
type bounded struct {
	mu   sync.Mutex
	seen map[string]bool
}

func (b *bounded) label(value string, limit int) string {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.seen == nil {
		b.seen = map[string]bool{}
	}
	if !b.seen[value] && len(b.seen) >= limit {
		return "other"
	}
	b.seen[value] = true
	return value
}

// ModelLoaded notes that a network of a model file, FOLDER/NAME, was loaded.
func (m *Metrics) ModelLoaded(model string, took time.Duration) {
	if m != nil {
		m.loadTime.WithLabelValues(m.models.label(model, labelledModels)).Observe(took.Seconds())
	}
}

// ModelBytes notes bytes of model files that arrived.
func (m *Metrics) ModelBytes(n int64) {
	if m != nil {
		m.fetched.Add(float64(n))
	}
}

// ModelsSwapped notes an attempt to serve what a changed models.lock says; err is why that cannot be.
func (m *Metrics) ModelsSwapped(err error) {
	if m == nil {
		return
	}
	if err != nil {
		m.swaps.WithLabelValues("failed").Inc()
		m.stale.Set(1)
		return
	}
	m.swaps.WithLabelValues("done").Inc()
	m.stale.Set(0)
}
