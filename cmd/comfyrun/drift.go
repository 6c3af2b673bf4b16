package main

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/comfyrun/comfyrun/charts"
)

// driftFlags are the flags of drift.
type driftFlags struct {
	kubectl, context, namespace, kubeconfig string
	revision                                string
	configOnly, json                        bool
}

const driftHelp = `Drift compares a namespace of a cluster with a bundle: DIR as it is, or as it was in the commit that --rev names. It asks
kubectl, in its current context unless --context says otherwise, for the bundle's ConfigMaps and for the Deployments and
StatefulSets that mount them. Content is compared, by digest: what names and annotations say proves nothing.

Found are ConfigMaps that are missing, were edited or could be, and workloads that mount another version, or what the
bundle does not have. Earlier versions that nothing mounts are kept for going back, and are no drift.

Exit codes: 0 no drift, 1 drift, 2 it cannot be told.`

func driftCommand() *cobra.Command {
	var flags driftFlags
	cmd := &cobra.Command{
		Use:     "drift DIR",
		Short:   "Compare a cluster with a bundle",
		Long:    driftHelp,
		Example: "  comfyrun drift deploy/bundle\n  comfyrun drift deploy/bundle --rev v1.4.0 --context prod --namespace ai",
		Args:    cobra.ExactArgs(1),
		RunE:    func(cmd *cobra.Command, args []string) error { return flags.run(cmd, args[0]) },
	}
	f := cmd.Flags()
	f.StringVar(&flags.revision, "rev", "", "commit, branch or tag whose bundle to compare with")
	f.StringVar(&flags.kubectl, "kubectl", "kubectl", "program to ask the cluster with")
	f.StringVar(&flags.context, "context", "", "context of kubectl (default its current one)")
	f.StringVar(&flags.namespace, "namespace", "", "namespace (default the bundle's, then the context's)")
	f.StringVar(&flags.kubeconfig, "kubeconfig", "", "configuration of kubectl")
	f.BoolVar(&flags.configOnly, "configmaps-only", false, "do not look at what workloads mount")
	f.BoolVar(&flags.json, "json", false, "write one JSON object")
	return cmd
}

// driftReport is what --json writes.
type driftReport struct {
	Bundle   string           `json:"bundle"`
	Revision string           `json:"revision,omitempty"`
	Drift    bool             `json:"drift"`
	Findings []charts.Finding `json:"findings"`
}

func (f *driftFlags) run(cmd *cobra.Command, folder string) error {
	b, err := f.bundle(cmd, folder)
	if err != nil {
		return asUsage(err)
	}
	cluster, err := f.cluster(cmd, b)
	if err != nil {
		if cmd.Context().Err() != nil {
			return cmd.Context().Err()
		}
		return asUsage(err)
	}
	report := driftReport{Bundle: b.Name, Revision: f.revision, Findings: charts.Drift(b, cluster)}
	drifted := 0
	for _, found := range report.Findings {
		if found.Drifted() {
			drifted++
		}
	}
	report.Drift = drifted > 0
	if f.json {
		err = printJSON(cmd.OutOrStdout(), report)
	} else {
		err = writeDrift(cmd.OutOrStdout(), report.Findings)
	}
	if err == nil && report.Drift {
		err = fmt.Errorf("compare cluster with bundle %s: %d of %d parts differ", b.Name, drifted, len(report.Findings))
	}
	return err
}

func writeDrift(w io.Writer, findings []charts.Finding) error {
	table := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	for _, f := range findings {
		name, notes := f.ConfigMap, []string{}
		switch {
		case name == "":
			name = f.Found
		case f.Found != "" && f.Found != name:
			notes = append(notes, "found "+f.Found)
		}
		if f.Workload != "" {
			notes = append(notes, "mounted by "+f.Workload)
		}
		if f.Detail != "" {
			notes = append(notes, f.Detail)
		}
		cells := []string{string(f.State), f.Subject, name}
		if len(notes) > 0 {
			cells = append(cells, strings.Join(notes, "; "))
		}
		fmt.Fprintln(table, strings.Join(cells, "\t"))
	}
	return table.Flush()
}

// bundle reads the bundle of a folder, as it is or as a commit has it.
func (f *driftFlags) bundle(cmd *cobra.Command, folder string) (*charts.Bundle, error) {
	read := folderFiles
	if f.revision != "" {
		read = func(folder string) (map[string][]byte, error) { return committedFiles(cmd, folder, f.revision) }
	}
	files, err := read(folder)
	if err != nil {
		return nil, fmt.Errorf("read bundle: %w", err)
	}
	data, ok := files[charts.RecordFile]
	if !ok {
		return nil, fmt.Errorf("read bundle: %s has no %s", folder, charts.RecordFile)
	}
	return charts.ReadBundle(data, files)
}

// folderFiles reads the files of a bundle's folder, by their paths in it.
func folderFiles(folder string) (map[string][]byte, error) {
	files := map[string][]byte{}
	names, err := fs.Glob(os.DirFS(folder), charts.MapsDir+"/*.yaml")
	if err != nil {
		return nil, err
	}
	for _, name := range append(names, charts.RecordFile) {
		if files[name], err = os.ReadFile(filepath.Join(folder, filepath.FromSlash(name))); err != nil {
			return nil, err
		}
	}
	return files, nil
}

// committedFiles reads the files of a bundle's folder as a commit has them. The folder need not exist any more; what is
// above it must.
func committedFiles(cmd *cobra.Command, folder, revision string) (map[string][]byte, error) {
	if strings.HasPrefix(revision, "-") {
		return nil, fmt.Errorf("%q is no commit", revision)
	}
	parent, base := filepath.Split(filepath.Clean(folder))
	git := exec.CommandContext(cmd.Context(), "git", "archive", "--format=tar", revision, base)
	if base == "." || base == ".." {
		git.Args[len(git.Args)-1], parent = ".", folder
	}
	git.Dir = parent
	text, err := outputOf(git)
	if err != nil {
		return nil, err
	}
	files := map[string][]byte{}
	for archive := tar.NewReader(bytes.NewReader(text)); ; {
		header, err := archive.Next()
		if errors.Is(err, io.EOF) {
			return files, nil
		}
		if err != nil {
			return nil, fmt.Errorf("read git archive: %w", err)
		}
		if header.Typeflag != tar.TypeReg {
			continue
		}
		if files[strings.TrimPrefix(header.Name, base+"/")], err = io.ReadAll(archive); err != nil {
			return nil, fmt.Errorf("read git archive: %w", err)
		}
	}
}

// cluster asks kubectl.
func (f *driftFlags) cluster(cmd *cobra.Command, b *charts.Bundle) (charts.Cluster, error) {
	var c charts.Cluster
	asked := [][]string{{"configmaps", "--selector", charts.LabelBundle + "=" + b.Name}}
	if !f.configOnly {
		asked = append(asked, []string{"deployments.apps,statefulsets.apps"})
	}
	for _, args := range asked {
		listed, err := f.ask(cmd, b, args...)
		if err == nil {
			err = c.Add(listed)
		}
		if err != nil {
			return c, err
		}
	}
	return c, f.unlabelled(cmd, b, &c)
}

// unlabelled adds ConfigMaps that are named as the bundle's are and have not its label: who makes one by hand may forget it.
func (f *driftFlags) unlabelled(cmd *cobra.Command, b *charts.Bundle, c *charts.Cluster) error {
	for names := range slices.Chunk(c.Absent(b), 100) {
		listed, err := f.ask(cmd, b, append([]string{"configmaps", "--ignore-not-found"}, names...)...)
		if err == nil {
			err = c.Add(listed)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// ask runs kubectl get in the namespace and context of the flags.
func (f *driftFlags) ask(cmd *cobra.Command, b *charts.Bundle, args ...string) ([]byte, error) {
	all := append([]string{"get"}, args...)
	namespace := f.namespace
	if namespace == "" {
		namespace = b.Namespace
	}
	for _, flag := range [][2]string{{"--namespace", namespace}, {"--context", f.context}, {"--kubeconfig", f.kubeconfig}} {
		if flag[1] != "" {
			all = append(all, flag[0], flag[1])
		}
	}
	return outputOf(exec.CommandContext(cmd.Context(), f.kubectl, append(all, "--output", "json")...))
}

// outputOf runs a program; its error holds what the program said.
func outputOf(program *exec.Cmd) ([]byte, error) {
	var said bytes.Buffer
	program.Stderr = &said
	out, err := program.Output()
	if err != nil {
		return nil, fmt.Errorf("run %s: %w: %s", strings.Join(program.Args, " "), err, strings.TrimSpace(said.String()))
	}
	return out, nil
}
