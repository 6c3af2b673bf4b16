package diffusion

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/comfyrun/comfyrun/engine/nn"
	"github.com/comfyrun/comfyrun/engine/onnx"
	"github.com/comfyrun/comfyrun/engine/ort"
	"github.com/comfyrun/comfyrun/engine/tensor"
	"github.com/comfyrun/comfyrun/engine/weights/weightstest"
)

// fakeGPU stands in for ONNX Runtime on a GPU: its sessions give what a test
// wants.
type fakeGPU struct {
	// open and run may refuse; run may also give the outputs. Both may be nil.
	open func(s *fakeSession) error
	run  func(s *fakeSession, in map[string]*tensor.Tensor) (map[string]*tensor.Tensor, error)

	// read may refuse to copy a value to the host.
	read func(v *fakeValue) error

	mu      sync.Mutex
	log     []string // "open unet", "run unet", "close unet"
	values  []*fakeValue
	notices []string
}

type fakeSession struct {
	gpu    *fakeGPU
	name   string
	half   bool // has weights in half precision
	model  *onnx.Model
	values []*fakeValue // that it left on the GPU
	closed bool
}

func (g *fakeGPU) note(what string, s *fakeSession) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.log = append(g.log, what+" "+s.name)
}

func (g *fakeGPU) opens(_ context.Context, m *onnx.Model, o ort.Options) (session, error) {
	s := &fakeSession{gpu: g, name: o.Name, model: m}
	s.half = slices.ContainsFunc(m.Graph.Initializers, func(i onnx.Initializer) bool { return i.External != nil && i.Type == onnx.Float16 })
	if g.open != nil {
		if err := g.open(s); err != nil {
			return nil, err
		}
	}
	g.note("open", s)
	return s, nil
}

func (s *fakeSession) run(_ context.Context, g given) (map[string]*tensor.Tensor, error) {
	s.gpu.note("run", s)
	in := maps.Clone(g.tensors)
	for name, v := range g.there {
		if in[name] = v.(*fakeValue).tensor; in[name] == nil {
			return nil, fmt.Errorf("input %s is closed", name)
		}
	}
	if s.gpu.run == nil {
		return s.outputs(in, 0), nil
	}
	out, err := s.gpu.run(s, in)
	if out == nil && err == nil {
		out = s.outputs(in, 0)
	}
	return out, err
}

func (s *fakeSession) hold(ctx context.Context, g given) (map[string]value, error) {
	out, err := s.run(ctx, g)
	values := map[string]value{}
	for name, t := range out {
		v := &fakeValue{session: s, tensor: t}
		values[name] = v
		s.values = append(s.values, v)
		s.gpu.values = append(s.gpu.values, v)
	}
	return values, err
}

func (s *fakeSession) Close() error {
	s.gpu.note("close", s)
	s.closed = true
	for _, v := range s.values {
		v.Close()
	}
	return nil
}

// fakeValue is a tensor on the GPU.
type fakeValue struct {
	session *fakeSession
	tensor  *tensor.Tensor // nil once closed
}

func (v *fakeValue) Shape() tensor.Shape { return v.tensor.Shape }

func (v *fakeValue) Tensor(context.Context) (*tensor.Tensor, error) {
	if read := v.session.gpu.read; read != nil {
		if err := read(v); err != nil {
			return nil, err
		}
	}
	if v.tensor == nil {
		return nil, errors.New("a value of " + v.session.name + " is closed")
	}
	return v.tensor.Clone(), nil
}

func (v *fakeValue) Close() { v.tensor = nil }

// outputs are what a network of the name gives, a number everywhere.
func (s *fakeSession) outputs(in map[string]*tensor.Tensor, v float32) map[string]*tensor.Tensor {
	switch {
	case in["z"] != nil: // 8x8 pixels of the color that the latent pixel has
		z := in["z"]
		out := tensor.New(1, 3, 8*z.Dim(2), 8*z.Dim(3))
		for i := range out.Data {
			w := out.Dim(3)
			x, y, c := i%w/8, i/w%out.Dim(2)/8, i/(w*out.Dim(2))
			out.Data[i] = v + z.Data[(c*z.Dim(2)+y)*z.Dim(3)+x]
		}
		return map[string]*tensor.Tensor{"image": out}
	case s.gives("moments"):
		h, w := in["image"].Dim(2)/8, in["image"].Dim(3)/8
		out := tensor.New(1, 8, h, w)
		for i := range out.Data {
			out.Data[i] = v + in["image"].Data[i/w%h*8*in["image"].Dim(3)+i%w*8]
		}
		return map[string]*tensor.Tensor{"moments": out}
	}
	if s.gives("out") {
		return map[string]*tensor.Tensor{"out": tensor.Full(v, in["x"].Shape...)}
	}
	out := map[string]*tensor.Tensor{}
	for _, o := range s.model.Graph.Outputs {
		out[o.Name] = tensor.Full(v, 1, 1, 1, 1)
	}
	return out
}

// gives reports whether the network has an output of the name.
func (s *fakeSession) gives(name string) bool {
	return slices.ContainsFunc(s.model.Graph.Outputs, func(o onnx.ValueInfo) bool { return o.Name == name })
}

// runtime returns a Runtime on the GPU, which computes in half precision.
func (g *fakeGPU) runtime(t *testing.T, o Options) *Runtime {
	t.Helper()
	o.Device = "cuda"
	o.Choose = func(_ context.Context, device string) (*ort.Choice, error) {
		return &ort.Choice{Device: ort.Device{Provider: device}, Capabilities: &ort.Capabilities{Name: "fake", Float16: true, Attention: true}}, nil
	}
	o.Notice = func(text string) { g.notices = append(g.notices, text) }
	r, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	r.pool.open = g.opens
	t.Cleanup(func() { r.Close() })
	return r
}

func (g *fakeGPU) load(t *testing.T, o Options) (*Model, *VAE) {
	t.Helper()
	m, _, vae, err := g.runtime(t, o).LoadCheckpoint(t.Context(), weightstest.Write(t, t.TempDir(), "sd15-tiny-fp16"))
	if err != nil {
		t.Fatal(err)
	}
	return m, vae
}

// TestPlace checks what devices are asked for what, and in which precision.
func TestPlace(t *testing.T) {
	gpu := func(float16 bool) func(context.Context, string) (*ort.Choice, error) {
		return func(_ context.Context, want string) (*ort.Choice, error) {
			if want == ort.Auto {
				return &ort.Choice{Device: ort.Device{Provider: "cpu"}, Capabilities: &ort.Capabilities{Float16: true},
					Rejected: []ort.Rejection{{Device: ort.Device{Provider: "cuda"}, Reason: "no driver"}}}, nil
			}
			return &ort.Choice{Device: ort.Device{Provider: want}, Capabilities: &ort.Capabilities{Float16: float16}}, nil
		}
	}
	never := func(context.Context, string) (*ort.Choice, error) {
		t.Error("a device is looked for")
		return nil, nil
	}
	tests := []struct {
		name           string
		options        Options
		device         string
		precision, vae nn.Precision
		fails          string
	}{
		{"nothing", Options{Choose: never}, "cpu", "fp32", "fp32", ""},
		{"cpu", Options{Device: "cpu", Choose: never}, "cpu", "fp32", "fp32", ""},
		{"cpu in half", Options{Device: "cpu", Precision: "fp16"}, "", "", "", "use precision fp16: device cpu computes in fp32"},
		{"auto", Options{Device: "auto", Choose: gpu(true)}, "cpu", "fp32", "fp32", ""},
		{"auto in half", Options{Device: "auto", Precision: "fp16", Choose: gpu(true)}, "", "", "", "device cpu computes in fp32; not cuda:0: no driver"},
		{"cuda", Options{Device: "cuda", Choose: gpu(true)}, "cuda:0", "fp16", "fp32", ""},
		{"cuda in full", Options{Device: "cuda", Precision: "fp32", Choose: gpu(true)}, "cuda:0", "fp32", "fp32", ""},
		{"cuda in half", Options{Device: "cuda", VAEPrecision: "fp16", Choose: gpu(true)}, "cuda:0", "fp16", "fp16", ""},
		{"software", Options{Device: "webgpu", Choose: gpu(false)}, "webgpu", "fp32", "fp32", ""},
		{"software in half", Options{Device: "webgpu", VAEPrecision: "fp16", Choose: gpu(false)}, "", "", "", "device webgpu computes in fp32"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			r, err := Open(test.options)
			if err != nil {
				t.Fatal(err)
			}
			p, err := r.Place(t.Context())
			if test.fails != "" {
				if err == nil || !strings.Contains(err.Error(), test.fails) {
					t.Errorf("error %v, want %s", err, test.fails)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if p.Device.String() != test.device || p.Precision != test.precision || p.VAEPrecision != test.vae {
				t.Errorf("%s in %s and %s, want %s in %s and %s", p.Device, p.Precision, p.VAEPrecision, test.device, test.precision, test.vae)
			}
			if test.name == "auto" && len(p.Rejected) != 1 {
				t.Errorf("rejected are %v", p.Rejected)
			}
		})
	}
	for _, o := range []Options{{Device: "auto"}, {Device: "gpu"}, {Precision: "bf16"}, {VAEPrecision: "half"}} {
		if _, err := Open(o); err == nil {
			t.Errorf("%+v is accepted", o)
		}
	}
}

// TestTypes checks that the graphs of a GPU have their weights in the precision
// that the place says, halves where the file has them.
func TestTypes(t *testing.T) {
	g := &fakeGPU{}
	var sessions []*fakeSession
	g.open = func(s *fakeSession) error {
		sessions = append(sessions, s)
		return nil
	}
	m, vae := g.load(t, Options{})
	if _, err := m.predict(t.Context(), noisy(1, 4, 8, 8), map[string]*tensor.Tensor{"context": noisy(1, 77, m.textWidth)}, 1); err != nil {
		t.Fatal(err)
	}
	if _, err := vae.Decode(t.Context(), noisy(1, 4, 8, 8)); err != nil {
		t.Fatal(err)
	}
	if len(sessions) != 2 || !sessions[0].half || sessions[1].half {
		t.Fatalf("sessions %v", g.log)
	}
	inPlace, made := 0, 0
	for _, i := range sessions[0].model.Graph.Initializers {
		switch {
		case i.External == nil || i.Type != onnx.Float16:
		case i.External.Path == m.File():
			inPlace++
		default:
			made++
		}
	}
	if inPlace < 100 || made > 10 {
		t.Errorf("%d halves lie in the file, %d were made", inPlace, made)
	}
}

// TestPlainNorm compares a network whose norms are written as means with one
// whose norms are operators.
func TestPlainNorm(t *testing.T) {
	r, m, _ := patchRuntime(t, "sd15-tiny-fp32")
	plain, err := m.unet.on(nn.Target{PlainNorm: true})
	if err != nil {
		t.Fatal(err)
	}
	in := map[string]*tensor.Tensor{"x": noisy(2, 4, 12, 16), "timesteps": tensor.Full(400, 2), "context": noisy(2, 77, 64)}
	want := runOf(t, r, m.unet, in)
	r.Free()
	compareTo(t, runOf(t, r, plain, in), want, 1e-5)
}
