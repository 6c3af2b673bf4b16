package main

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/comfyrun/comfyrun/engine"
	"github.com/comfyrun/comfyrun/engine/arch"
	"github.com/comfyrun/comfyrun/engine/models"
	"github.com/comfyrun/comfyrun/engine/ort"
	"github.com/comfyrun/comfyrun/engine/weights"
	"github.com/comfyrun/comfyrun/workflows"
)

// Exit codes, as the root command's help states them.
const (
	exitDone        = 0
	exitFailed      = 1
	exitUsage       = 2
	exitModel       = 3
	exitInterrupted = 130
)

// exits is the one table from kinds of error to exit codes; the first row that fits decides, and an error that fits none
// is a failed run.
var exits = []struct {
	fits func(error) bool
	code int
}{
	{is(context.Canceled), exitInterrupted},
	{is(models.ErrMissing), exitModel},
	{is(models.ErrDigest), exitModel},
	{is(weights.ErrFormat), exitModel},
	{as[*arch.UnsupportedError], exitModel},
	{as[usageError], exitUsage},
	{isDevice, exitUsage},
	{as[*workflows.SyntaxError], exitUsage},
	{is(workflows.ErrUIFormat), exitUsage},
	{as[*engine.InvalidError], exitUsage},
}

func is(target error) func(error) bool {
	return func(err error) bool { return errors.Is(err, target) }
}

func as[T error](err error) bool {
	var target T
	return errors.As(err, &target)
}

// isDevice is for devices that were asked for and cannot be used.
func isDevice(err error) bool {
	var e *ort.Error
	return errors.As(err, &e) && e.Code == ort.CodeDevice
}

// report prints err, once, and returns the exit code of its kind.
func report(w io.Writer, err error) int {
	if err == nil {
		return exitDone
	}
	fmt.Fprintf(w, "comfyrun: %v\n", err)
	for _, row := range exits {
		if row.fits(err) {
			return row.code
		}
	}
	return exitFailed
}
