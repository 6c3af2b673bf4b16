package main

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"github.com/comfyrun/comfyrun/charts"
	"github.com/comfyrun/comfyrun/engine/models"
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
is another ConfigMap and the one before it stays for going back. With --lock the part of models.lock that the workflows need is
one more. A WORKFLOW is a file in either format, a picture that carries a workflow, or a folder, of which each NAME.json is
taken; a sidecar NAME.params.toml beside a file goes with it. The same input gives the same bytes on every machine.

Without --output the ConfigMaps go to the standard output. With it a folder gets a file for each below configmaps/, and
--with adds values for the Helm chart, a component for Kustomize, a release for Helmfile, an Application for Argo CD. What
bundle wrote there before and does not write now is removed.

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
	f := cmd.Flags()
	f.StringArrayVar(&flags.convert.objectInfo, "object-info", nil, "JSON file of node definitions, for files in the editor's format; may be repeated")
	f.StringVarP(&flags.output, "output", "o", "-", "folder to write; - is the standard output")
	f.StringVar(&flags.check, "check", "", "folder to compare with what it was made of")
	f.StringVar(&flags.record.Name, "name", "comfyrun", "name of the bundle, in front of the ConfigMaps' names")
	f.StringVar(&flags.record.Namespace, "namespace", "", "namespace to write into the ConfigMaps")
	f.StringToStringVar(&flags.record.Labels, "label", nil, "NAME=VALUE: label for the ConfigMaps; may be repeated")
	f.StringVar(&flags.record.Lock, "lock", "", "models.lock to take what the workflows need from")
	f.StringSliceVar(&flags.record.Targets.With, "with", nil, "argocd, helm, helmfile, kustomize: what to write beside the ConfigMaps; may be repeated")
	f.StringVar(&flags.record.Targets.Chart, "chart", "charts/comfyrun", "folder of the Helm chart for helmfile and argocd, or its URL for helmfile")
	f.StringVar(&flags.record.Targets.Repo, "repo", "", "URL of the Git repository that the Application follows")
	f.StringVar(&flags.record.Targets.Path, "repo-path", "", "path of the output folder in that repository")
	f.StringVar(&flags.record.Targets.Revision, "revision", "HEAD", "branch, tag or commit that the Application follows")
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
		return err
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
	f.record.Sources = nil
	for _, arg := range args {
		f.record.Sources = append(f.record.Sources, relative(arg))
	}
	slices.Sort(f.record.Sources)
	if f.record.Lock != "" {
		f.record.Lock = relative(f.record.Lock)
	}
	if !slices.Contains(f.record.Targets.With, "argocd") {
		f.record.Targets.Revision = ""
	}
	if !slices.ContainsFunc(f.record.Targets.With, func(name string) bool { return name == "argocd" || name == "helmfile" }) {
		f.record.Targets.Chart = ""
	} else if !strings.Contains(f.record.Targets.Chart, "://") {
		f.record.Targets.Chart = relative(f.record.Targets.Chart)
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
	sources, err := f.sources(cmd, read, options.Lock)
	if err != nil {
		return nil, err
	}
	b, err := charts.New(sources, options)
	if err != nil && !errors.Is(err, models.ErrMissing) {
		return nil, asUsage(err)
	}
	return b, err
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
			if strings.HasSuffix(e.Name(), ".json") && !strings.HasPrefix(e.Name(), ".") && !e.IsDir() {
				files = append(files, filepath.Join(arg, e.Name()))
			}
		}
		if len(files) == before {
			return nil, usagef("read folder of workflows: %s has no NAME.json", arg)
		}
	}
	return files, nil
}

// sources completes workflows with their sidecars and the names of their models. Names are completed by the lock only:
// what a machine's folders hold decides nothing.
func (f *bundleFlags) sources(cmd *cobra.Command, read []*source, lock *models.Lock) ([]charts.Source, error) {
	home, err := homeOf(cmd)
	if err != nil {
		return nil, err
	}
	finder, err := newModelFinder(home, &f.convert.nodes)
	if err != nil {
		return nil, err
	}
	var known []string
	if lock != nil {
		for _, e := range lock.Models {
			known = append(known, e.Name)
		}
	}
	var sources []charts.Source
	for _, s := range read {
		uses, err := finder.uses(s.graph, known)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", s.name, err)
		}
		sidecar, err := readSidecar(s.name)
		if err != nil || len(sidecar) == maxSidecar {
			return nil, usagef("read sidecar: %w", cmp.Or(err, fmt.Errorf("that of %s has more than %d KiB", s.name, maxSidecar>>10)))
		}
		base := filepath.Base(s.name)
		bundled := charts.Source{Name: strings.TrimSuffix(base, filepath.Ext(base)), Graph: s.graph, Sidecar: sidecar}
		for _, use := range uses {
			bundled.Models = append(bundled.Models, use.entryName())
		}
		sources = append(sources, bundled)
	}
	return sources, nil
}

// writeBundle brings a folder to the files given. Files of an earlier bundle that are not among them are removed: those
// that its record names, or that have the mark of bundle; nothing else is touched.
func writeBundle(folder string, files []charts.File) error {
	if err := os.MkdirAll(filepath.Join(folder, charts.MapsDir), 0o755); err != nil {
		return fmt.Errorf("make output folder: %w", err)
	}
	stale, err := staleFiles(folder, files)
	if err != nil {
		return err
	}
	var writers errgroup.Group // each waits for the disk
	writers.SetLimit(16)
	for _, file := range files {
		path := filepath.Join(folder, filepath.FromSlash(file.Path))
		if old, err := os.ReadFile(path); err == nil && bytes.Equal(old, file.Data) {
			continue
		}
		writers.Go(func() error { return writeFile(path, file.Data) })
	}
	if err := writers.Wait(); err != nil {
		return fmt.Errorf("write bundle: %w", err)
	}
	for _, name := range stale {
		if err := os.Remove(filepath.Join(folder, filepath.FromSlash(name))); err != nil {
			return fmt.Errorf("remove what the bundle had before: %w", err)
		}
	}
	return nil
}

// staleFiles lists, with forward slashes and sorted, the files of an earlier bundle that are none of these.
func staleFiles(folder string, files []charts.File) ([]string, error) {
	var stale []string
	for _, dir := range []string{"", charts.MapsDir} {
		entries, err := os.ReadDir(filepath.Join(folder, dir))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("read bundle: %w", err)
		}
		for _, e := range entries {
			name := strings.TrimPrefix(dir+"/"+e.Name(), "/")
			if e.IsDir() || slices.ContainsFunc(files, func(f charts.File) bool { return f.Path == name }) {
				continue
			}
			data, err := os.ReadFile(filepath.Join(folder, dir, e.Name()))
			if err == nil && charts.Generated(data) {
				stale = append(stale, name)
			}
		}
	}
	return stale, nil
}
