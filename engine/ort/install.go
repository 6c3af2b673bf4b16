package ort

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
)

// InstallOptions says what Install fetches. The zero value fetches this
// build's pinned library for this machine.
type InstallOptions struct {
	OS, Arch string // "" takes this machine's
	Source   string // "npm" or "pip"; "" tries both in this order
	Pins     []Pin  // nil takes Pins()
}

// Installed is what Install did.
type Installed struct {
	Path   string `json:"path"`
	Source string `json:"source"` // where the build comes from: "npm" or "pip"
	New    bool   `json:"new"`    // false: a pinned library was there already
}

// Plan returns the pins that Install would try, in order. It fails for a
// system that no pin is for.
func (o InstallOptions) Plan() ([]Pin, error) {
	table := o.Pins
	if table == nil {
		table = pins
	}
	system, arch := o.OS, o.Arch
	if system == "" {
		system = runtime.GOOS
	}
	if arch == "" {
		arch = runtime.GOARCH
	}
	var plan []Pin
	var supported []string
	for _, p := range table {
		supported = append(supported, p.OS+"/"+p.Arch+" from "+p.Source)
		if p.OS == system && p.Arch == arch && (o.Source == "" || o.Source == p.Source) {
			plan = append(plan, p)
		}
	}
	if plan == nil {
		wanted := system + "/" + arch
		if o.Source != "" {
			wanted += " from " + o.Source
		}
		return nil, fmt.Errorf("install library: no pinned ONNX Runtime for %s; there is one for %s", wanted, strings.Join(supported, ", "))
	}
	return plan, nil
}

// Install puts the pinned library into dir, which it makes when needed. The
// archive comes from the user's own package client, npm or pip, with its
// configuration; archive and library are checked against the pins before the
// library gets its name. A pinned library that is there already is kept.
func Install(ctx context.Context, dir string, o InstallOptions) (*Installed, error) {
	plan, err := o.Plan()
	if err != nil {
		return nil, err
	}
	dir, err = filepath.Abs(dir) // npm and pip run in a folder of their own
	if err != nil {
		return nil, fmt.Errorf("install library: %w", err)
	}
	path := filepath.Join(dir, LibraryName)
	if sum, err := digest(path); err == nil {
		for _, p := range plan {
			if p.Library == sum {
				return &Installed{Path: path, Source: p.Source}, nil
			}
		}
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("install library: %w", err)
	}
	var failures []error
	for _, p := range plan {
		err := installPin(ctx, p, path)
		if err == nil {
			return &Installed{Path: path, Source: p.Source, New: true}, nil
		}
		failures = append(failures, fmt.Errorf("install %s with %s: %w", p.Package, p.Source, err))
		if ctx.Err() != nil {
			break
		}
	}
	return nil, errors.Join(failures...)
}

// installPin fetches, checks and unpacks in a folder beside the target, so
// that the last step is a rename.
func installPin(ctx context.Context, p Pin, path string) error {
	work, err := os.MkdirTemp(filepath.Dir(path), ".install-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(work)
	archive, err := fetch(ctx, p, work)
	if err != nil {
		return err
	}
	if err := checkDigest(archive, p.Archive); err != nil {
		return err
	}
	library := filepath.Join(work, LibraryName)
	if err := unpack(archive, p.Member, library); err != nil {
		return err
	}
	if err := checkDigest(library, p.Library); err != nil {
		return err
	}
	return os.Rename(library, path)
}

func checkDigest(path, want string) error {
	got, err := digest(path)
	if err != nil {
		return err
	}
	if got != want {
		return fmt.Errorf("%s has sha256 %s, want %s", filepath.Base(path), got, want)
	}
	return nil
}
