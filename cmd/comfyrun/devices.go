package main

import (
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/comfyrun/comfyrun/engine/ort"
	"github.com/comfyrun/comfyrun/engine/ort/gpu"
	"github.com/comfyrun/comfyrun/web"
)

// severalDevices reads --device of commands that run several workflows at a time: devices separated by commas, and cuda for
// every GPU. A device that occurs twice runs two workflows at a time. gpus lists the GPUs; where it finds none, whoever opens
// the device says why. All are of one kind, since a process has one build of ONNX Runtime.
func severalDevices(text string, gpus func() ([]ort.Device, error)) (devices []string, err error) {
	kind := ""
	for name := range strings.SplitSeq(text, ",") {
		name = strings.TrimSpace(name)
		var found []ort.Device
		if name == "cuda" {
			found, _ = gpus()
		}
		for _, d := range found {
			devices = append(devices, d.String())
		}
		if len(found) == 0 {
			devices = append(devices, name)
		}
		provider, _, _ := strings.Cut(name, ":")
		if kind != "" && provider != kind {
			return nil, usagef("read --device: %q names devices of several kinds; a process uses one", text)
		}
		kind = provider
	}
	return devices, nil
}

// usableGPUs are those that --device=cuda stands for.
func usableGPUs() ([]ort.Device, error) {
	usable, _, err := ort.CUDADevices()
	return usable, err
}

// chooseDevices decides what to run prompts on. The best device, auto, is every GPU if it is one of several. Where no prompts
// are run no GPU is looked for.
func (f *runFlags) chooseDevices(cmd *cobra.Command) ([]string, error) {
	if f.noRun {
		devices, err := severalDevices(f.device, func() ([]ort.Device, error) { return nil, nil })
		return devices[:min(1, len(devices))], err
	}
	if f.device != ort.Auto {
		return severalDevices(f.device, usableGPUs)
	}
	gpus, err := usableGPUs()
	if err != nil || len(gpus) < 2 {
		return []string{ort.Auto}, nil // whoever opens it chooses, and says what
	}
	best, err := chooser(cmd)(cmd.Context(), ort.Auto)
	if err != nil || best.Device.Provider != "cuda" {
		return []string{ort.Auto}, nil
	}
	f.notice("device: every GPU that cuda can use, the first is " + best.Capabilities.Name)
	return severalDevices("cuda", func() ([]ort.Device, error) { return gpus, nil })
}

// hardware is what drivers say of GPUs. Each is asked once a second at most, and Vulkan's, which tell nothing that changes,
// until they have answered.
type hardware struct {
	nvidia   func() (*gpu.Nvidia, error)
	adapters func() ([]gpu.Adapter, error)

	mu    sync.Mutex
	asked map[string]time.Time // by provider
	gpus  []gpu.GPU
	other []gpu.Adapter
}

// newHardware asks the drivers of this machine.
func newHardware() *hardware {
	drivers := gpu.System{}
	return &hardware{nvidia: drivers.Nvidia, adapters: drivers.Adapters, asked: map[string]time.Time{}}
}

const hardwareAge = time.Second

// ask asks the driver of a device. What it does not tell stays as it was, or unknown.
func (h *hardware) ask(d ort.Device) {
	if time.Since(h.asked[d.Provider]) < hardwareAge {
		return
	}
	h.asked[d.Provider] = time.Now()
	switch d.Provider {
	case "cuda":
		if n, err := h.nvidia(); err == nil {
			h.gpus = n.GPUs
		}
	case "webgpu":
		if len(h.other) == 0 {
			h.other, _ = h.adapters()
		}
	}
}

// describe says what a device is, with the bytes that this process has loaded on it.
func (h *hardware) describe(name string, loaded int64) web.Device {
	h.mu.Lock()
	defer h.mu.Unlock()
	d, err := ort.ParseDevice(name)
	if err != nil || d.String() == "cpu" {
		return web.Device{Name: name, Type: "cpu"} // its memory is the machine's
	}
	h.ask(d)
	out := web.Device{Name: d.String(), Type: d.Provider, Index: &d.Index, HeldTotal: uint64(loaded)}
	for _, g := range h.gpus {
		if d.Provider == "cuda" && g.Index == d.Index {
			out.Name, out.Total, out.Free = fmt.Sprintf("%s %s", d, g.Name), uint64(g.Total), uint64(g.Free)
		}
	}
	if d.Provider == "webgpu" && len(h.other) > 0 {
		out.Name, out.Total = fmt.Sprintf("%s %s", d, h.other[0].Name), uint64(h.other[0].Memory)
		out.Free = out.Total - min(out.Total, out.HeldTotal) // Vulkan does not tell
	}
	return out
}

// deviceNames lists the device of each seat.
func (m *machine) deviceNames() (names []string) {
	for _, s := range m.seats {
		names = append(names, s.device)
	}
	return names
}

// devices are what prompts run on, each once, for GET /system_stats.
func (m *machine) devices(h *hardware) (list []web.Device) {
	loaded := map[string]int64{}
	for _, s := range m.seats {
		_, all := s.diffusion.Held()
		loaded[s.device] += all
	}
	for _, name := range m.deviceNames() {
		if bytes, first := loaded[name]; first {
			list = append(list, h.describe(name, bytes))
			delete(loaded, name)
		}
	}
	return list
}
