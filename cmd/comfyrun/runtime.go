package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"text/tabwriter"

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
and is checked against sha256 digests built into the program. A library that is there already and fits is kept.`

func runtimeInstallCommand() *cobra.Command {
	var dir string
	var dryRun, asJSON bool
	var options ort.InstallOptions
	cmd := &cobra.Command{
		Use:   "install",
		Short: "Fetch the pinned library with npm or pip",
		Long:  runtimeInstallHelp,
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if dryRun {
				return printPlan(cmd.OutOrStdout(), options, asJSON)
			}
			home, err := homeOf(cmd)
			if err != nil {
				return err
			}
			if dir == "" {
				dir = home.Lib()
			}
			done, err := ort.Install(cmd.Context(), dir, options)
			if err != nil {
				return err
			}
			return printInstalled(cmd.OutOrStdout(), done, asJSON)
		},
	}
	cmd.Flags().StringVar(&dir, "dir", "", "folder for the library (default home's lib)")
	cmd.Flags().StringVar(&options.Source, "source", "", "npm or pip (default the first that works)")
	cmd.Flags().StringVar(&options.Arch, "arch", "", "amd64 or arm64 (default this machine's)")
	cmd.Flags().BoolVarP(&dryRun, "dry-run", "n", false, "print what would be fetched, with its digests")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
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

func runtimeInfoCommand() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "info",
		Short: "Tell where the library is, what it is and which providers work",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			path, err := libraryOf(cmd)
			if err != nil {
				return err
			}
			info, err := ort.Inspect(cmd.Context(), path)
			if err != nil {
				return err
			}
			if asJSON {
				return printJSON(cmd.OutOrStdout(), info)
			}
			return printInfo(cmd.OutOrStdout(), info)
		},
	}
	addLibraryFlag(cmd)
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

func printInfo(w io.Writer, info *ort.Info) error {
	table := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	fmt.Fprintf(table, "library\t%s\nversion\t%s\nsha256\t%s\nbuild\t%s\n", info.Path, info.Version, info.SHA256, info.Pin)
	for _, p := range info.Providers {
		fmt.Fprintf(table, "provider %s\t%s\n", p.Name, p.State)
	}
	return table.Flush()
}

func printJSON(w io.Writer, v any) error {
	encoder := json.NewEncoder(w)
	encoder.SetIndent("", "  ")
	return encoder.Encode(v)
}
