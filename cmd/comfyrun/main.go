// Command comfyrun runs ComfyUI workflows without Python: it reads a workflow, plans it, runs it through ONNX Runtime and
// writes the pictures. Each file holds one subcommand; root.go lists them, flags.go ties flags to the environment, exit.go
// maps errors to exit codes and home.go names the folders on disk.
package main

import (
	"context"
	"io"
	"os"
	"os/signal"
	"syscall"
)

// version is set by the linker (-X main.version=…); builds without it say "devel".
var version = "devel"

// Stdio is the three streams a run of the program reads and writes.
type Stdio struct {
	In       io.Reader
	Out, Err io.Writer
}

// Run carries out one command line, without the program's name, and returns its exit code. Results go to io.Out; errors,
// once each, to io.Err.
func Run(ctx context.Context, args []string, stdio Stdio) int {
	root := rootCommand()
	root.SetArgs(args)
	root.SetIn(stdio.In)
	root.SetOut(stdio.Out)
	root.SetErr(stdio.Err)
	err := root.ExecuteContext(ctx)
	return report(stdio.Err, err)
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop) // a second interrupt ends the process at once
	os.Exit(Run(ctx, os.Args[1:], Stdio{In: os.Stdin, Out: os.Stdout, Err: os.Stderr}))
}
