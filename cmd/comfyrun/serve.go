package main

import (
	"context"
	"errors"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"github.com/comfyrun/comfyrun/nodes"
	"github.com/comfyrun/comfyrun/web"
)

// serveFlags are the flags of serve.
type serveFlags struct {
	runFlags
	listen  string
	user    string
	probes  string
	safety  safetyFlags
	options web.Options
}

const serveHelp = `Serve answers ComfyUI's HTTP API and websocket, so that its clients and its editor work unchanged, and a page of its own
at /. Prompts are kept in a durable queue: what was answered with 200 is on the disk, and runs, whatever happens to the process.

With --nats the queue lies in a NATS cluster that many processes share: any of them answers any client, and worker processes
beside them take prompts too. --no-worker leaves the running to those.

On SIGTERM or an interrupt no more prompts are taken; what runs is finished within --drain-timeout or given back.`

func serveCommand() *cobra.Command {
	var flags serveFlags
	cmd := &cobra.Command{
		Use:     "serve",
		Short:   "Serve ComfyUI's API on a durable queue",
		Long:    serveHelp,
		Example: "  comfyrun serve --models ~/ComfyUI/models --frontend ~/venv/lib/python3.12/site-packages/comfyui_frontend_package/static",
		Args:    cobra.NoArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return flags.run(cmd) },
	}
	flags.add(cmd)
	return cmd
}

func (f *serveFlags) add(cmd *cobra.Command) {
	f.runFlags.add(cmd)
	f.safety.add(cmd)
	o, flags := &f.options, cmd.Flags()
	flags.StringVar(&f.listen, "listen", "127.0.0.1:8188", "address to answer on, HOST:PORT; port 0 takes a free one")
	flags.StringVar(&f.probes, "probes-listen", "", "second address, HOST:PORT, of /healthz, /readyz and /metrics without tokens")
	flags.StringVar(&f.user, "user", "", "folder of users' settings and files (default home's user)")
	flags.BoolVar(&f.noRun, "no-worker", false, "accept and list prompts, and leave running them to worker processes")
	flags.StringVar(&o.Frontend, "frontend", "", "folder of ComfyUI's editor, served at /: the static folder of the package comfyui-frontend-package")
	flags.StringVar(&o.Workflows, "workflows", "", "folder of named workflows, each offered as POST /workflows/NAME (docs/named-workflows.md)")
	flags.BoolVar(&o.MultiUser, "multi-user", false, "tell users apart by the comfy-user header")
	flags.StringVar(&o.CORS, "cors", "", "origin whose pages may call this server, * for any (default only its own)")
	flags.BoolVar(&o.Compress, "compress", false, "compress answers for clients that accept it")
	flags.Int64Var(&o.MaxUpload, "max-upload", 0, "bytes that a request's body may have (default 100 MiB)")
}

func (f *serveFlags) run(cmd *cobra.Command) error {
	if err := f.check(); err != nil {
		return err
	}
	p, err := f.open(cmd)
	if err != nil {
		return err
	}
	s, err := f.server(p)
	if err != nil {
		return errors.Join(err, p.close())
	}
	if !f.noRun {
		p.models.named = f.options.Workflows
		p.expect()
	}
	err = p.serve(cmd.Context(), s.HTTPServer(f.listen), f.work(p))
	return errors.Join(err, s.Close(), p.close())
}

// work is what the process does while it answers.
func (f *serveFlags) work(p *process) func(context.Context) error {
	return func(ctx context.Context) error {
		group, ctx := errgroup.WithContext(ctx)
		if f.noRun {
			group.Go(func() error { p.followModels(ctx, false); return nil })
		} else {
			group.Go(func() error { return p.work(ctx) })
		}
		if p.webhooks != nil {
			group.Go(func() error { p.webhooks.Run(ctx); return nil })
		}
		if f.probes != "" {
			group.Go(func() error { return p.answerProbes(ctx, f.probes) })
		}
		<-ctx.Done()
		return group.Wait()
	}
}

// server makes the server of a process.
func (f *serveFlags) server(p *process) (*web.Server, error) {
	o := f.options
	o.Queue, o.Catalog, o.Models, o.Version, o.Log = p.queue, p.catalog, p.machine.folders, engineVersion(), p.log
	o.Dirs = web.Dirs{Input: p.machine.dirs.Input, Output: p.machine.dirs.Output, Temp: p.machine.dirs.Temp, User: f.user}
	if p.machine.outputs != nil {
		o.Copies = p.machine.outputs
	}
	if o.Dirs.User == "" {
		o.Dirs.User = p.home.User()
	}
	if err := f.safety.apply(p, f.listen, &o); err != nil {
		return nil, err
	}
	o.Ready, o.Metrics = p.ready, p.metrics
	if !f.noRun {
		drivers := newHardware()
		o.Devices = func() []web.Device { return p.machine.devices(drivers) }
	}
	o.Free, o.Unsupported, o.Explain = p.worker.Free, nodes.Unsupported, p.explain
	s, err := web.New(o)
	return s, asUsage(err)
}
