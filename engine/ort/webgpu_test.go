//go:build webgpu

package ort_test

import (
	"context"
	"errors"
	"maps"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/comfyrun/comfyrun/engine/onnx"
	"github.com/comfyrun/comfyrun/engine/ort"
	"github.com/comfyrun/comfyrun/engine/ort/orttest"
	"github.com/comfyrun/comfyrun/engine/tensor"
)

var webgpu = ort.Device{Provider: "webgpu"}

// operators are the cases of the operator tests but attention, which has a test
// of its own.
func operators() map[string]opCase {
	all := map[string]opCase{}
	for _, cases := range []map[string]opCase{convolutions(), matrixProducts(), normalizations(), activations(), resizes(), movements(), broadcasts()} {
		maps.Copy(all, cases)
	}
	return all
}

// onWebGPU runs a case and returns its difference and the operators that were
// left to the CPU.
func (c opCase) onWebGPU(t *testing.T, name string) (worst float64, onCPU []string) {
	t.Helper()
	g, in := c.build(name)
	s := g.session(t, ort.Options{Device: webgpu, Placement: true})
	got := run(t, s, in)["out"]
	if !got.Shape.Equal(c.want.Shape) {
		t.Fatalf("%s: shape %v, want %v", name, got.Shape, c.want.Shape)
	}
	placed, err := s.Placement()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range placed {
		if p.Provider != "WebGpu" {
			onCPU = append(onCPU, p.Op)
		}
	}
	return difference(got, c.want), onCPU
}

func TestWebGPUOperators(t *testing.T) {
	// Vulkan asks for no more of sines and cosines.
	loose := map[string]float64{"Sin": 1.0 / 2048, "Cos": 1.0 / 2048}
	all := operators()
	worst, where := 0.0, ""
	for _, name := range slices.Sorted(maps.Keys(all)) {
		d, onCPU := all[name].onWebGPU(t, name)
		if limit := max(loose[name], 1e-5); d > limit {
			t.Errorf("%s: differs by %.2g", name, d)
		}
		var want []string // has no kernel
		if strings.HasPrefix(name, "FusedMatMul") {
			want = []string{"FusedMatMul"}
		}
		if !slices.Equal(onCPU, want) {
			t.Errorf("%s: %v on the CPU, want %v", name, onCPU, want)
		}
		if d > worst && loose[name] == 0 {
			worst, where = d, name
		}
	}
	t.Logf("worst relative difference %.2g, %s", worst, where)
}

// The fused attention operator is wrong where subgroups are small, as
// SwiftShader's are. When this test fails, ONNX Runtime may have been mended,
// and attention need not be written as products for it.
func TestWebGPUAttentionIsWrong(t *testing.T) {
	for name, wrong := range map[string]bool{"causal": true, "long": true, "one key": false} {
		d, _ := attentions()[name].onWebGPU(t, name)
		if (d > 1e-3) != wrong {
			t.Errorf("%s: differs by %.2g; wrong was %v", name, d, wrong)
		}
	}
}

// FusedConv forgets its addend there. Graphs must not have it, and at our level
// of optimisation ONNX Runtime must not make it of Conv, Add and Relu. When the
// first check fails, it has been mended.
func TestWebGPUFusedConv(t *testing.T) {
	c := convolutions()["1x1"]
	c.in = append(c.in, random(9, c.want.Shape...))
	w, b := random(2, 7, 5, 1, 1), random(3, 7)
	c.want = build(func(p []int) float64 { return max(0, at(c.want, p...)+at(c.in[1], p...)) }, c.want.Shape...)
	c.graph = func(g *graph) {
		g.node("ms.FusedConv", []string{"x", g.weight("w", w), g.weight("b", b), "y"}, []string{"out"},
			attr("kernel_shape", []int64{1, 1}), attr("activation", "Relu"))
	}
	if d, _ := c.onWebGPU(t, "fused"); d < 0.1 {
		t.Errorf("FusedConv differs by %.2g only", d)
	}
	c.graph = func(g *graph) {
		h := g.node("Conv", []string{"x", g.weight("w", w), g.weight("b", b)}, []string{"h"}, attr("kernel_shape", []int64{1, 1}))
		g.node("Relu", []string{g.node("Add", []string{h, "y"}, []string{"sum"})}, []string{"out"})
	}
	if d, onCPU := c.onWebGPU(t, "parts"); d > 1e-5 || onCPU != nil {
		t.Errorf("Conv, Add, Relu: differ by %.2g, %v on the CPU", d, onCPU)
	}
}

func TestWebGPUTransfers(t *testing.T) {
	testTransfers(t, webgpu)
	testChanges(t, webgpu)
}

func TestWebGPUHeld(t *testing.T) {
	for name, test := range heldTests {
		t.Run(name, func(t *testing.T) { test(t, webgpu) })
	}
}

// heldSum runs the first session for a value of 32 MiB, and the second with it.
func heldSum(t *testing.T, first, second *ort.Session) *ort.Held {
	t.Helper()
	column, row := random(1, 2048, 1), random(2, 1, 4096)
	sum := hold(t, first, ort.Inputs{Tensors: map[string]*tensor.Tensor{"x": column, "y": row}})["out"]
	out, err := second.RunHeld(t.Context(), ort.Inputs{Tensors: map[string]*tensor.Tensor{"y": tensor.Full(1, 1, 1)}, Held: map[string]*ort.Held{"x": sum}})
	if err != nil {
		t.Fatal(err)
	}
	if got, want := out["out"].Data[3*4096+5], column.Data[3]+row.Data[5]+1; got != want {
		t.Errorf("%v, want %v", got, want)
	}
	return sum
}

// What a session holds on the device is given back with it, though another one
// has used it and stays open: further ones take no more memory, and with the last
// session all of it is free.
func TestWebGPUHeldMemory(t *testing.T) {
	session := func() *ort.Session { return addGraph().session(t, ort.Options{Device: webgpu}) }
	sums := func(n int) (open int) {
		last := session()
		for range n {
			s := session()
			heldSum(t, s, last)
			open = anonymous(t)
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
		}
		last.Close()
		return open
	}
	sums(2) // what the driver needs
	before := anonymous(t)
	few, many := sums(2), sums(6)
	if after := anonymous(t); few < before+60 || many > few+48 || after > before+24 {
		t.Errorf("%d MiB before, %d with 2 values, %d with 6 one after the other, %d MiB after", before, few, many, after)
	}
}

// Values that are closed make room for the next: a sampler's steps take no more
// memory than one.
func TestWebGPUHeldMemoryStaysFlat(t *testing.T) {
	first, second := addGraph().session(t, ort.Options{Device: webgpu}), addGraph().session(t, ort.Options{Device: webgpu})
	steps := func(n int) int {
		for range n {
			heldSum(t, first, second).Close()
		}
		return anonymous(t)
	}
	if before, after := steps(3), steps(6); after > before+48 {
		t.Errorf("%d MiB after 3 steps, %d MiB after 9", before, after)
	}
}

// A run whose outputs are to stay on the device ends when its context does.
func TestWebGPUHoldIsCancelled(t *testing.T) {
	s := slowGraph(3000).session(t, ort.Options{Device: webgpu})
	cause := errors.New("the user went away")
	ctx, cancel := context.WithCancelCause(t.Context())
	time.AfterFunc(5*time.Millisecond, func() { cancel(cause) })
	outs, err := s.Hold(ctx, ort.Inputs{Tensors: map[string]*tensor.Tensor{"x": tensor.New(64, 64)}})
	if !errors.Is(err, cause) || outs != nil {
		t.Errorf("error %v, outputs %v", err, outs)
	}
	small := hold(t, s, ort.Inputs{Tensors: map[string]*tensor.Tensor{"x": tensor.New(8, 8)}})
	if got := copied(t, small["out"]); got.Data[63] != 0 {
		t.Errorf("%v", got.Data)
	}
}

func TestWebGPUProbe(t *testing.T) {
	c, err := orttest.Env(t).Probe(t.Context(), webgpu)
	if err != nil || c.Float16 || c.Attention {
		t.Errorf("%+v, %v; SwiftShader has no half precision, and its attention is wrong", c, err)
	}
}

// A node that the provider lacks runs on the CPU between two that it has, and
// layouts change at the ends and around it only.
func TestWebGPUPlacement(t *testing.T) {
	g := newGraph("mixed")
	pads, w := attr("pads", []int64{1, 1, 1, 1}), g.weight("w", random(1, 8, 8, 3, 3))
	h := g.node("Conv", []string{g.input("x", 4), w}, []string{"first"}, pads)
	h = g.node("Conv", []string{g.node("Sigmoid", []string{h}, []string{"sigmoid"}), w}, []string{"second"}, pads)
	folded := g.node("Transpose", []string{g.weight("matrix", random(2, 10, 10))}, []string{"folded"})
	h = g.node("ms.FusedMatMul", []string{h, folded}, []string{"alien"})
	g.node("Conv", []string{h, w}, []string{"out"}, pads)
	g.output("out", 4)
	in := map[string]*tensor.Tensor{"x": random(1, 1, 8, 10, 10)}
	s := g.session(t, ort.Options{Device: webgpu, Placement: true})
	if d := difference(run(t, s, in)["out"], run(t, g.session(t, ort.Options{}), in)["out"]); d > 1e-5 {
		t.Errorf("differs by %.2g", d)
	}
	placed, err := s.Placement()
	if err != nil {
		t.Fatal(err)
	}
	count := map[string]int{}
	for _, p := range placed {
		count[p.Provider+" "+p.Op]++
	}
	want := map[string]int{"CPU FusedMatMul": 1, "WebGpu Conv": 3, "WebGpu Sigmoid": 1, "WebGpu Transpose": 4}
	if !maps.Equal(count, want) {
		t.Errorf("%v, want %v", count, want)
	}
}

// Sessions share the device, and take turns on it.
func TestWebGPUManySessions(t *testing.T) {
	in := map[string]*tensor.Tensor{"x": random(1, 1, 4, 8, 8)}
	want := run(t, convGraph(4, 2).session(t, ort.Options{}), in)["out"]
	convGraph(4, 2).session(t, ort.Options{Device: webgpu}) // keeps the device
	var wg sync.WaitGroup
	for range 3 {
		wg.Go(func() {
			for range 3 {
				s, err := orttest.Env(t).NewSession(&convGraph(4, 2).Model, ort.Options{Device: webgpu})
				if err != nil {
					t.Error(err)
					return
				}
				for range 3 {
					out, err := s.Run(t.Context(), in)
					if err != nil || difference(out["out"], want) > 1e-5 {
						t.Error("other result", err)
					}
				}
				s.Close()
			}
		})
	}
	wg.Wait()
}

// The device's memory is free again once the last session on it is closed. (Not
// earlier: ONNX Runtime keeps the weights of closed sessions until then.)
func TestWebGPUMemoryIsFreed(t *testing.T) {
	path := weightFile(t, 0, 4096*4096)
	before, open := anonymous(t), 0
	for range 2 {
		g := newGraph("large")
		g.node("Gemm", []string{g.input("x", 2), g.external("w", path, 0, 4096, 4096)}, []string{"out"}, onnx.Attr{Name: "transB", Value: int64(1)})
		g.output("out", 2)
		s := g.session(t, ort.Options{Device: webgpu})
		open = max(open, anonymous(t))
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if after := anonymous(t); open < before+60 || after > before+24 {
		t.Errorf("%d MiB before, %d MiB while sessions were open, %d MiB after", before, open, after)
	}
}

// A tensor that the device has no room for is an error, and the session stays
// usable.
func TestWebGPUTooLarge(t *testing.T) {
	g := newGraph("large")
	g.node("Add", []string{g.input("x", 2), g.input("y", 2)}, []string{"h"})
	g.node("Slice", []string{"h", g.ints("from", 0), g.ints("to", 1)}, []string{"out"})
	g.output("out", 2)
	s := g.session(t, ort.Options{Device: webgpu})
	ones := func(rows, columns int) map[string]*tensor.Tensor {
		return map[string]*tensor.Tensor{"x": tensor.Full(1, rows, 1), "y": tensor.Full(1, 1, columns)}
	}
	for _, columns := range []int{1 << 14, 1 << 14, 1 << 17} { // 4 GiB, twice, and 32 GiB
		_, err := s.Run(t.Context(), ones(1<<16, columns))
		outs, held := s.Hold(t.Context(), ort.Inputs{Tensors: ones(1<<16, columns)})
		for _, err := range []error{err, held} {
			var e *ort.Error
			if !errors.As(err, &e) || e.Code != ort.CodeMemory || e.Needed != 0 && e.Needed != 4<<30 {
				t.Errorf("%v: %+v", err, e)
			}
		}
		for _, h := range outs {
			h.Close()
		}
		if out := run(t, s, ones(1, 5))["out"]; !slices.Equal(out.Data, []float32{2, 2, 2, 2, 2}) {
			t.Errorf("after an error: %v", out.Data)
		}
	}
}

// child runs one test of this program in a process of its own.
func child(t *testing.T, test string, env ...string) (string, error) {
	t.Helper()
	cmd := exec.Command(os.Args[0], "-test.run", "^"+test+"$", "-test.v")
	cmd.Env = append(os.Environ(), append(env, "COMFYRUN_CHILD=1")...)
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// A process that leaves a session open ends as it should.
func TestWebGPUExit(t *testing.T) {
	if os.Getenv("COMFYRUN_CHILD") != "" {
		s, err := orttest.Env(t).NewSession(&addGraph().Model, ort.Options{Device: webgpu})
		if err != nil {
			t.Fatal(err)
		}
		run(t, s, map[string]*tensor.Tensor{"x": random(1, 2, 3), "y": random(2, 2, 3)})
		os.Exit(7)
	}
	out, err := child(t, "TestWebGPUExit")
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != 7 {
		t.Errorf("%v, want exit status 7\n%s", err, out)
	}
}

func TestWebGPUWithoutVulkan(t *testing.T) {
	if os.Getenv("COMFYRUN_CHILD") != "" {
		_, err := orttest.Env(t).NewSession(&addGraph().Model, ort.Options{Name: "unet", Device: webgpu})
		var e *ort.Error
		if !errors.As(err, &e) || e.Code != ort.CodeDevice {
			t.Errorf("%v", err)
		}
		t.Log(err)
		run(t, addGraph().session(t, ort.Options{}), map[string]*tensor.Tensor{"x": random(1, 2, 3), "y": random(2, 2, 3)})
		return
	}
	for _, env := range []string{"VK_DRIVER_FILES=/nonexistent", "LD_LIBRARY_PATH=/nonexistent"} {
		out, err := child(t, "TestWebGPUWithoutVulkan", env)
		if err != nil || !strings.Contains(out, `create session "unet" on webgpu: Failed to get a WebGPU adapter`) || !strings.Contains(out, "WebGPU needs Vulkan") {
			t.Errorf("%s: %v\n%s", env, err, out)
		}
	}
}
