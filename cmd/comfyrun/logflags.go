package main

import (
	"io"
	"log/slog"

	"github.com/spf13/cobra"
)

// logFlags say what a long-running command logs.
type logFlags struct {
	level  slog.Level
	text   string
	format string
}

func (f *logFlags) add(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.text, "log-level", "info", "what is logged: debug, info, warn or error")
	cmd.Flags().StringVar(&f.format, "log-format", "json", "how it is logged: json or text")
}

func (f *logFlags) check() error {
	if f.format != "json" && f.format != "text" {
		return usagef("read --log-format: %q is neither json nor text", f.format)
	}
	if err := f.level.UnmarshalText([]byte(f.text)); err != nil {
		return usagef("read --log-level: %w", err)
	}
	return nil
}

// logger writes lines to w.
func (f *logFlags) logger(w io.Writer) *slog.Logger {
	options := &slog.HandlerOptions{Level: f.level}
	if f.format == "text" {
		return slog.New(slog.NewTextHandler(w, options))
	}
	return slog.New(slog.NewJSONHandler(w, options))
}
