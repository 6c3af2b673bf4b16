package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"github.com/comfyrun/comfyrun/engine"
	"github.com/comfyrun/comfyrun/engine/metrics"
	"github.com/comfyrun/comfyrun/engine/models/demo"
	"github.com/comfyrun/comfyrun/engine/queue"
	"github.com/comfyrun/comfyrun/engine/tracing"
	"github.com/comfyrun/comfyrun/engine/worker"
	"github.com/comfyrun/comfyrun/web"
	"github.com/comfyrun/comfyrun/web/remote"
	"github.com/comfyrun/comfyrun/workflows"
)

// runFlags are the flags of serve and worker, which run prompts until they are told to stop.
type runFlags struct {
	machineFlags
	pins     pinFlags
	queue    queueFlags
	output   string
	warmup   pathsFlag
	drain    time.Duration
	limit    time.Duration
	keepTemp time.Duration
	previews worker.PreviewOptions
	logs     logFlags
	noRun    bool // prompts are left to other processes
}

func (f *runFlags) add(cmd *cobra.Command) {
	f.machineFlags.add(cmd)
	f.pins.add(cmd)
	f.queue.add(cmd)
	f.logs.add(cmd)
	flags := cmd.Flags()
	flags.Lookup("device").Usage = "where to run: auto, cpu, webgpu, cuda:N, or cuda for every GPU; several separated by commas run a prompt each"
	flags.StringVar(&f.output, "output", "", "folder of the pictures that workflows save (default home's output)")
	flags.StringVar(&f.outputs, "outputs", "", "s3://BUCKET/PREFIX: object storage that gets a copy of every saved picture, for servers on other machines")
	flags.Var(&f.warmup, "warmup", "workflow that is run, without keeping its pictures, before prompts are; may be repeated")
	flags.DurationVar(&f.drain, "drain-timeout", 30*time.Second, "how long a running prompt may take to end after SIGTERM; then it is given back")
	flags.DurationVar(&f.limit, "time-limit", 0, "how long a prompt may run before it fails (default without limit)")
	flags.DurationVar(&f.keepTemp, "keep-temp", 24*time.Hour, "age at which files of the temp folder, which previews leave, are removed")
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
	case f.keepTemp <= 0:
		return usagef("read --keep-temp: %v is not above 0", f.keepTemp)
	}
	return errors.Join(f.machineFlags.check(), f.queue.check())
}

// process is what serve and worker have in common.
type process struct {
	home    Home
	machine *machine
	models  *pinned
	queue   *queue.Queue
	worker  *worker.Worker
	log     *slog.Logger
	warmup  *warmup
	warm    *web.Condition // that warmup has run; nil: there is none
	temp    time.Duration  // age of previews that are removed
	ready   *web.Readiness
	metrics *metrics.Metrics
	tracer  *tracing.Tracer

	webhooks *remote.Webhooks // nil: nobody is told
}

// open puts a process together. Nothing is answered or taken yet.
func (f *runFlags) open(cmd *cobra.Command) (p *process, err error) {
	p = &process{temp: f.keepTemp}
	if p.log, err = f.logs.logger(cmd.ErrOrStderr()); err != nil {
		return nil, err
	}
	p.ready = &web.Readiness{Log: p.log}
	if p.home, err = homeOf(cmd); err != nil {
		return nil, err
	}
	if p.warmup, err = f.readWarmup(cmd); err != nil {
		return nil, err
	}
	output := f.output
	if output == "" {
		output = p.home.Output()
	}
	f.notice = func(text string) { p.log.Warn(text) }
	if p.machine, err = f.openMachine(cmd, output); err != nil {
		return nil, err
	}
	err = f.openModels(p)
	if err == nil {
		err = p.offerDemo(cmd.Context())
	}
	if err != nil {
		return nil, errors.Join(err, p.machine.close())
	}
	if p.queue, err = f.queue.open(cmd.Context(), p.home); err != nil {
		return nil, errors.Join(err, p.machine.close())
	}
	f.observe(p)
	if p.tracer, err = tracing.FromEnvironment(cmd.Context(), engineVersion()); err != nil {
		return nil, errors.Join(asUsage(err), p.close())
	}
	p.worker = &worker.Worker{
		Queue: p.queue, Runners: p.runners(), Files: p.modelFiles, Prepare: p.prepare, Observe: worker.Observers{p.metrics, p.tracer},
		Log: p.log, TimeLimit: f.limit, Previews: f.previews, Drain: f.drain,
	}
	return p, nil
}

// openMachine makes a machine with a seat for each device, and looks for these unless no prompts are run.
func (f *runFlags) openMachine(cmd *cobra.Command, output string) (_ *machine, err error) {
	if f.devices, err = f.chooseDevices(cmd); err != nil {
		return nil, err
	}
	if f.noRun {
		return f.machineFlags.open(cmd, output)
	}
	return f.openSettled(cmd, output)
}

// runners make the machine's seats places at which prompts run.
func (p *process) runners() (list []*worker.Runner) {
	for _, s := range p.machine.seats {
		p.tracer.Nodes(s.catalog)
		list = append(list, &worker.Runner{
			Device: s.device, Engine: s.runner, Catalog: func() *engine.Catalog { return s.catalog },
			Held:   func(files []string) (named, others int64) { return s.diffusion.Held(files...) },
			Forget: s.forget,
		})
	}
	return list
}

// observe begins to count.
func (f *runFlags) observe(p *process) {
	o := metrics.Options{
		Version: engineVersion(), Queue: p.queue.Stats,
		Cache:   p.machine.results,
		Ready:   func() bool { return p.ready.State().Ready },
		Classes: func(class string) bool { _, ok := p.machine.catalog.Type(class); return ok },
	}
	if !f.noRun {
		o.Devices = p.machine.measured()
	}
	p.metrics = metrics.New(o)
	p.ready.Check("queue reachable", p.queue.Reachable)
}

// offerDemo puts the demo model into the home of somebody who has no checkpoint yet, so that there is something to draw with.
func (p *process) offerDemo(ctx context.Context) error {
	if len(p.machine.folders.Names(demo.Folder)) > 0 {
		return nil
	}
	return ensureDemo(ctx, p.home, p.machine.folders)
}

// work warms up, then runs prompts until ctx ends and the last one with it.
func (p *process) work(ctx context.Context) error {
	if err := p.firstModels(ctx); err != nil {
		return err
	}
	if p.warmup.needed() {
		if err := p.warmup.run(ctx, p, p.machine.folders, func(*workflows.Graph) bool { return true }); err != nil {
			return err
		}
		p.warm.Met()
	}
	var beside sync.WaitGroup
	defer beside.Wait()
	beside.Go(func() { p.sweepTemp(ctx, p.temp) })
	beside.Go(func() { p.followModels(ctx, true) })
	p.log.Info("taking prompts", "devices", p.machine.deviceNames())
	return p.worker.Run(ctx)
}

// answerProbes answers health and metrics on an address of their own.
func (p *process) answerProbes(ctx context.Context, address string) error {
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return asUsage(fmt.Errorf("read --probes-listen: %w", err))
	}
	server := &http.Server{Handler: web.Probes(p.ready, p.metrics.Handler()), ReadHeaderTimeout: answerTime}
	context.AfterFunc(ctx, func() { server.Close() })
	if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("answer probes: %w", err)
	}
	return nil
}

// answerTime is how long answers may take that have been begun when everything else has ended.
const answerTime = 5 * time.Second

// serve answers requests while it works, and to the last, so that clients see their prompts end. It returns when ctx has
// ended and what ran has ended, or been given back.
func (p *process) serve(ctx context.Context, server *http.Server, work func(context.Context) error) error {
	listener, err := net.Listen("tcp", server.Addr)
	if err != nil {
		return asUsage(fmt.Errorf("read --listen: %w", err))
	}
	p.log.Info("listening", "address", listener.Addr().String())
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error {
		if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			return fmt.Errorf("answer requests: %w", err)
		}
		return nil
	})
	context.AfterFunc(ctx, p.ready.Drain)
	group.Go(func() error {
		err := work(ctx)
		end, cancel := context.WithTimeout(context.WithoutCancel(ctx), answerTime)
		defer cancel()
		return errors.Join(err, server.Shutdown(end))
	})
	err = group.Wait()
	p.log.Info("ended")
	return err
}

func (p *process) close() error {
	end, cancel := context.WithTimeout(context.Background(), answerTime)
	defer cancel()
	return errors.Join(p.queue.Close(), p.tracer.Shutdown(end), p.machine.close())
}

// catalog is the catalogue of this moment, the same for all devices. It never changes: lists of files are asked for at each use.
func (p *process) catalog() *engine.Catalog { return p.machine.catalog }

// forget drops models, results, or both.
func (s *seat) forget(models, results bool) {
	if results {
		s.runner.Cache.Clear()
	}
	if models {
		s.diffusion.Free()
	}
}

// measured are the devices, for figures.
func (m *machine) measured() (list []metrics.Device) {
	for _, s := range m.seats {
		list = append(list, metrics.Device{Name: s.device, Loaded: func() int64 { _, all := s.diffusion.Held(); return all }})
	}
	return list
}

// results counts the node results that are kept, and their bytes.
func (m *machine) results() (n int, bytes int64) {
	for _, s := range m.seats {
		n, bytes = n+s.runner.Cache.Len(), bytes+s.runner.Cache.Bytes()
	}
	return n, bytes
}
