package main

import (
	"io"
	"log/slog"

	"github.com/spf13/cobra"

	"github.com/comfyrun/comfyrun/engine/logging"
)

// logFlags say what a long-running command logs.
type logFlags struct{ level, format string }

func (f *logFlags) add(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.level, "log-level", "info", "what is logged: debug, info, warn or error")
	cmd.Flags().StringVar(&f.format, "log-format", "json", "how it is logged: json or text")
}

// logger writes lines to w.
func (f *logFlags) logger(w io.Writer) (*slog.Logger, error) {
	log, err := logging.New(w, f.format, f.level)
	return log, asUsage(err)
}
