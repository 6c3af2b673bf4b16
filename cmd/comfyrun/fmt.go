package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/comfyrun/comfyrun/workflows"
)

// fmtFlags are the flags of fmt.
type fmtFlags struct {
	check, write bool
}

const fmtHelp = `Fmt writes workflow files in their one canonical layout, so that two versions of a workflow differ only where they mean
something else: docs/format.md defines it. Files in the API format and files that the editor saved keep their format and
their meaning; numbers keep their digits. A FILE of - is the standard input.

The result of one FILE goes to the standard output. With -w files are changed in place; with --check they are left alone, and
those that would change are listed and make the exit code 1.`

func fmtCommand() *cobra.Command {
	var flags fmtFlags
	cmd := &cobra.Command{
		Use:     "fmt FILE…",
		Short:   "Write workflow files in their canonical layout",
		Long:    fmtHelp,
		Example: "  comfyrun fmt -w workflows/*.json",
		Args:    cobra.MinimumNArgs(1),
		RunE:    flags.run,
	}
	cmd.Flags().BoolVar(&flags.check, "check", false, "list the files that would change, and change none")
	cmd.Flags().BoolVarP(&flags.write, "write", "w", false, "change files in place")
	cmd.MarkFlagsMutuallyExclusive("check", "write")
	return cmd
}

// errUnformatted is what --check finds.
var errUnformatted = errors.New("not in canonical layout; comfyrun fmt -w changes that")

func (f *fmtFlags) run(cmd *cobra.Command, args []string) error {
	if len(args) > 1 && !f.check && !f.write {
		return usagef("format: %d files need -w or --check", len(args))
	}
	var changed []string
	for _, arg := range args {
		before, err := readText(arg, cmd.InOrStdin())
		if err != nil {
			return usagef("read workflow: %w", err)
		}
		after, err := workflows.Format(before)
		if err != nil {
			return usagef("%s: %w", arg, err)
		}
		same := bytes.Equal(before, after)
		switch {
		case f.check && !same:
			changed = append(changed, arg)
		case f.check || f.write && same:
		case f.write && arg != "-":
			err = writeFile(arg, after)
		default:
			_, err = cmd.OutOrStdout().Write(after)
		}
		if err != nil {
			return fmt.Errorf("write workflow: %w", err)
		}
	}
	if len(changed) > 0 {
		fmt.Fprintln(cmd.OutOrStdout(), strings.Join(changed, "\n"))
		return fmt.Errorf("check format: %d of %d files: %w", len(changed), len(args), errUnformatted)
	}
	return nil
}

// readText reads a file whole; no workflow is larger than what it reads.
func readText(arg string, stdin io.Reader) ([]byte, error) {
	if arg == "-" {
		return io.ReadAll(io.LimitReader(stdin, workflows.MaxBytes+1))
	}
	file, err := os.Open(arg)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	return io.ReadAll(io.LimitReader(file, workflows.MaxBytes+1))
}
