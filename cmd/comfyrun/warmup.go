package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"github.com/comfyrun/comfyrun/engine"
	"github.com/comfyrun/comfyrun/engine/models"
	"github.com/comfyrun/comfyrun/nodes"
	"github.com/comfyrun/comfyrun/workflows"
	"github.com/comfyrun/comfyrun/workflows/ui"
)

// warmup is workflows that are run before prompts are, so that the first prompt finds its models loaded.
type warmup struct {
	files  []string
	graphs []*workflows.Graph
}

// readWarmup reads the workflows, in either format: a file that cannot be read keeps a process from starting.
func (f *runFlags) readWarmup(cmd *cobra.Command) (*warmup, error) {
	reader := sourceReader{stdin: strings.NewReader(""), warnings: cmd.ErrOrStderr()}
	reader.definitions = func() (ui.Definitions, error) { return ownDefinitions(cmd, &f.models, &f.nodes) }
	sources, err := reader.readAll(f.warmup)
	if err != nil {
		return nil, usagef("read --warmup: %w", err)
	}
	w := &warmup{files: f.warmup}
	for _, s := range sources {
		w.graphs = append(w.graphs, s.graph)
	}
	return w, nil
}

func (w *warmup) needed() bool { return len(w.graphs) > 0 }

// run runs those of the workflows that are chosen, one after the other, with the models that folders have, on every device:
// on the first one alone, so that weights are converted once, then on the others. Their pictures
// go to a folder that is removed: nobody asked for them, and they would count in the names of those that somebody did. The
// models stay loaded; the results of the nodes are not kept.
func (w *warmup) run(ctx context.Context, p *process, folders *models.Folders, chosen func(*workflows.Graph) bool) error {
	aside, err := os.MkdirTemp("", "comfyrun-warmup-")
	if err != nil {
		return fmt.Errorf("make folder for warm-up: %w", err)
	}
	defer os.RemoveAll(aside)
	dirs := nodes.Dirs{Input: p.machine.dirs.Input, Output: filepath.Join(aside, "output"), Temp: filepath.Join(aside, "temp")}
	var catalogs []*engine.Catalog
	for _, s := range p.machine.seats {
		c, _, err := p.machine.nodeFlags.catalog(p.home, &nodes.Runtime{Diffusion: s.diffusion, Models: folders, Dirs: dirs})
		if err != nil {
			return err
		}
		catalogs = append(catalogs, c)
	}
	if err := w.runOn(ctx, p.log.With("device", p.machine.device), catalogs[0], chosen); err != nil {
		return err
	}
	group, ctx := errgroup.WithContext(ctx)
	for i, s := range p.machine.seats[1:] {
		group.Go(func() error { return w.runOn(ctx, p.log.With("device", s.device), catalogs[i+1], chosen) })
	}
	return group.Wait()
}

// runOn runs the chosen workflows with the nodes of a catalogue.
func (w *warmup) runOn(ctx context.Context, log *slog.Logger, catalog *engine.Catalog, chosen func(*workflows.Graph) bool) error {
	for i, g := range w.graphs {
		if !chosen(g) {
			continue
		}
		started := time.Now()
		if err := runOnce(ctx, g, catalog); err != nil {
			return fmt.Errorf("warm up with %s: %w", w.files[i], err)
		}
		log.Info("warmed up", "workflow", w.files[i], "seconds", time.Since(started).Seconds())
	}
	return nil
}

func runOnce(ctx context.Context, g *workflows.Graph, catalog *engine.Catalog) error {
	plan, err := engine.NewPlan(g, catalog, engine.PlanOptions{})
	if err == nil && plan.Invalid != nil {
		err = plan.Invalid
	}
	if err != nil {
		return err
	}
	_, err = (&engine.Runner{}).Run(ctx, plan, engine.RunOptions{})
	return err
}
