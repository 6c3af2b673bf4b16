package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/comfyrun/comfyrun/charts"
	"github.com/comfyrun/comfyrun/engine/models"
	"github.com/comfyrun/comfyrun/nodes/definitions"
	"github.com/comfyrun/comfyrun/workflows/ui"
)

// bundleFlags are the flags of bundle.
type bundleFlags struct {
	convert convertFlags
	output  string
	check   string
	record  charts.Record
}

const bundleHelp = `Bundle writes workflows as Kubernetes ConfigMaps: one each, immutable and named by its content, so that a workflow that changes
is another ConfigMap and the one before it stays for going back. Definitions of nodes that they use, found in the folders of
--nodes, are one more each, and with --lock so is the part of models.lock that they need. A WORKFLOW is a file in either
format, a picture that carries a workflow, or a folder, of which each NAME.json is taken; a sidecar NAME.params.toml beside
a file goes with it. The same input gives the same bytes on every machine.

Without --output the ConfigMaps go to the standard output. With it a folder gets a file for each below configmaps/, and
--with adds values for the Helm chart, a component for Kustomize, a release for Helmfile, an Application or ApplicationSet
for Argo CD. What bundle wrote there before and does not write now is removed; a file of another origin is never touched.

--check DIR makes the bundle of a folder anew, from the files that it was made of, and writes nothing; where the folder differs, the
differences are shown and the exit code is 1. docs/bundles.md has examples.`

func bundleCommand() *cobra.Command {
	var flags bundleFlags
	cmd := &cobra.Command{
		Use:   "bundle WORKFLOW…",
		Short: "Write workflows as ConfigMaps and manifests",
		Long:  bundleHelp,
		Example: "  comfyrun bundle workflows/ --lock models.lock -o deploy/bundle --with helm\n" +
			"  comfyrun bundle portrait.json | kubectl apply --server-side -f -\n  comfyrun bundle --check deploy/bundle",
		RunE: func(cmd *cobra.Command, args []string) error { return flags.run(cmd, args) },
	}
	flags.convert.models.add(cmd)
	flags.convert.nodes.add(cmd)
	flags.convert.nodes.named = true // what lies on this machine decides nothing
	f := cmd.Flags()
	f.Lookup("nodes").Usage = "folder of node definitions, *" + definitions.Suffix + ", of which those that workflows use are bundled; may be repeated"
	f.StringArrayVar(&flags.convert.objectInfo, "object-info", nil, "JSON file of node definitions, for files in the editor's format; may be repeated")
	f.StringVarP(&flags.output, "output", "o", "-", "folder to write; - is the standard output")
	f.StringVar(&flags.check, "check", "", "folder to compare with what it was made of")
	f.StringVar(&flags.record.Name, "name", "comfyrun", "name of the bundle, in front of the ConfigMaps' names")
	f.StringVar(&flags.record.Namespace, "namespace", "", "namespace to write into the ConfigMaps")
	f.StringToStringVar(&flags.record.Labels, "label", nil, "NAME=VALUE: label for the ConfigMaps; may be repeated")
	f.StringVar(&flags.record.Lock, "lock", "", "models.lock to take what the workflows need from")
	f.StringSliceVar(&flags.record.Targets.With, "with", nil, strings.Join(charts.TargetNames(), ", ")+": what to write beside the ConfigMaps; may be repeated")
	f.StringVar(&flags.record.Targets.Chart, "chart", "charts/comfyrun", "folder of the Helm chart for helmfile and Argo CD, or its URL for helmfile")
	f.StringVar(&flags.record.Targets.Repo, "repo", "", "URL of the Git repository that Argo CD follows")
	f.StringVar(&flags.record.Targets.Path, "repo-path", "", "path of the output folder in that repository")
	f.StringVar(&flags.record.Targets.Revision, "revision", "HEAD", "branch, tag or commit that Argo CD follows")
	f.StringArrayVar(&flags.record.Targets.Environments, "environment", nil, "NAME[=NAMESPACE]: environment that the ApplicationSet brings the bundle to; may be repeated")
	f.StringSliceVar(&flags.record.Targets.Manual, "manual", nil, "environments that people sync; may be repeated")
	cmd.MarkFlagsMutuallyExclusive("check", "output")
	return cmd
}

func (f *bundleFlags) run(cmd *cobra.Command, args []string) error {
	if f.check != "" {
		return f.runCheck(cmd, args)
	}
	if len(args) == 0 {
		return usagef("bundle: name workflows, or a folder of them")
	}
	slices.Sort(f.record.Targets.With)
	f.record.Targets.With = slices.Compact(f.record.Targets.With)
	if err := f.record.Targets.Check(); err != nil {
		return usagef("bundle: %w", err)
	}
	b, err := f.make(cmd, args)
	if err != nil {
		return err
	}
	if f.output == "-" {
		if len(f.record.Targets.With) > 0 {
			return usagef("bundle: --with needs --output DIR")
		}
		_, err = cmd.OutOrStdout().Write(b.Manifest())
		return err
	}
	if err := f.relate(args); err != nil {
		return err
	}
	files, err := b.Files(f.record)
	if err != nil {
		return usagef("bundle: %w", err)
	}
	return writeBundle(f.output, files)
}

// relate notes what the bundle is made of as seen from its folder, which a clone of the repository keeps.
func (f *bundleFlags) relate(args []string) error {
	folder, err := filepath.Abs(f.output)
	if err != nil {
		return fmt.Errorf("find output folder: %w", err)
	}
	relative := func(file string) string {
		if file == "-" {
			return file
		}
		whole, err := filepath.Abs(file)
		if err != nil {
			return filepath.ToSlash(file)
		}
		if near, err := filepath.Rel(folder, whole); err == nil {
			whole = near
		}
		return filepath.ToSlash(whole)
	}
	all := func(names []string) (near []string) {
		for _, name := range names {
			near = append(near, relative(name))
		}
		slices.Sort(near)
		return slices.Compact(near)
	}
	f.record.Sources, f.record.Nodes, f.record.Info = all(args), all(f.convert.nodes.folders), all(f.convert.objectInfo)
	if f.record.Lock != "" {
		f.record.Lock = relative(f.record.Lock)
	}
	targets := &f.record.Targets
	if !targets.To(charts.ToArgoCD, charts.ToApplicationSet) {
		targets.Revision = ""
	}
	if !targets.To(charts.ToArgoCD, charts.ToApplicationSet, charts.ToHelmfile) {
		targets.Chart = ""
	} else if !strings.Contains(targets.Chart, "://") {
		targets.Chart = relative(targets.Chart)
	}
	return nil
}

// make reads workflows and the lock, and bundles them.
func (f *bundleFlags) make(cmd *cobra.Command, args []string) (*charts.Bundle, error) {
	options := charts.Options{Name: f.record.Name, Namespace: f.record.Namespace, Labels: f.record.Labels}
	if f.record.Lock != "" {
		lock, err := readLock(f.record.Lock, true)
		if err != nil {
			return nil, err
		}
		options.Lock = lock
	}
	files, err := bundledFiles(args)
	if err != nil {
		return nil, err
	}
	reader := sourceReader{stdin: cmd.InOrStdin(), warnings: cmd.ErrOrStderr()}
	reader.definitions = func() (ui.Definitions, error) { return f.convert.definitions(cmd) }
	read, err := reader.readAll(files)
	if err != nil {
		return nil, err
	}
	sources, err := f.sources(cmd, read, &options)
	if err != nil {
		return nil, err
	}
	b, err := charts.New(sources, options)
	if err != nil && !errors.Is(err, models.ErrMissing) {
		return nil, asUsage(err)
	}
	return b, err
}

// isWorkflowName says whether a file of this name is a workflow among others, as a server sees it.
func isWorkflowName(name string) bool {
	return strings.HasSuffix(name, ".json") && !strings.HasSuffix(name, definitions.Suffix) && !strings.HasPrefix(name, ".")
}

// bundledFiles lists the files behind arguments: a folder stands for each NAME.json in it.
func bundledFiles(args []string) ([]string, error) {
	var files []string
	for _, arg := range args {
		info, err := os.Stat(arg)
		if arg == "-" || err != nil || !info.IsDir() {
			files = append(files, arg) // the reader says what is wrong with it
			continue
		}
		entries, err := os.ReadDir(arg)
		if err != nil {
			return nil, usagef("read folder of workflows: %w", err)
		}
		before := len(files)
		for _, e := range entries {
			file := filepath.Join(arg, e.Name())
			if info, err := os.Stat(file); isWorkflowName(e.Name()) && (err != nil || !info.IsDir()) {
				files = append(files, file)
			}
		}
		if len(files) == before {
			return nil, usagef("read folder of workflows: %s has no NAME.json", arg)
		}
	}
	return files, nil
}
