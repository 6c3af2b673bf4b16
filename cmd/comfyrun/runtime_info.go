package main

import (
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/comfyrun/comfyrun/engine/ort"
	"github.com/comfyrun/comfyrun/engine/ort/gpu"
)

// runtimeInfo is what runtime info tells.
type runtimeInfo struct {
	*ort.Info
	CUDA string `json:"cuda"` // folder of the library for CUDA, "" where it is not installed
	*ort.Survey
}

func runtimeInfoCommand() *cobra.Command {
	var asJSON bool
	var provider string
	cmd := &cobra.Command{
		Use:   "info",
		Short: "Tell where the library is, which providers work, what GPUs there are and what they lack",
		Long: `Info opens the library that --device=auto would use, or the one for --provider, computes something with each provider in it,
and lists the GPUs that drivers tell of. Where the libraries for CUDA are installed, or asked for, each that they need is tried.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			info, err := collectInfo(cmd, provider)
			if info == nil {
				return err
			}
			if asJSON {
				return errors.Join(printJSON(cmd.OutOrStdout(), info), err)
			}
			return errors.Join(printInfo(cmd.OutOrStdout(), info), err)
		},
	}
	addLibraryFlag(cmd)
	cmd.Flags().StringVar(&provider, "provider", "", "open the library for this: cpu, webgpu or cuda")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

// collectInfo finds out what there is to tell. What is known of GPUs is returned beside the error that no library is found.
func collectInfo(cmd *cobra.Command, provider string) (*runtimeInfo, error) {
	if d, err := ort.ParseDevice(provider); err != nil || provider != "" && d.Provider != provider {
		return nil, usagef("--provider %s is not known; known are cpu, webgpu and cuda", provider)
	}
	find, err := librariesOf(cmd)
	if err != nil {
		return nil, err
	}
	info := &runtimeInfo{}
	cuda, noCUDA := find("cuda")
	if noCUDA == nil {
		info.CUDA = filepath.Dir(cuda)
	}
	info.Survey = ort.LookAround(gpu.System{}, info.CUDA)
	library, err := find("cpu")
	if provider == "cuda" && noCUDA != nil {
		return info, noCUDA
	}
	if provider == "cuda" || noCUDA == nil && provider == "" && info.Usable() {
		library, err = cuda, nil
	}
	if err == nil {
		info.Info, err = ort.Inspect(cmd.Context(), library)
	}
	return info, err
}

func printInfo(w io.Writer, info *runtimeInfo) error {
	table := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	if info.Info != nil {
		fmt.Fprintf(table, "library\t%s\nversion\t%s\nsha256\t%s\nbuild\t%s\n", info.Path, info.Version, info.SHA256, info.Pin)
		for _, p := range info.Providers {
			fmt.Fprintf(table, "provider %s\t%s\n", p.Name, p.State)
		}
	}
	printNvidia(table, info.Survey)
	for _, a := range info.Adapters {
		fmt.Fprintf(table, "vulkan\t%s (%s), Vulkan %s, %s\n", a.Name, a.Kind, a.Vulkan, mebibytes(a.Memory))
	}
	if info.VulkanProblem != "" {
		fmt.Fprintf(table, "vulkan\t%s\n", info.VulkanProblem)
	}
	printParts(table, info)
	return table.Flush()
}

func printNvidia(w io.Writer, s *ort.Survey) {
	if s.Nvidia != nil {
		driver := s.Nvidia.Driver
		if driver == "" {
			driver = "of unknown version"
		}
		fmt.Fprintf(w, "nvidia driver\t%s, for CUDA up to %s\n", driver, s.Nvidia.CUDA)
		for i, g := range s.Nvidia.GPUs {
			free := ""
			if g.Free > 0 {
				free = ", " + mebibytes(g.Free) + " free"
			}
			fmt.Fprintf(w, "cuda:%d\t%s, compute capability %s, %s%s\n", g.Index, g.Name, g.Capability, mebibytes(g.Total), free)
			if s.Refused[i] != "" {
				fmt.Fprintf(w, "\tcannot be used: %s\n", s.Refused[i])
			}
		}
	}
	if s.NvidiaProblem != "" {
		fmt.Fprintf(w, "nvidia\t%s\n", s.NvidiaProblem)
	}
}

// printParts lists what CUDA needs, one line each.
func printParts(w io.Writer, info *runtimeInfo) {
	if info.CUDA == "" {
		fmt.Fprintf(w, "cuda libraries\tnot installed; fetch them with: comfyrun runtime install --provider cuda\n")
		return
	}
	fmt.Fprintf(w, "cuda libraries\t%s\n", info.CUDA)
	for _, p := range info.Libraries {
		fmt.Fprintf(w, "  %s\t%s\n", p.Name, p.State)
	}
}

func mebibytes(n int64) string {
	if n == 0 {
		return "memory not known"
	}
	return fmt.Sprintf("%d MiB", n>>20)
}
