package ort_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
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

// addGraph computes out = x + y.
func addGraph() *graph {
	g := newGraph("add")
	g.node("Add", []string{g.input("x", 2), g.input("y", 2)}, []string{"out"})
	g.output("out", 2)
	return g
}

func TestOpen(t *testing.T) {
	env := orttest.Env(t)
	if !strings.HasPrefix(env.Version(), "1.30.") {
		t.Errorf("version %s", env.Version())
	}
	if !slices.Contains(env.Providers(), "CPU") {
		t.Errorf("providers %v", env.Providers())
	}
	if again := orttest.Env(t); again != env {
		t.Error("opened twice")
	}
}

func TestOpenRefuses(t *testing.T) {
	orttest.Env(t)
	other := filepath.Join(t.TempDir(), "libonnxruntime.so.1")
	if err := os.WriteFile(other, []byte("not a library"), 0o644); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{
		other:             "has already loaded",
		other + ".absent": "comfyrun runtime install",
	} {
		_, err := ort.Open(path)
		var e *ort.Error
		if !errors.As(err, &e) || e.Code != ort.CodeLibrary || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", path, err, want)
		}
	}
}

func TestRunErrors(t *testing.T) {
	s := addGraph().session(t, ort.Options{})
	x := random(1, 2, 3)
	cases := map[string]struct {
		in   map[string]*tensor.Tensor
		code ort.Code
		want string
	}{
		"missing": {map[string]*tensor.Tensor{"x": x}, ort.CodeInput, `run session "add": input "y" is missing, want x, y`},
		"unknown": {map[string]*tensor.Tensor{"x": x, "y": x, "q": x}, ort.CodeInput, `no input "q"`},
		"short":   {map[string]*tensor.Tensor{"x": x, "y": {Shape: tensor.Shape{9}, Data: x.Data}}, ort.CodeInput, "6 elements for shape [9]"},
		"rank":    {map[string]*tensor.Tensor{"x": x, "y": random(1, 2)}, ort.CodeRun, "on cpu"},
		"huge":    {map[string]*tensor.Tensor{"x": tensor.New(1<<24, 1), "y": tensor.New(1, 1<<22)}, ort.CodeMemory, "llocat"},
		"shapes":  {map[string]*tensor.Tensor{"x": x, "y": random(1, 5, 4)}, ort.CodeRun, "on cpu"},
	}
	for name, c := range cases {
		_, err := s.Run(context.Background(), c.in)
		var e *ort.Error
		if !errors.As(err, &e) || e.Code != c.code || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %s %q", name, err, c.code, c.want)
		}
	}
	if out := run(t, s, map[string]*tensor.Tensor{"x": x, "y": x})["out"]; out.Data[0] != 2*x.Data[0] {
		t.Error("unusable after errors")
	}
}

func TestNewSessionErrors(t *testing.T) {
	env := orttest.Env(t)
	bad := addGraph()
	bad.Graph.Nodes[0].Op = "NoSuchOperator"
	ints := addGraph()
	ints.Graph.Inputs[0].Type = onnx.Int64
	file := addGraph()
	file.Graph.Initializers = append(file.Graph.Initializers, onnx.Initializer{Name: "w", Type: onnx.Float, Dims: []int64{1},
		External: &onnx.External{Path: "/nonexistent/weights", Length: 4}})
	file.Graph.Nodes[0].Inputs[1] = "w"
	cases := []struct {
		g    *graph
		o    ort.Options
		want string
	}{
		{bad, ort.Options{Name: "unet"}, `create session "unet" on cpu: `},
		{bad, ort.Options{}, "NoSuchOperator"},
		{ints, ort.Options{}, "x int64[xa,xb]: only float"},
		{file, ort.Options{}, "nonexistent/weights"},
	}
	for _, c := range cases {
		_, err := env.NewSession(&c.g.Model, c.o)
		var e *ort.Error
		if !errors.As(err, &e) || e.Code != ort.CodeModel || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%v, want %q", err, c.want)
		}
	}
}

func TestUnknownDevice(t *testing.T) {
	_, err := orttest.Env(t).NewSession(&addGraph().Model, ort.Options{Device: ort.Device{Provider: "tpu"}})
	var e *ort.Error
	if !errors.As(err, &e) || e.Code != ort.CodeDevice || !strings.Contains(err.Error(), `device "tpu" is not known`) {
		t.Error(err)
	}
}

func TestClosedSession(t *testing.T) {
	s := addGraph().session(t, ort.Options{})
	if err := errors.Join(s.Close(), s.Close()); err != nil {
		t.Fatal(err)
	}
	x := random(1, 1, 1)
	_, err := s.Run(context.Background(), map[string]*tensor.Tensor{"x": x, "y": x})
	if err == nil || !strings.Contains(err.Error(), "closed") {
		t.Errorf("run after close: %v", err)
	}
}

// slowGraph multiplies a square matrix with itself n times: seconds of work in
// operators of a few milliseconds.
func slowGraph(n int) *graph {
	g := newGraph("slow")
	g.input("x", 2)
	last := "x"
	for i := range n {
		out := "h" + string(rune('a'+i%26)) + strings.Repeat("'", i/26)
		if i == n-1 {
			out = "out"
		}
		last = g.node("MatMul", []string{last, "x"}, []string{out})
	}
	g.output("out", 2)
	return g
}

// TestCancel: a run whose context ends does not come to its end, and leaves the session as it was.
func TestCancel(t *testing.T) {
	const steps = 1000
	dir := t.TempDir()
	s := slowGraph(steps).session(t, ort.Options{Profile: filepath.Join(dir, "slow")})
	in := map[string]*tensor.Tensor{"x": tensor.New(512, 512)}
	cause := errors.New("the user went away")
	ctx, cancel := context.WithCancelCause(context.Background())
	time.AfterFunc(20*time.Millisecond, func() { cancel(cause) })
	if _, err := s.Run(ctx, in); !errors.Is(err, cause) || !errors.Is(err, context.Canceled) {
		t.Fatalf("error %v, want %v and %v", err, context.Canceled, cause)
	}
	if _, err := s.Run(ctx, in); !errors.Is(err, cause) {
		t.Errorf("run with an ended context: %v", err)
	}
	run(t, s, map[string]*tensor.Tensor{"x": tensor.New(8, 8)})
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if n := bytes.Count(profileOf(t, dir), []byte(`_kernel_time"`)); n < steps || n >= 2*steps {
		t.Errorf("%d operators ran, want the %d of the whole run and fewer of the cancelled one", n, steps)
	}
}

// profileOf reads the one profile in a folder.
func profileOf(t *testing.T, dir string) []byte {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*.json"))
	if err != nil || len(files) != 1 {
		t.Fatalf("profiles %v, %v", files, err)
	}
	data, err := os.ReadFile(files[0])
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func TestConcurrentRuns(t *testing.T) {
	s := slowGraph(20).session(t, ort.Options{Threads: 2})
	want := map[int]*tensor.Tensor{}
	for n := 10; n < 14; n++ {
		want[n] = run(t, s, map[string]*tensor.Tensor{"x": random(7, n, n)})["out"]
	}
	var wg sync.WaitGroup
	for i := range 64 {
		wg.Go(func() {
			n := 10 + i%4
			out, err := s.Run(context.Background(), map[string]*tensor.Tensor{"x": random(7, n, n)})
			if err != nil || !slices.Equal(out["out"].Data, want[n].Data) {
				t.Errorf("size %d: other result, error %v", n, err)
			}
		})
	}
	wg.Wait()
}

func TestProfile(t *testing.T) {
	dir := t.TempDir()
	s := addGraph().session(t, ort.Options{Profile: filepath.Join(dir, "add")})
	x := random(1, 2, 2)
	run(t, s, map[string]*tensor.Tensor{"x": x, "y": x})
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	data := profileOf(t, dir)
	if !json.Valid(data) || !strings.Contains(string(data), `"op_name" : "Add"`) {
		t.Errorf("profile %.2000s", data)
	}
}
