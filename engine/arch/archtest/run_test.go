package archtest

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"testing"

	"github.com/comfyrun/comfyrun/engine/nn"
	"github.com/comfyrun/comfyrun/engine/onnx"
	"github.com/comfyrun/comfyrun/engine/ort"
	"github.com/comfyrun/comfyrun/engine/tensor"
)

// forEach runs a test for the named networks, or for all that can be run where
// the build tag slow is set.
func forEach(t *testing.T, names []string, test func(t *testing.T, n Network)) {
	all := Networks(t)
	if slow {
		names = slices.Sorted(maps.Keys(all))
	}
	for _, name := range names {
		if !all[name].Large {
			t.Run(name, func(t *testing.T) { test(t, all[name]) })
		}
	}
}

// result is what a network gives.
type result struct {
	out map[string]*tensor.Tensor
	cpu map[string]int // operators that run on the CPU, how many of each
}

// run builds a network for a target and runs it on a device; rewrite may change
// the graph before.
func (n Network) run(t *testing.T, env *ort.Env, target nn.Target, d ort.Device, rewrite ...func(*onnx.Graph)) result {
	t.Helper()
	g, err := target.Build("network", n.Weights, n.Build)
	must(t, err)
	m := n.Model(t, g)
	for _, f := range rewrite {
		f(&m.Graph)
	}
	s, err := env.NewSession(m, ort.Options{Name: "network", Device: d, Threads: 2, Placement: true})
	must(t, err)
	defer s.Close()
	out, err := s.Run(t.Context(), Inputs(g))
	must(t, err)
	placed, err := s.Placement()
	must(t, err)
	r := result{out, map[string]int{}}
	for _, p := range placed {
		if p.Provider == "CPU" {
			r.cpu[p.Op]++
		}
	}
	return r
}

// compare returns the largest difference of the outputs relative to the
// deviation of each, which must not be over limit.
func compare(t *testing.T, want, got result, limit float64) string {
	t.Helper()
	worst, at := 0.0, ""
	for _, name := range slices.Sorted(maps.Keys(want.out)) {
		w, g := want.out[name], got.out[name]
		if g == nil || !g.Shape.Equal(w.Shape) {
			t.Fatalf("%s: %v, want %v", name, g, w.Shape)
		}
		if d := difference(w.Data, g.Data); d >= worst || math.IsNaN(d) {
			worst, at = d, name
		}
	}
	if !(worst <= limit) {
		t.Errorf("%s differs by %.2g of its deviation, want %.2g at most", at, worst, limit)
	}
	return fmt.Sprintf("%.2g", worst)
}

// difference is the largest difference relative to the root of the mean square
// of want.
func difference(want, got []float32) float64 {
	worst, sum := 0.0, 0.0
	for i, w := range want {
		d := math.Abs(float64(w) - float64(got[i]))
		if math.IsNaN(d) {
			return d
		}
		worst = max(worst, d)
		sum += float64(w) * float64(w)
	}
	return worst / math.Sqrt(sum/float64(len(want)))
}
