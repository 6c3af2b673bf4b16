package main

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/comfyrun/comfyrun/engine/queue"
)

// queueFlags are the flags of commands that open a queue.
type queueFlags struct {
	options queue.Options
	memory  bool
}

func (f *queueFlags) add(cmd *cobra.Command) {
	o, flags := &f.options, cmd.Flags()
	flags.StringVar(&o.URL, "nats", "", "URL of a NATS cluster with JetStream that holds the queue, several separated by commas (default in this process)")
	flags.StringVar(&o.Credentials, "nats-credentials", "", "credentials file for --nats")
	flags.StringVar(&o.Name, "queue-name", "", "name of the queue on its NATS servers, letters and digits (default comfyrun)")
	flags.IntVar(&o.Replicas, "queue-replicas", 0, "NATS servers that keep each message (default one)")
	flags.StringVar(&o.Worker, "worker-name", "", "what others see of this process (default the host's name)")
	flags.IntVar(&o.MaxQueued, "max-queued", 0, "prompts that may wait and run; more are answered with 429 (default 10000)")
	flags.IntVar(&o.HistoryMax, "max-history", 0, "finished prompts that are kept (default 10000)")
	flags.IntVar(&o.MaxAttempts, "max-attempts", 0, "executions that may end their process before a prompt counts as failed (default 3)")
	flags.DurationVar(&o.Lease, "lease", 0, "silence after which a worker is taken for dead (default 30s)")
	flags.DurationVar(&o.SyncInterval, "sync-interval", 0,
		"how often the queue in this process writes through to the disk (default before anything is acknowledged)")
	flags.BoolVar(&f.memory, "queue-in-memory", false, "keep the queue in this process's memory, and lose it with it")
}

// check finds combinations that no queue can be opened with.
func (f *queueFlags) check() error {
	switch o := f.options; {
	case f.memory && o.URL != "":
		return usagef("read --queue-in-memory: it excludes --nats")
	case o.URL == "" && o.Credentials != "":
		return usagef("read --nats-credentials: there is no --nats")
	case o.URL == "" && o.Replicas > 1:
		return usagef("read --queue-replicas: there is no --nats")
	case o.MaxQueued < 0, o.HistoryMax < 0, o.MaxAttempts < 0, o.Replicas < 0:
		return usagef("read bounds of the queue: they are not below 0")
	case o.Lease < 0, o.SyncInterval < 0, o.Lease > 0 && o.Lease < time.Second:
		return usagef("read times of the queue: --lease is at least 1s, --sync-interval not below 0")
	}
	return nil
}

// open opens the queue, the one in this process with its files below home.
func (f *queueFlags) open(ctx context.Context, home Home) (*queue.Queue, error) {
	o := f.options
	switch {
	case f.memory:
		o.Memory = true
	case o.URL == "":
		o.Dir = home.Queue()
	}
	q, err := queue.Open(ctx, o)
	if err != nil {
		return nil, fmt.Errorf("open queue: %w", err)
	}
	return q, nil
}
