package main

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/spf13/cobra"

	"github.com/comfyrun/comfyrun/engine"
	"github.com/comfyrun/comfyrun/engine/queue"
	"github.com/comfyrun/comfyrun/engine/worker"
)

// runFlags are the flags of serve and worker, which run prompts until they are told to stop.
type runFlags struct {
	machineFlags
	queue    queueFlags
	output   string
	warmup   pathsFlag
	drain    time.Duration
	limit    time.Duration
	previews worker.PreviewOptions
	logs     logFlags
}

func (f *runFlags) add(cmd *cobra.Command) {
	f.machineFlags.add(cmd)
	f.queue.add(cmd)
	f.logs.add(cmd)
	flags := cmd.Flags()
	flags.StringVar(&f.output, "output", "", "folder of the pictures that workflows save (default home's output)")
	flags.Var(&f.warmup, "warmup", "workflow that is run, without keeping its pictures, before prompts are; may be repeated")
	flags.DurationVar(&f.drain, "drain-timeout", 30*time.Second, "how long a running prompt may take to end after SIGTERM; then it is given back")
	flags.DurationVar(&f.limit, "time-limit", 0, "how long a prompt may run before it fails (default without limit)")
	flags.StringVar(&f.previews.Method, "preview-method", "none", "pictures of unfinished samplings: none, auto, latent2rgb or taesd")
	flags.IntVar(&f.previews.Size, "preview-size", 512, "side of the square that such pictures fit")
}

// check finds values that cannot be run with.
func (f *runFlags) check() error {
	switch f.previews.Method {
	case "none", "auto", "latent2rgb", "taesd":
	default:
		return usagef("read --preview-method: %q is none of none, auto, latent2rgb and taesd", f.previews.Method)
	}
	switch {
	case f.previews.Size < 1 || f.previews.Size > 4096:
		return usagef("read --preview-size: %d is not between 1 and 4096", f.previews.Size)
	case f.drain < 0:
		return usagef("read --drain-timeout: %v is below 0", f.drain)
	case f.limit < 0:
		return usagef("read --time-limit: %v is below 0", f.limit)
	}
	return errors.Join(f.machineFlags.check(), f.queue.check(), f.logs.check())
}

// process is what serve and worker have in common.
type process struct {
	home    Home
	machine *machine
	queue   *queue.Queue
	worker  *worker.Worker
	log     *slog.Logger
	drain   time.Duration
}

// open puts a process together. Nothing is answered or taken yet.
func (f *runFlags) open(cmd *cobra.Command) (p *process, err error) {
	p = &process{drain: f.drain, log: f.logs.logger(cmd.ErrOrStderr())}
	if p.home, err = homeOf(cmd); err != nil {
		return nil, err
	}
	output := f.output
	if output == "" {
		output = p.home.Output()
	}
	if p.machine, err = f.machineFlags.open(cmd, output); err != nil {
		return nil, err
	}
	if p.queue, err = f.queue.open(cmd.Context(), p.home); err != nil {
		return nil, errors.Join(err, p.machine.close())
	}
	p.worker = &worker.Worker{
		Queue: p.queue, Catalog: p.catalog, Runner: p.machine.runner,
		Log: p.log, TimeLimit: f.limit, Previews: f.previews,
	}
	return p, nil
}

func (p *process) close() error {
	return errors.Join(p.queue.Close(), p.machine.close())
}

// catalog is the catalogue of this moment. It never changes: lists of files are asked for at each use.
func (p *process) catalog() *engine.Catalog { return p.machine.catalog }

// free forgets models, results, or both.
func (p *process) free(models, results bool) {
	if results {
		p.machine.runner.Cache.Clear()
	}
	if models {
		p.machine.diffusion.Free()
	}
}

// graceful returns a context that goes on for a while when ctx has ended.
func graceful(ctx context.Context, after time.Duration) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithoutCancel(ctx), after)
}
