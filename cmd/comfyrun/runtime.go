package main

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/comfyrun/comfyrun/engine/ort"
)

// addLibraryFlag adds the flag that names the ONNX Runtime library; every command that runs workflows has it.
func addLibraryFlag(cmd *cobra.Command) {
	cmd.Flags().String("library", "", "ONNX Runtime library, file or folder (default beside the program, then home's lib)")
}

// libraryOf returns the path of the library for the CPU: the one that --library names, or the first found beside the
// program, in home's lib folder and in the default home's.
func libraryOf(cmd *cobra.Command) (string, error) {
	find, err := librariesOf(cmd)
	if err != nil {
		return "", err
	}
	return find("cpu")
}

// librariesOf returns what finds the library for a provider, as ort.Choose wants it.
func librariesOf(cmd *cobra.Command) (find func(provider string) (string, error), err error) {
	explicit, err := cmd.Flags().GetString("library")
	if err != nil {
		return nil, fmt.Errorf("read flag --library: %w", err)
	}
	home, err := homeOf(cmd)
	if err != nil {
		return nil, err
	}
	program, err := os.Executable()
	if err == nil {
		program, err = filepath.EvalSymlinks(program)
	}
	if err != nil {
		program = "" // the other folders may still have it
	}
	dirs := ort.SearchDirs(program, home.Lib(), Home(defaultHome()).Lib())
	return func(provider string) (string, error) { return ort.FindFor(provider, explicit, dirs...) }, nil
}

func runtimeCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "runtime", Short: "Install and describe the ONNX Runtime library"}
	cmd.AddCommand(runtimeInfoCommand(), runtimeInstallCommand())
	return cmd
}

const runtimeInstallHelp = `Install puts the ONNX Runtime release that this program is tested with into a folder of the user's; nothing is installed
system-wide. The library comes out of a package that npm or, without npm, pip fetches with the configuration they have,
and is checked against sha256 digests built into the program. A library that is there already and fits is kept.

npm's build for x86-64 can use WebGPU (Vulkan), too: --provider webgpu insists on it. --provider cuda fetches the build for
NVIDIA's GPUs and the libraries of CUDA 13 and cuDNN 9 that it needs, 1.2 GB of packages and 1.6 GB when installed, into the
folder "cuda" in the library's folder, with pip. The driver is not among them. NVIDIA's libraries come under NVIDIA's
licence terms, which are put beside them: LICENSE.cuda and LICENSE.cudnn. What is there and fits is kept, so that an
installation that was interrupted is taken up again by the same command.`

// runtimeInstall is the command line of runtime install.
type runtimeInstall struct {
	dir, provider  string
	dryRun, asJSON bool
	options        ort.InstallOptions
}

func runtimeInstallCommand() *cobra.Command {
	var o runtimeInstall
	cmd := &cobra.Command{
		Use:   "install",
		Short: "Fetch the pinned library with npm or pip",
		Long:  runtimeInstallHelp,
		Args:  cobra.NoArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return o.run(cmd) },
	}
	cmd.Flags().StringVar(&o.dir, "dir", "", "folder for the library (default home's lib)")
	cmd.Flags().StringVar(&o.provider, "provider", "cpu", "what to compute on: cpu, webgpu or cuda")
	cmd.Flags().StringVar(&o.options.Source, "source", "", "npm or pip (default the first that works)")
	cmd.Flags().StringVar(&o.options.Arch, "arch", "", "amd64 or arm64 (default this machine's)")
	cmd.Flags().BoolVarP(&o.dryRun, "dry-run", "n", false, "print what would be fetched, with its digests")
	cmd.Flags().BoolVar(&o.asJSON, "json", false, "print JSON")
	return cmd
}

func (o *runtimeInstall) run(cmd *cobra.Command) error {
	if o.dir == "" {
		home, err := homeOf(cmd)
		if err != nil {
			return err
		}
		o.dir = home.Lib()
	}
	only := map[string]string{"cpu": "", "webgpu": "npm", "cuda": "pip"}
	source, ok := only[o.provider]
	if !ok {
		return usagef("--provider %s is not known; known are cpu, webgpu and cuda", o.provider)
	}
	if source != "" && o.options.Source != "" && o.options.Source != source {
		return usagef("--provider %s comes from %s, not from %s", o.provider, source, o.options.Source)
	}
	if o.provider == "cuda" {
		return o.cuda(cmd)
	}
	o.options.Source = cmp.Or(o.options.Source, source)
	if o.dryRun {
		return printPlan(cmd.OutOrStdout(), o.options, o.asJSON)
	}
	done, err := ort.Install(cmd.Context(), o.dir, o.options)
	if err != nil {
		return err
	}
	return printInstalled(cmd.OutOrStdout(), done, o.asJSON)
}

func printPlan(w io.Writer, options ort.InstallOptions, asJSON bool) error {
	plan, err := options.Plan()
	if err != nil {
		return err
	}
	if asJSON {
		return printJSON(w, plan)
	}
	for _, p := range plan {
		fmt.Fprintf(w, "%s %s for %s/%s\n  sha256 %s\n  %s\n  sha256 %s\n",
			p.Source, p.Package, p.OS, p.Arch, p.Archive, p.Member, p.Library)
	}
	return nil
}

func printInstalled(w io.Writer, done *ort.Installed, asJSON bool) error {
	if asJSON {
		return printJSON(w, done)
	}
	what := "already installed"
	if done.New {
		what = "installed"
	}
	_, err := fmt.Fprintf(w, "%s %s (ONNX Runtime %s, %s's build)\n", what, done.Path, ort.Version, done.Source)
	return err
}

func printJSON(w io.Writer, v any) error {
	encoder := json.NewEncoder(w)
	encoder.SetIndent("", "  ")
	return encoder.Encode(v)
}
