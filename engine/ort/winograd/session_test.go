//go:build cgo

package winograd_test

import (
	"context"
	"encoding/binary"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/comfyrun/comfyrun/engine/onnx"
	"github.com/comfyrun/comfyrun/engine/ort"
	"github.com/comfyrun/comfyrun/engine/ort/orttest"
	"github.com/comfyrun/comfyrun/engine/ort/winograd"
	"github.com/comfyrun/comfyrun/engine/tensor"
)

// net is a graph under construction, from inputs of rank 4 to "out".
type net struct{ onnx.Model }

func newNet(inputs ...string) *net {
	n := &net{onnx.Model{Opset: map[string]int64{"": 21, winograd.Domain: winograd.Version}, Graph: onnx.Graph{Name: "net"}}}
	for _, name := range inputs {
		n.Graph.Inputs = append(n.Graph.Inputs, value(name))
	}
	n.Graph.Outputs = []onnx.ValueInfo{value("out")}
	return n
}

func value(name string) onnx.ValueInfo {
	v := onnx.ValueInfo{Name: name, Type: onnx.Float}
	for _, d := range "nchw" {
		v.Dims = append(v.Dims, onnx.Dim{Name: name + string(d)})
	}
	return v
}

func (n *net) weight(name string, data []float32, dims ...int) string {
	init := onnx.Initializer{Name: name, Type: onnx.Float, Raw: []byte{}}
	for _, v := range data {
		init.Raw = binary.LittleEndian.AppendUint32(init.Raw, math.Float32bits(v))
	}
	for _, d := range dims {
		init.Dims = append(init.Dims, int64(d))
	}
	n.Graph.Initializers = append(n.Graph.Initializers, init)
	return name
}

func (n *net) node(domain, op, out string, inputs ...string) string {
	n.Graph.Nodes = append(n.Graph.Nodes, onnx.Node{Name: out, Domain: domain, Op: op, Inputs: inputs, Outputs: []string{out}})
	return out
}

// conv adds a convolution to out with either operator. The weights depend on
// the sizes only.
func (n *net) conv(fast bool, cin, cout int, out string, inputs ...string) string {
	weight := random(1, 0.02, cout*cin*9)
	bias := n.weight(out+".bias", random(2, 1, cout), cout)
	if !fast {
		w := n.weight(out+".weight", weight, cout, cin, 3, 3)
		n.node("", "Conv", out, inputs[0], w, bias)
		n.Graph.Nodes[len(n.Graph.Nodes)-1].Attrs = []onnx.Attr{{Name: "pads", Value: []int64{1, 1, 1, 1}}}
		return out
	}
	shape := winograd.Shape(cout, cin)
	u := make([]float32, shape[0]*shape[1]*shape[2]*shape[3])
	winograd.Transform(u, weight, cout, cin)
	w := n.weight(out+".u", u, shape[:]...)
	return n.node(winograd.Domain, winograd.Op, out, append([]string{inputs[0], w, bias}, inputs[1:]...)...)
}

func (n *net) session(t testing.TB, threads int) *ort.Session {
	t.Helper()
	s, err := orttest.Env(t).NewSession(&n.Model, ort.Options{Name: "net", Threads: threads})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

type tensors = map[string]*tensor.Tensor

func run(t testing.TB, s *ort.Session, in tensors) *tensor.Tensor {
	t.Helper()
	out, err := s.Run(context.Background(), in)
	if err != nil {
		t.Fatal(err)
	}
	return out["out"]
}

func random(seed uint64, deviation float64, n int) []float32 {
	r := rand.New(rand.NewPCG(seed, uint64(n)))
	out := make([]float32, n)
	for i := range out {
		out[i] = float32(deviation * r.NormFloat64())
	}
	return out
}

func picture(shape ...int) *tensor.Tensor {
	t := tensor.New(shape...)
	copy(t.Data, random(7, 1, len(t.Data)))
	return t
}

// compare returns the largest difference relative to the largest value.
func compare(t *testing.T, got, want *tensor.Tensor) float64 {
	t.Helper()
	if !got.Shape.Equal(want.Shape) {
		t.Fatalf("shape %v, want %v", got.Shape, want.Shape)
	}
	worst, scale := 0.0, 0.0
	for i, v := range want.Data {
		scale = max(scale, math.Abs(float64(v)))
		worst = max(worst, math.Abs(float64(v)-float64(got.Data[i])))
	}
	return worst / scale
}

// ONNX Runtime's own convolution and ours, one session for all sizes; two
// threads give the same bits as one.
func TestAgainstConv(t *testing.T) {
	for _, channels := range [][2]int{{3, 8}, {16, 16}, {48, 40}, {160, 96}} {
		cin, cout := channels[0], channels[1]
		plain, fast := newNet("x"), newNet("x")
		plain.conv(false, cin, cout, "out", "x")
		fast.conv(true, cin, cout, "out", "x")
		want, one, two := plain.session(t, 1), fast.session(t, 1), fast.session(t, 2)
		for _, size := range [][3]int{{1, 1, 1}, {2, 3, 9}, {1, 32, 32}, {2, 17, 40}, {1, 64, 48}, {3, 8, 8}} {
			in := tensors{"x": picture(size[0], cin, size[1], size[2])}
			got := run(t, one, in)
			if d := compare(t, got, run(t, want, in)); d > 1e-5 {
				t.Errorf("channels %v size %v: relative difference %.2g", channels, size, d)
			}
			if !slices.Equal(run(t, two, in).Data, got.Data) {
				t.Errorf("channels %v size %v: two threads give other bits than one", channels, size)
			}
		}
	}
}

// A residual block's end: what is added may be a picture or one value for each
// channel.
func TestPlusInput(t *testing.T) {
	for _, size := range [][2]int{{20, 24}, {1, 1}} {
		plain, fast := newNet("x", "z"), newNet("x", "z")
		plain.node("", "Add", "out", plain.conv(false, 16, 24, "h", "x"), "z")
		fast.conv(true, 16, 24, "out", "x", "z")
		in := tensors{"x": picture(2, 16, 20, 24), "z": picture(2, 24, size[0], size[1])}
		if d := compare(t, run(t, fast.session(t, 1), in), run(t, plain.session(t, 1), in)); d > 1e-5 {
			t.Errorf("summand of %v: relative difference %.2g", size, d)
		}
	}
}

func TestRefuses(t *testing.T) {
	for name, tt := range map[string]struct {
		in   tensors
		want string
	}{
		"channels": {tensors{"x": picture(1, 15, 4, 4), "z": picture(1, 24, 4, 4)}, "weights do not fit"},
		"summand":  {tensors{"x": picture(1, 16, 4, 4), "z": picture(1, 24, 4, 1)}, "summand"},
		"batch":    {tensors{"x": picture(2, 16, 4, 4), "z": picture(1, 24, 4, 4)}, "summand"},
	} {
		n := newNet("x", "z")
		n.conv(true, 16, 24, "out", "x", "z")
		_, err := n.session(t, 1).Run(context.Background(), tt.in)
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: error %v, want one with %q", name, err, tt.want)
		}
	}
}

// ONNX Runtime knows the shape of the result: it finds a sum with other
// channels wrong when it loads the graph.
func TestShapeIsInferred(t *testing.T) {
	n := newNet("x")
	n.node("", "Add", "out", n.conv(true, 16, 24, "h", "x"), n.weight("b", make([]float32, 25), 1, 25, 1, 1))
	_, err := orttest.Env(t).NewSession(&n.Model, ort.Options{})
	if err == nil || !strings.Contains(err.Error(), "Incompatible dimensions") {
		t.Errorf("error %v, want one about dimensions", err)
	}
}

// anonymous returns the process's anonymous memory in MiB, after Go has
// returned what it can.
func anonymous(t *testing.T) int {
	t.Helper()
	debug.FreeOSMemory()
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(status), "RssAnon:")
	kib, err := strconv.Atoi(strings.Fields(rest)[0])
	if err != nil {
		t.Fatal(err)
	}
	return kib / 1024
}

func TestMemoryStaysFlat(t *testing.T) {
	n := newNet("x")
	n.conv(true, 32, 32, "out", n.conv(true, 32, 32, "h", "x"))
	s := n.session(t, 2)
	runs := func(count int) int {
		for i := range count {
			done := make(chan error)
			x := tensor.New(1+i%2, 32, 16+12*(i%5), 64-10*(i%5))
			go func() { // another thread each time
				_, err := s.Run(context.Background(), tensors{"x": x})
				done <- err
			}()
			if err := <-done; err != nil {
				t.Fatal(err)
			}
		}
		return anonymous(t)
	}
	before, after := runs(40), runs(200)
	t.Logf("%d MiB after 40 runs, %d MiB after 240", before, after)
	if after > before+4 {
		t.Errorf("memory grows: %d MiB after 40 runs, %d MiB after 240", before, after)
	}
}

func TestSessionsDoNotLeak(t *testing.T) {
	env := orttest.Env(t)
	n := newNet("x")
	n.conv(true, 16, 16, "out", "x")
	open := func(count int) int {
		for range count {
			s, err := env.NewSession(&n.Model, ort.Options{})
			if err != nil {
				t.Fatal(err)
			}
			run(t, s, tensors{"x": tensor.New(1, 16, 8, 8)})
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
		}
		return anonymous(t)
	}
	if before, after := open(20), open(80); after > before+8 { // the race detector's memory grows a little
		t.Errorf("%d MiB after 20 sessions, %d MiB after 100", before, after)
	}
}

// layers are convolutions of Stable Diffusion 1.5: batch, channels in and out,
// size.
var layers = [][4]int{
	{1, 320, 320, 64}, {1, 640, 640, 32}, {1, 960, 640, 32}, {1, 1280, 1280, 16}, {1, 1280, 1280, 8}, {2, 1280, 1280, 8},
	{1, 512, 512, 64}, {1, 512, 512, 128}, {1, 256, 256, 256}, {1, 128, 128, 512},
	{1, 4, 320, 64}, {1, 320, 4, 64}, {1, 128, 3, 512},
}

func BenchmarkConv(b *testing.B)     { benchmarkLayers(b, false) }
func BenchmarkWinograd(b *testing.B) { benchmarkLayers(b, true) }

func benchmarkLayers(b *testing.B, fast bool) {
	for _, l := range layers {
		b.Run(fmt.Sprintf("%dx%d-%d@%d", l[0], l[1], l[2], l[3]), func(b *testing.B) {
			n := newNet("x")
			n.conv(fast, l[1], l[2], "out", "x")
			benchmark(b, n, tensors{"x": picture(l[0], l[1], l[3], l[3])}, l)
		})
	}
}

// BenchmarkPlus tells what adding within the operator is worth.
func BenchmarkPlus(b *testing.B) {
	l := [4]int{1, 256, 256, 128}
	in := tensors{"x": picture(1, 256, 128, 128), "z": picture(1, 256, 128, 128)}
	b.Run("apart", func(b *testing.B) {
		n := newNet("x", "z")
		n.node("", "Add", "out", n.conv(true, l[1], l[2], "h", "x"), "z")
		benchmark(b, n, in, l)
	})
	b.Run("within", func(b *testing.B) {
		n := newNet("x", "z")
		n.conv(true, l[1], l[2], "out", "x", "z")
		benchmark(b, n, in, l)
	})
}

// benchmark runs a layer on one thread. GFLOP/s are those of the plain
// convolution for both.
func benchmark(b *testing.B, n *net, in tensors, layer [4]int) {
	s := n.session(b, 1)
	run(b, s, in)
	for b.Loop() {
		run(b, s, in)
	}
	flop := 2 * 9 * float64(layer[0]*layer[1]*layer[2]*layer[3]*layer[3])
	b.ReportMetric(flop*float64(b.N)/b.Elapsed().Seconds()/1e9, "GFLOP/s")
}
