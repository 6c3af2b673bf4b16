package main

import (
	"context"
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

// machine is what runs workflows in this process: model folders, ONNX Runtime, node types and results that were kept.
type machine struct {
	dirs      nodes.Dirs
	outputs   *outputStore // nil: pictures stay in the output folder
	folders   *models.Folders
	digests   weights.Digests
	diffusion *diffusion.Runtime
	catalog   *engine.Catalog
	nodeFlags *nodeFlags // what catalog was made with
	defined   *definitions.Set
	runner    *engine.Runner
	sums      map[string]string // of model files that runs used before, by path

	loaded func(path string, took time.Duration) // is told of networks that were loaded; nil: nobody is
}

// machineFlags are the flags of every command that runs workflows.
type machineFlags struct {
	models        modelFlags
	nodes         nodeFlags
	input         string
	device        string
	threads       int
	noWeightCache bool
	outputs       string // where copies of saved pictures go; not every command has a flag for it
}

func (f *machineFlags) add(cmd *cobra.Command) {
	f.models.add(cmd)
	f.nodes.add(cmd)
	addLibraryFlag(cmd)
	flags := cmd.Flags()
	flags.StringVar(&f.input, "input", "", "folder of the pictures that workflows load (default home's input)")
	flags.StringVar(&f.device, "device", "cpu", "where to run: cpu")
	flags.IntVar(&f.threads, "threads", 0, "threads to compute with (default one per physical core)")
	flags.BoolVar(&f.noWeightCache, "no-weight-cache", false, "keep converted weights in memory only")
}

// check finds values that no machine can be made of.
func (f *machineFlags) check() error {
	if f.threads < 0 {
		return usagef("read --threads: %d is below 0", f.threads)
	}
	return nil
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

// resultBytes bounds the node results that are kept from run to run.
const resultBytes = 1 << 30

// open puts a machine together. ONNX Runtime and the models are opened by the nodes that use them.
func (f *machineFlags) open(cmd *cobra.Command, output string) (*machine, error) {
	home, err := homeOf(cmd)
	if err != nil {
		return nil, err
	}
	m := &machine{nodeFlags: &f.nodes, runner: &engine.Runner{Cache: &engine.Cache{MaxBytes: resultBytes}}}
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
	m.diffusion, err = diffusion.Open(diffusion.Options{
		Library: func() (string, error) { return libraryOf(cmd) },
		Device:  f.device, Threads: f.threads, Cache: cache, Digests: &m.digests, Embedding: nodes.EmbeddingFinder(m.folders),
		Loaded: func(path string, took time.Duration) {
			if m.loaded != nil {
				m.loaded(path, took)
			}
		},
	})
	if err != nil {
		return nil, asUsage(err)
	}
	m.catalog, err = nodes.Catalog(&nodes.Runtime{Diffusion: m.diffusion, Models: m.folders, Dirs: m.dirs})
	if err != nil {
		return nil, err
	}
	m.defined, err = f.nodes.define(home, m.catalog)
	return m, err
}

func (m *machine) close() error {
	if m.diffusion == nil {
		return nil
	}
	return m.diffusion.Close()
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
