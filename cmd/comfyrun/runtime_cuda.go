package main

import (
	"fmt"
	"io"
	"runtime"
	"strings"

	"github.com/spf13/cobra"

	"github.com/comfyrun/comfyrun/engine/ort"
)

// cuda installs the library for CUDA and all that belongs to it.
func (o *runtimeInstall) cuda(cmd *cobra.Command) error {
	if arch := o.options.Arch; arch != "" && arch != "amd64" {
		return usagef("--provider cuda: no pinned build for %s/%s; there is one for linux/amd64", runtime.GOOS, arch)
	}
	ctx, out := cmd.Context(), cmd.OutOrStdout()
	if o.dryRun {
		plan, err := ort.PlanCUDA(ctx, o.dir, ort.CUDAOptions{})
		if err != nil {
			return err
		}
		return printCUDAPlan(out, plan, o.asJSON)
	}
	told := false
	say := func(line string) {
		if !told {
			fmt.Fprintln(cmd.ErrOrStderr(), nvidiaTerms)
		}
		told = true
		fmt.Fprintln(cmd.ErrOrStderr(), "fetching "+line)
	}
	done, err := ort.InstallCUDA(ctx, o.dir, ort.CUDAOptions{Say: say})
	if err != nil {
		return err
	}
	if o.asJSON {
		return printJSON(out, done)
	}
	what := "already installed"
	if done.New {
		what = "installed"
	}
	_, err = fmt.Fprintf(out, "%s %s (ONNX Runtime %s for CUDA 13)\n", what, done.Path, ort.Version)
	return err
}

const nvidiaTerms = "NVIDIA's libraries are fetched from PyPI under NVIDIA's licence terms: see LICENSE.cuda and LICENSE.cudnn beside them"

func printCUDAPlan(w io.Writer, plan *ort.InstalledCUDA, asJSON bool) error {
	if asJSON {
		return printJSON(w, plan)
	}
	var b strings.Builder
	for _, wheel := range plan.Missing {
		fmt.Fprintf(&b, "pip %s for %s, %d MB, licence: %s\n  sha256 %s\n", wheel.Package, wheel.Platform, wheel.Bytes/1e6, wheel.Licence, wheel.Archive)
		for _, m := range wheel.Members {
			fmt.Fprintf(&b, "  %s\n  sha256 %s\n", m.Path, m.SHA256)
		}
	}
	fmt.Fprintf(&b, "to fetch: %d MB; free space that it takes: %d MB; there already: %d MB\n", plan.Download/1e6, plan.Disk/1e6, plan.Kept/1e6)
	_, err := io.WriteString(w, b.String())
	return err
}
