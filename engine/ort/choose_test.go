package ort

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/comfyrun/comfyrun/engine/ort/gpu"
)

// machine is what a test's chooser finds.
type machine struct {
	driver    string
	cuda      gpu.Version
	gpus      []gpu.GPU
	noDriver  error
	adapters  []gpu.Adapter
	libraries map[string]string // by provider
	broken    map[string]string // why a device does not work, by name
	loaded    string            // library that the process has loaded
}

func (m *machine) chooser() chooser {
	return chooser{
		nvidia: func() (*gpu.Nvidia, error) {
			return &gpu.Nvidia{Driver: m.driver, CUDA: m.cuda, GPUs: m.gpus}, m.noDriver
		},
		adapters: func() ([]gpu.Adapter, error) {
			if m.adapters == nil {
				return nil, errors.New("no Vulkan")
			}
			return m.adapters, nil
		},
		find: func(provider string) (string, error) {
			if path, ok := m.libraries[provider]; ok {
				return path, nil
			}
			return "", &Error{Op: "find library", Code: CodeLibrary, Message: provider + " is not installed"}
		},
		try: func(_ context.Context, library string, d Device) (*Capabilities, error) {
			if m.loaded != "" && m.loaded != library {
				return nil, fmt.Errorf("%s: this process has already loaded %s", library, m.loaded)
			}
			m.loaded = library
			if why, ok := m.broken[d.String()]; ok {
				return nil, errors.New(why)
			}
			return &Capabilities{Float16: d.Provider == "cuda", Attention: true}, nil
		},
		loaded: func() string { return m.loaded },
	}
}

var (
	h100   = gpu.GPU{Name: "H100", Capability: gpu.Version{Major: 9}, Total: 80, Free: 70}
	pascal = gpu.GPU{Index: 1, Name: "GTX 1080", Capability: gpu.Version{Major: 6, Minor: 1}}
	radeon = gpu.Adapter{Name: "Radeon", Kind: gpu.Discrete, Memory: 16}
	swift  = gpu.Adapter{Name: "SwiftShader", Kind: gpu.Software, Memory: 2}
	cuda13 = gpu.Version{Major: 13}
)

func server() *machine {
	return &machine{driver: "580.65.06", cuda: cuda13, gpus: []gpu.GPU{h100, pascal}, adapters: []gpu.Adapter{radeon, swift},
		libraries: map[string]string{"cpu": "lib", "webgpu": "lib", "cuda": "lib/cuda"}}
}

func bare() *machine {
	return &machine{noDriver: fmt.Errorf("%w: no file", gpu.ErrNoDriver), libraries: map[string]string{"cpu": "lib", "webgpu": "lib"}}
}

func TestChoose(t *testing.T) {
	cpu := &Choice{Device: Device{Provider: "cpu"}, Library: "lib", Capabilities: &Capabilities{Attention: true}}
	cuda := &Choice{Device: Device{Provider: "cuda"}, Library: "lib/cuda",
		Capabilities: &Capabilities{Name: "H100", Float16: true, Attention: true, Total: 80, Free: 70}}
	vulkan := func(name string, software bool, total int64) *Choice {
		return &Choice{Device: Device{Provider: "webgpu"}, Library: "lib",
			Capabilities: &Capabilities{Name: name, Software: software, Attention: true, Total: total}}
	}
	for name, c := range map[string]struct {
		want     string
		m        *machine
		change   func(*machine)
		choice   *Choice
		rejected []string
	}{
		"cpu":              {"cpu", server(), nil, cpu, nil},
		"default":          {"", server(), nil, cpu, nil},
		"cuda":             {"cuda", server(), nil, cuda, nil},
		"software adapter": {"webgpu", bare(), func(m *machine) { m.adapters = []gpu.Adapter{swift} }, vulkan("SwiftShader", true, 2), nil},
		"auto, server":     {"auto", server(), nil, cuda, nil},
		"auto, old GPU first": {"auto", server(), func(m *machine) {
			second := h100
			second.Index = 1
			m.gpus = []gpu.GPU{{Name: "GTX 1080", Capability: gpu.Version{Major: 6}}, second}
		}, &Choice{Device: Device{Provider: "cuda", Index: 1}, Library: "lib/cuda", Capabilities: cuda.Capabilities}, nil},
		"auto, bare": {"auto", bare(), nil, cpu, []string{
			"cuda:0: no NVIDIA driver: no file; install a driver of version 580 or newer, which CUDA 13 needs", "webgpu: no Vulkan"}},
		"auto, only software": {"auto", bare(), func(m *machine) { m.adapters = []gpu.Adapter{swift} }, cpu, []string{
			"cuda:0: no NVIDIA driver", "webgpu: only a software adapter (SwiftShader)"}},
		"auto, no CUDA": {"auto", bare(), func(m *machine) { m.adapters = []gpu.Adapter{radeon} }, vulkan("Radeon", false, 16), []string{"cuda:0: "}},
		"auto, not installed": {"auto", server(), func(m *machine) { delete(m.libraries, "cuda") }, vulkan("Radeon", false, 16),
			[]string{"cuda:0: find library: cuda is not installed"}},
		"auto, back from CUDA": {"auto", server(), func(m *machine) { m.broken = map[string]string{"cuda:0": "out of order"} },
			&Choice{Device: Device{Provider: "cpu"}, Library: "lib/cuda", Capabilities: &Capabilities{Attention: true}},
			[]string{"cuda:0: out of order", "webgpu: lib: this process has already loaded lib/cuda"}},
	} {
		t.Run(name, func(t *testing.T) {
			if c.change != nil {
				c.change(c.m)
			}
			ch := c.m.chooser()
			got, err := ch.choose(t.Context(), c.want)
			if err != nil {
				t.Fatal(err)
			}
			for i, r := range got.Rejected {
				if len(got.Rejected) != len(c.rejected) || !strings.HasPrefix(r.String(), c.rejected[i]) {
					t.Errorf("rejected %q, want %q", got.Rejected, c.rejected)
				}
			}
			if len(got.Rejected) < len(c.rejected) {
				t.Errorf("nothing rejected, want %q", c.rejected)
			}
			got.Rejected = nil
			if diff := cmp.Diff(c.choice, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestChooseRefuses(t *testing.T) {
	old := server()
	old.driver, old.cuda = "550.54.15", gpu.Version{Major: 12, Minor: 4}
	hidden := server()
	hidden.gpus, hidden.noDriver = nil, errors.New("no CUDA-capable device")
	broken := server()
	broken.broken = map[string]string{"cuda:0": "computes wrong"}
	container := bare()
	container.noDriver = fmt.Errorf("%w: no file", gpu.ErrNotVisible)
	empty := bare()
	delete(empty.libraries, "cpu")
	for _, c := range []struct {
		want string
		m    *machine
		code Code
		text string
	}{
		{"cuda", bare(), CodeDevice, "use device cuda:0: no NVIDIA driver: no file; install a driver of version 580 or newer"},
		{"cuda", container, CodeDevice, "use device cuda:0: no NVIDIA driver visible: no file"},
		{"cuda", old, CodeDevice, "NVIDIA's driver 550.54.15 knows CUDA 12.4 at most; install a driver of version 580"},
		{"cuda:1", server(), CodeDevice, "use device cuda:1: GTX 1080 has compute capability 6.1; CUDA 13 needs 7.5 or higher"},
		{"cuda:2", server(), CodeDevice, "no such GPU; there are cuda:0 H100, cuda:1 GTX 1080"},
		{"cuda", hidden, CodeDevice, "no CUDA-capable device"},
		{"cuda", broken, CodeDevice, "computes wrong"},
		{"webgpu", bare(), CodeDevice, "use device webgpu: no Vulkan"},
		{"auto", empty, CodeLibrary, "cpu is not installed"},
		{"metal", server(), "", `device "metal" is not known; known are cpu, cuda, cuda:N and webgpu, and auto`},
	} {
		ch := c.m.chooser()
		choice, err := ch.choose(t.Context(), c.want)
		var known *Error
		if errors.As(err, &known); choice != nil || err == nil || !strings.Contains(err.Error(), c.text) || (known == nil) != (c.code == "") {
			t.Errorf("%s: %v, error %v, want %q", c.want, choice, err, c.text)
			continue
		}
		if known != nil && known.Code != c.code {
			t.Errorf("%s: code %s, want %s", c.want, known.Code, c.code)
		}
	}
}

// A context that ends is told as such, and no device is blamed.
func TestChooseStops(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	m := server()
	ch := m.chooser()
	ch.try = func(context.Context, string, Device) (*Capabilities, error) {
		cancel()
		return nil, ctx.Err()
	}
	for _, want := range []string{"auto", "cuda"} {
		choice, err := ch.choose(ctx, want)
		if choice != nil || !errors.Is(err, context.Canceled) {
			t.Errorf("%s: %v, error %v", want, choice, err)
		}
	}
}

func TestUsableGPUs(t *testing.T) {
	m := server()
	usable, rejected, err := usableGPUs(&gpu.Nvidia{CUDA: m.cuda, GPUs: m.gpus}, nil)
	if err != nil || len(usable) != 1 || usable[0].String() != "cuda:0" || len(rejected) != 1 || rejected[0].Device.Index != 1 {
		t.Errorf("%v, %v, %v", usable, rejected, err)
	}
	_, _, err = usableGPUs(&gpu.Nvidia{}, gpu.ErrNoDriver)
	if known := new(Error); !errors.As(err, &known) || known.Code != CodeDevice {
		t.Errorf("error %v", err)
	}
}
