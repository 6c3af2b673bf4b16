package ort

import (
	"context"
	"fmt"
	"path/filepath"

	"github.com/comfyrun/comfyrun/engine/ort/gpu"
)

// Info describes a library: what it is and what works on this machine.
type Info struct {
	Path      string     `json:"path"`
	Version   string     `json:"version"`
	SHA256    string     `json:"sha256"`
	Pin       string     `json:"pin"` // source of the pinned build that it is, or "other"
	Providers []Provider `json:"providers"`
}

// Provider is an execution provider compiled into the library.
type Provider struct {
	Name  string `json:"name"`
	State string `json:"state"` // "works", with what was found out; "failed: …", or why it was not tried
}

// Inspect opens the library and describes it. Each provider that this build
// uses is tried with small graphs.
func Inspect(ctx context.Context, library string) (*Info, error) {
	env, err := Open(library)
	if err != nil {
		return nil, err
	}
	sum, err := digest(env.Library())
	if err != nil {
		return nil, fmt.Errorf("inspect library: %w", err)
	}
	info := &Info{Path: env.Library(), Version: env.Version(), SHA256: sum, Pin: pinOf(sum)}
	for _, name := range env.Providers() {
		info.Providers = append(info.Providers, Provider{Name: name, State: env.state(ctx, name)})
	}
	return info, ctx.Err()
}

// pinOf returns the source of the pinned library with a digest, or "other".
func pinOf(sum string) string {
	for _, p := range pins {
		if p.Library == sum {
			return p.Source
		}
	}
	for _, w := range cudaWheels {
		for _, m := range w.Members {
			if m.SHA256 == sum {
				return "pip, for CUDA"
			}
		}
	}
	return "other"
}

// state tries a provider, given by the library's word.
func (e *Env) state(ctx context.Context, name string) string {
	for _, d := range []Device{{Provider: "cpu"}, {Provider: "cuda"}, {Provider: "webgpu"}} {
		if d.word() != name {
			continue
		}
		if d.Provider == "cuda" && !hasCUDA(filepath.Dir(e.library)) {
			return "in a library of its own: comfyrun runtime install --provider cuda"
		}
		here := func(string) (string, error) { return e.library, nil }
		drivers := gpu.System{}
		c := chooser{nvidia: drivers.Nvidia, adapters: drivers.Adapters, find: here, try: try, loaded: loadedLibrary}
		choice, err := c.device(ctx, d)
		if err != nil {
			return "failed: " + err.Error()
		}
		return "works" + choice.details()
	}
	return "listed, not used by this build"
}

// details says what a device turned out to have.
func (c *Choice) details() string {
	if c.Device.cpu() {
		return ""
	}
	text := " on " + c.Capabilities.Name
	if c.Capabilities.Software {
		text += ", a program on the processor"
	}
	for _, part := range []struct {
		works bool
		name  string
	}{{c.Capabilities.Float16, "half precision"}, {c.Capabilities.Attention, "fused attention"}} {
		if !part.works {
			text += ", without " + part.name
		}
	}
	return text
}
