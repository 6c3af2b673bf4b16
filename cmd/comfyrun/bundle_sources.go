package main

import (
	"cmp"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/comfyrun/comfyrun/charts"
	"github.com/comfyrun/comfyrun/nodes/definitions"
	"github.com/comfyrun/comfyrun/workflows"
)

// sources completes workflows with their sidecars, the names of their models and the definitions of nodes that they use.
// Names are completed by the lock only: what a machine's folders hold decides nothing. The definitions go to the options.
func (f *bundleFlags) sources(cmd *cobra.Command, read []*source, o *charts.Options) ([]charts.Source, error) {
	home, err := homeOf(cmd)
	if err != nil {
		return nil, err
	}
	finder, err := newModelFinder(home, &f.convert.nodes)
	if err != nil {
		return nil, err
	}
	b := sourceBundler{finder: finder, files: map[string]string{}, used: map[string]bool{}, defined: map[string]*definitions.Definition{}}
	for _, d := range finder.defined.Definitions() {
		b.defined[d.Class] = d
	}
	if o.Lock != nil {
		for _, e := range o.Lock.Models {
			b.known = append(b.known, e.Name)
		}
	}
	var sources []charts.Source
	for _, s := range read {
		bundled, err := b.bundle(s)
		if err != nil {
			return nil, err
		}
		sources = append(sources, bundled)
	}
	o.Definitions, err = b.definitions()
	return sources, err
}

// sourceBundler makes what is bundled of workflows that were read.
type sourceBundler struct {
	finder  *modelFinder
	known   []string          // names of models in the lock
	files   map[string]string // of the workflows so far, by name
	defined map[string]*definitions.Definition
	used    map[string]bool // classes of defined
}

func (b *sourceBundler) bundle(s *source) (charts.Source, error) {
	base := filepath.Base(s.name)
	out := charts.Source{Name: strings.TrimSuffix(base, filepath.Ext(base)), Graph: s.graph}
	if before, twice := b.files[out.Name]; twice {
		return out, usagef("bundle workflow %q: two workflows have this name, %s and %s", out.Name, before, s.name)
	}
	b.files[out.Name] = s.name
	if err := b.checkClasses(s); err != nil {
		return out, err
	}
	out.Defined = b.classes(s.graph)
	var err error
	if out.Written, err = b.finder.defined.WriteOut(s.graph); err != nil {
		return out, usagef("%s: %w", s.name, err)
	}
	uses, err := b.finder.uses(out.Written, b.known)
	if err != nil {
		return out, fmt.Errorf("%s: %w", s.name, err)
	}
	for _, use := range uses {
		out.Models = append(out.Models, use.entryName())
	}
	out.Sidecar, err = readSidecar(s.name)
	if err != nil || len(out.Sidecar) == maxSidecar {
		err = usagef("read sidecar: %w", cmp.Or(err, fmt.Errorf("that of %s has more than %d KiB", s.name, maxSidecar>>10)))
	}
	return out, err
}

// checkClasses refuses a workflow with a class that nothing brings: no server would take it.
func (b *sourceBundler) checkClasses(s *source) error {
	for _, n := range s.graph.Nodes() {
		if _, ok := b.finder.catalog.Type(n.Class); !ok {
			return usagef("%s: node %s: there is no class %q; --nodes names the folder of a definition that workflows need", s.name, n.ID, n.Class)
		}
	}
	return nil
}

// classes lists the defined classes that a workflow uses, and those inside of them, and notes them.
func (b *sourceBundler) classes(g *workflows.Graph) []string {
	seen := map[string]bool{}
	var visit func(*workflows.Graph)
	visit = func(g *workflows.Graph) {
		for _, n := range g.Nodes() {
			if d := b.defined[n.Class]; d != nil && !seen[n.Class] {
				seen[n.Class], b.used[n.Class] = true, true
				visit(d.Workflow)
			}
		}
	}
	visit(g)
	return slices.Sorted(maps.Keys(seen))
}

// definitions reads the files of the classes that were noted.
func (b *sourceBundler) definitions() (out []charts.Definition, err error) {
	for _, class := range slices.Sorted(maps.Keys(b.used)) {
		data, err := os.ReadFile(b.defined[class].File)
		if err != nil {
			return nil, usagef("read definition of class %q: %w", class, err)
		}
		out = append(out, charts.Definition{Class: class, Text: data})
	}
	return out, nil
}
