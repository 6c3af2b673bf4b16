package main

import (
	"errors"
	"net/http"
	"time"

	"github.com/spf13/cobra"

	"github.com/comfyrun/comfyrun/web"
)

// workerFlags are the flags of worker.
type workerFlags struct {
	runFlags
	listen string
}

const workerHelp = `Worker takes prompts from a queue in a NATS cluster and runs them, one at a time on each device, beside servers and other workers. It answers
/healthz, /readyz and /metrics, and nothing else. A worker that dies loses its prompt to another one after --lease.

On SIGTERM or an interrupt no more prompts are taken; what runs is finished within --drain-timeout or given back.`

func workerCommand() *cobra.Command {
	var flags workerFlags
	cmd := &cobra.Command{
		Use:     "worker",
		Short:   "Run prompts of a queue that processes share",
		Long:    workerHelp,
		Example: "  comfyrun worker --nats nats://nats:4222 --models /models",
		Args:    cobra.NoArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return flags.run(cmd) },
	}
	flags.runFlags.add(cmd)
	cmd.Flags().StringVar(&flags.listen, "listen", "127.0.0.1:8189", "address of health and metrics, HOST:PORT; port 0 takes a free one")
	return cmd
}

func (f *workerFlags) run(cmd *cobra.Command) error {
	if f.queue.options.URL == "" {
		return usagef("read --nats: a worker needs the queue of a NATS cluster; comfyrun serve runs prompts of its own queue")
	}
	if err := f.check(); err != nil {
		return err
	}
	p, err := f.open(cmd)
	if err != nil {
		return err
	}
	server := &http.Server{Addr: f.listen, Handler: web.Probes(p.ready, p.metrics.Handler()), ReadHeaderTimeout: 10 * time.Second}
	p.expect()
	err = p.serve(cmd.Context(), server, p.work)
	return errors.Join(err, p.close())
}
