package main

import (
	"io"
	"log/slog"

	"github.com/spf13/cobra"

	"github.com/comfyrun/comfyrun/engine/logging"
	"github.com/comfyrun/comfyrun/web"
)

// logFlags say what a long-running command logs.
type logFlags struct{ level, format string }

func (f *logFlags) add(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.level, "log-level", "info", "what is logged: debug, info, warn or error")
	cmd.Flags().StringVar(&f.format, "log-format", "json", "how it is logged: json or text")
}

// logger writes lines to w, and keeps the last ones for clients that ask.
func (f *logFlags) logger(w io.Writer) (*slog.Logger, error) {
	log, err := logging.New(w, f.format, f.level)
	if err != nil {
		return nil, asUsage(err)
	}
	return slog.New(web.NewLogTail(log.Handler())), nil
}
