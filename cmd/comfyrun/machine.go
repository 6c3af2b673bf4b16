package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/comfyrun/comfyrun/engine"
	"github.com/comfyrun/comfyrun/engine/diffusion"
	"github.com/comfyrun/comfyrun/engine/models"
	"github.com/comfyrun/comfyrun/engine/weights"
	"github.com/comfyrun/comfyrun/nodes"
	"github.com/comfyrun/comfyrun/nodes/definitions"
)

// machine is what runs workflows in this process: folders, and a seat for each device.
type machine struct {
	dirs      nodes.Dirs
	outputs   *outputStore // nil: pictures stay in the output folder
	folders   *models.Folders
	digests   weights.Digests
	nodeFlags *nodeFlags        // what catalogues are made with
	sums      map[string]string // of model files that runs used before, by path

	*seat                                        // the first one: all that a command needs which runs one workflow at a time
	seats  []*seat                               // one for each device, or several for one
	loaded func(path string, took time.Duration) // is told of networks that were loaded; nil: nobody is
	notice func(text string)                     // is told what a user wants to know though it is no failure
}

// seat runs one workflow at a time on a device: ONNX Runtime, node types that use it, and results that were kept. What
// nodes give holds on to the runtime that made it, a model to its sessions, so seats have no results in common.
type seat struct {
	device    string
	diffusion *diffusion.Runtime
	catalog   *engine.Catalog
	defined   *definitions.Set
	runner    *engine.Runner
}

// machineFlags are the flags of every command that runs workflows.
type machineFlags struct {
	models        modelFlags
	nodes         nodeFlags
	input         string
	device        string
	devices       []string // for a command that runs several workflows at a time; empty: device
	compute       computeFlags
	threads       int
	noWeightCache bool
	notice        func(text string) // nil: the standard error
	outputs       string            // where copies of saved pictures go; not every command has a flag for it
}

func (f *machineFlags) add(cmd *cobra.Command) {
	f.models.add(cmd)
	f.nodes.add(cmd)
	addLibraryFlag(cmd)
	flags := cmd.Flags()
	flags.StringVar(&f.input, "input", "", "folder of the pictures that workflows load (default home's input)")
	flags.StringVar(&f.device, "device", "cpu", "where to run: auto, cpu, webgpu, cuda or cuda:N")
	f.compute.add(cmd)
	flags.IntVar(&f.threads, "threads", 0, "threads to compute with (default one per physical core)")
	flags.BoolVar(&f.noWeightCache, "no-weight-cache", false, "keep converted weights in memory only")
}

// check finds values that no machine can be made of.
func (f *machineFlags) check() error {
	if f.threads < 0 {
		return usagef("read --threads: %d is below 0", f.threads)
	}
	return f.compute.check()
}

// dirs returns the folders of pictures; that of the outputs is made.
func (f *machineFlags) dirs(home Home, output string) (nodes.Dirs, error) {
	dirs := nodes.Dirs{Input: f.input, Output: output, Temp: home.Temp()}
	if dirs.Input == "" {
		dirs.Input = home.Input()
	} else if _, err := os.ReadDir(dirs.Input); err != nil {
		return dirs, usagef("read --input: %w", err)
	}
	if err := os.MkdirAll(dirs.Output, 0o755); err != nil {
		return dirs, fmt.Errorf("make output folder: %w", err)
	}
	return dirs, nil
}

// resultBytes bounds the node results that a seat keeps from run to run.
const resultBytes = 1 << 30

// open puts a machine together. ONNX Runtime and the models are opened by the nodes that use them.
func (f *machineFlags) open(cmd *cobra.Command, output string) (*machine, error) {
	home, err := homeOf(cmd)
	if err != nil {
		return nil, err
	}
	m := &machine{nodeFlags: &f.nodes, notice: f.notice}
	if m.notice == nil {
		m.notice = func(text string) { fmt.Fprintln(cmd.ErrOrStderr(), "comfyrun:", text) }
	}
	if m.dirs, err = f.dirs(home, output); err != nil {
		return nil, err
	}
	if f.outputs != "" {
		if m.outputs, err = openOutputs(f.outputs, m.dirs); err != nil {
			return nil, err
		}
		m.dirs.Keep = m.outputs.keep()
	}
	if m.folders, err = f.models.folders(home); err != nil {
		return nil, err
	}
	cache := &weights.Cache{}
	if !f.noWeightCache {
		cache.Dir = home.Weights()
		m.digests.Dir = filepath.Join(home.Weights(), "digests")
	}
	devices := f.devices
	if len(devices) == 0 {
		devices = []string{f.device}
	}
	for _, device := range devices {
		s, err := f.newSeat(cmd, m, device, cache)
		if err != nil {
			return nil, err
		}
		m.seats = append(m.seats, s)
	}
	m.seat = m.seats[0]
	return m, nil
}

// newSeat makes a seat of a machine.
func (f *machineFlags) newSeat(cmd *cobra.Command, m *machine, device string, cache *weights.Cache) (*seat, error) {
	s := &seat{device: device, runner: &engine.Runner{Cache: &engine.Cache{MaxBytes: resultBytes}}}
	o := diffusion.Options{
		Library: func() (string, error) { return libraryOf(cmd) }, Choose: chooser(cmd),
		Device: device, Threads: f.threads, Cache: cache, Digests: &m.digests, Embedding: nodes.EmbeddingFinder(m.folders),
		Loaded: func(path string, took time.Duration) {
			if m.loaded != nil {
				m.loaded(path, took)
			}
		},
		Notice: m.notice, FreeMemory: freeMemory,
	}
	err := f.compute.apply(&o)
	if err != nil {
		return nil, err
	}
	if s.diffusion, err = diffusion.Open(o); err != nil {
		return nil, asUsage(err)
	}
	home, err := homeOf(cmd)
	if err != nil {
		return nil, err
	}
	s.catalog, s.defined, err = f.nodes.catalog(home, &nodes.Runtime{Diffusion: s.diffusion, Models: m.folders, Dirs: m.dirs})
	return s, err
}

// openSettled is open, with devices that are known to work.
func (f *machineFlags) openSettled(cmd *cobra.Command, output string) (*machine, error) {
	m, err := f.open(cmd, output)
	if err != nil {
		return nil, err
	}
	if err := m.settle(cmd.Context()); err != nil {
		return nil, errors.Join(err, m.close())
	}
	return m, nil
}

func (m *machine) close() error {
	var all []error
	for _, s := range m.seats {
		all = append(all, s.diffusion.Close())
	}
	return errors.Join(all...)
}

// modelSum returns the sha256 of a model file. It is taken once per command: the sessions hold the weights as they were.
func (m *machine) modelSum(ctx context.Context, path string) (string, error) {
	if sum, ok := m.sums[path]; ok {
		return sum, nil
	}
	sum, err := m.digests.Digest(ctx, path)
	if err != nil {
		return "", err
	}
	if m.sums == nil {
		m.sums = map[string]string{}
	}
	m.sums[path] = sum
	return sum, nil
}
