package ort

import (
	"context"
	"fmt"
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
	State string `json:"state"` // "works", "failed: …" or "listed, not used by this build"
}

// Inspect opens the library and describes it. The CPU provider is tried with a
// small graph; the others are only listed.
func Inspect(ctx context.Context, library string) (*Info, error) {
	env, err := Open(library)
	if err != nil {
		return nil, err
	}
	sum, err := digest(env.Library())
	if err != nil {
		return nil, fmt.Errorf("inspect library: %w", err)
	}
	info := &Info{Path: env.Library(), Version: env.Version(), SHA256: sum, Pin: "other"}
	for _, p := range pins {
		if p.Library == sum {
			info.Pin = p.Source
		}
	}
	for _, name := range env.Providers() {
		state := "listed, not used by this build"
		if name == "CPU" {
			state = "works"
			if err := env.Check(ctx); err != nil {
				state = "failed: " + err.Error()
			}
		}
		info.Providers = append(info.Providers, Provider{Name: name, State: state})
	}
	return info, nil
}
