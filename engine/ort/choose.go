package ort

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/comfyrun/comfyrun/engine/ort/gpu"
)

// Auto is what Choose takes for "the best device that works".
const Auto = "auto"

// What the CUDA build of the library needs.
var (
	leastCUDA       = gpu.Version{Major: 13}
	leastCapability = gpu.Version{Major: 7, Minor: 5}
)

const leastDriver = "580"

// Choice is a device that works.
type Choice struct {
	Device       Device
	Library      string        // path of the library that runs it
	Capabilities *Capabilities // never nil
	Rejected     []Rejection   // what was tried before it, in this order
}

// Rejection is a device that does not work, or is not worth using.
type Rejection struct {
	Device Device
	Reason string
}

// String returns "cuda:0: no NVIDIA driver".
func (r Rejection) String() string { return r.Device.String() + ": " + r.Reason }

// Choose returns the device that want names, as ParseDevice reads it, or for
// "auto" the first that works of cuda on the first GPU that is new enough,
// webgpu on a GPU, and cpu. Devices are looked for, their libraries loaded, and
// small graphs computed on them. find returns the path of the library for a
// provider ("cpu", "cuda" or "webgpu").
//
// As a process loads one library only, "auto" may come back to the CPU with the
// CUDA library, which computes there as well. A device that was asked for by
// name and does not work is an *Error with CodeDevice, or find's error.
func Choose(ctx context.Context, want string, find func(provider string) (library string, err error)) (*Choice, error) {
	var drivers gpu.System
	c := chooser{nvidia: drivers.Nvidia, adapters: drivers.Adapters, find: find, try: try, loaded: loadedLibrary}
	return c.choose(ctx, want)
}

// CUDADevices returns the GPUs that this build can use, and why it cannot use
// the others.
func CUDADevices() (usable []Device, rejected []Rejection, err error) {
	return usableGPUs(gpu.System{}.Nvidia())
}

// usableGPUs sorts what gpu.Nvidia returned.
func usableGPUs(n *gpu.Nvidia, err error) (usable []Device, rejected []Rejection, _ error) {
	if err := refuseDriver(n, err); err != nil {
		return nil, nil, deviceError(Device{Provider: "cuda"}, err)
	}
	for _, g := range n.GPUs {
		d := Device{Provider: "cuda", Index: g.Index}
		if err := refuseGPU(g); err != nil {
			rejected = append(rejected, Rejection{Device: d, Reason: err.Error()})
			continue
		}
		usable = append(usable, d)
	}
	return usable, rejected, nil
}

// chooser is Choose with its surroundings.
type chooser struct {
	nvidia   func() (*gpu.Nvidia, error)
	adapters func() ([]gpu.Adapter, error)
	find     func(provider string) (string, error)
	try      func(ctx context.Context, library string, d Device) (*Capabilities, error)
	loaded   func() string // library that the process has loaded, ""
}

func (c *chooser) choose(ctx context.Context, want string) (*Choice, error) {
	if want == Auto {
		return c.auto(ctx)
	}
	d, err := ParseDevice(want)
	if err != nil {
		return nil, fmt.Errorf("%w, and %s", err, Auto)
	}
	choice, err := c.device(ctx, d)
	var known *Error
	if err != nil && ctx.Err() == nil && !errors.As(err, &known) {
		return nil, deviceError(d, err)
	}
	return choice, err
}

// auto tries the devices, fastest first.
func (c *chooser) auto(ctx context.Context) (*Choice, error) {
	var rejected []Rejection
	for _, d := range []Device{c.firstGPU(), {Provider: "webgpu"}} {
		choice, err := c.worthwhile(ctx, d)
		if err == nil {
			choice.Rejected = rejected
			return choice, nil
		}
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		rejected = append(rejected, Rejection{Device: d, Reason: err.Error()})
	}
	choice, err := c.cpu(ctx)
	if err != nil {
		return nil, err
	}
	choice.Rejected = rejected
	return choice, nil
}

// firstGPU is the first that can be used, or else the first.
func (c *chooser) firstGPU() Device {
	if usable, _, err := usableGPUs(c.nvidia()); err == nil && len(usable) > 0 {
		return usable[0]
	}
	return Device{Provider: "cuda"}
}

// worthwhile refuses adapters that are programs on the processor: the CPU
// provider is faster.
func (c *chooser) worthwhile(ctx context.Context, d Device) (*Choice, error) {
	if d.Provider == "webgpu" {
		adapters, err := c.adapters()
		if err == nil && adapters[0].Kind == gpu.Software {
			err = fmt.Errorf("only a software adapter (%s), slower than the CPU itself", adapters[0].Name)
		}
		if err != nil {
			return nil, err
		}
	}
	return c.device(ctx, d)
}

func (c *chooser) device(ctx context.Context, d Device) (*Choice, error) {
	switch d.Provider {
	case "cuda":
		return c.cuda(ctx, d)
	case "webgpu":
		return c.webgpu(ctx, d)
	}
	return c.open(ctx, d)
}

// cpu takes the library that a device has made the process load, or looks for
// one.
func (c *chooser) cpu(ctx context.Context) (*Choice, error) {
	d := Device{Provider: "cpu"}
	if library := c.loaded(); library != "" {
		return c.openWith(ctx, d, library)
	}
	return c.open(ctx, d)
}

// open loads the library for a device and computes on the device.
func (c *chooser) open(ctx context.Context, d Device) (*Choice, error) {
	library, err := c.find(d.Provider)
	if err != nil {
		return nil, err
	}
	return c.openWith(ctx, d, library)
}

func (c *chooser) openWith(ctx context.Context, d Device, library string) (*Choice, error) {
	capabilities, err := c.try(ctx, library, d)
	if err != nil {
		return nil, err
	}
	return &Choice{Device: d, Library: library, Capabilities: capabilities}, nil
}

// cuda asks the driver before it looks for the library: without a GPU nobody
// wants to be told to install 2 GB.
func (c *chooser) cuda(ctx context.Context, d Device) (*Choice, error) {
	n, err := c.nvidia()
	if err := refuseDriver(n, err); err != nil {
		return nil, err
	}
	if d.Index >= len(n.GPUs) {
		var names []string
		for _, g := range n.GPUs {
			names = append(names, fmt.Sprintf("cuda:%d %s", g.Index, g.Name))
		}
		return nil, fmt.Errorf("no such GPU; there are %s", strings.Join(names, ", "))
	}
	g := n.GPUs[d.Index]
	if err := refuseGPU(g); err != nil {
		return nil, err
	}
	choice, err := c.open(ctx, d)
	if err != nil {
		return nil, err
	}
	found := choice.Capabilities
	found.Name, found.Total = g.Name, g.Total
	if g.Free > 0 {
		found.Free = g.Free
	}
	return choice, nil
}

func (c *chooser) webgpu(ctx context.Context, d Device) (*Choice, error) {
	adapters, err := c.adapters()
	if err != nil {
		return nil, err
	}
	choice, err := c.open(ctx, d)
	if err != nil {
		return nil, err
	}
	if found := choice.Capabilities; found.Name == "" { // WebGPU takes the fastest kind, too
		found.Name, found.Software, found.Total = adapters[0].Name, adapters[0].Kind == gpu.Software, adapters[0].Memory
	}
	return choice, nil
}

// refuseDriver says what is wrong with NVIDIA's driver, given what gpu.Nvidia
// returned.
func refuseDriver(n *gpu.Nvidia, err error) error {
	const advice = "install a driver of version " + leastDriver + " or newer, which CUDA 13 needs"
	old := n.CUDA != gpu.Version{} && n.CUDA.Less(leastCUDA)
	switch {
	case errors.Is(err, gpu.ErrNoDriver) && !errors.Is(err, gpu.ErrNotVisible):
		return fmt.Errorf("%w; %s", err, advice)
	case old:
		return fmt.Errorf("NVIDIA's driver %s knows CUDA %s at most; %s", n.Driver, n.CUDA, advice)
	}
	return err
}

// refuseGPU says why this build cannot use a GPU.
func refuseGPU(g gpu.GPU) error {
	if g.Capability.Less(leastCapability) {
		return fmt.Errorf("%s has compute capability %s; CUDA 13 needs %s or higher", g.Name, g.Capability, leastCapability)
	}
	return nil
}

func deviceError(d Device, err error) error {
	return &Error{Op: "use device " + d.String(), Code: CodeDevice, Message: err.Error()}
}

// try loads the library and computes on the device.
func try(ctx context.Context, library string, d Device) (*Capabilities, error) {
	env, err := Open(library)
	if err != nil {
		return nil, err
	}
	return env.Probe(ctx, d)
}

// loadedLibrary returns the path of the library that the process has loaded.
func loadedLibrary() string {
	loaded.Lock()
	defer loaded.Unlock()
	if loaded.env == nil {
		return ""
	}
	return loaded.env.library
}
