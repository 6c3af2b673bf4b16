package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/comfyrun/comfyrun/engine"
	"github.com/comfyrun/comfyrun/engine/library"
	"github.com/comfyrun/comfyrun/engine/models"
	"github.com/comfyrun/comfyrun/engine/models/live"
	"github.com/comfyrun/comfyrun/engine/worker"
	"github.com/comfyrun/comfyrun/web"
	"github.com/comfyrun/comfyrun/workflows"
)

// pinned holds the models of a process to models.lock.
type pinned struct {
	*live.Keeper
	finder  *modelFinder
	folders *models.Folders
	missing bool   // may be fetched
	named   string // folder of named workflows, "" for none

	served *web.Condition // that models.lock is; nil while there has been none
	first  *web.Condition // the models that are needed from the start; nil when none are
}

// openModels reads models.lock.
func (f *runFlags) openModels(p *process) error {
	keeper, err := f.pins.keeper(p.home, p.machine, func(n int64) { p.metrics.ModelBytes(n) })
	if err != nil {
		return err
	}
	p.models = &pinned{Keeper: keeper, folders: p.machine.folders, missing: f.pins.fetch == "missing"}
	p.models.finder, err = newModelFinder(p.home, p.machine.nodeFlags)
	p.machine.loaded = func(path string, took time.Duration) { p.metrics.ModelLoaded(p.models.nameOf(path), took) }
	return err
}

// expect says on /readyz what work will do first, before anybody asks.
func (p *process) expect() {
	m := p.models
	if len(m.Set().All()) > 0 {
		m.served = p.ready.Expect("models.lock served")
		m.served.Met()
		if p.warmup.needed() || m.named != "" {
			m.first = p.ready.Expect(map[bool]string{true: "models fetched", false: "models checked"}[m.missing])
		}
	}
	if p.warmup.needed() {
		p.warm = p.ready.Expect("models warmed")
	}
}

// uses lists the model files that the outputs of a workflow need.
func (m *pinned) uses(g *workflows.Graph, catalog *engine.Catalog) ([]fileUse, error) {
	written, err := m.finder.defined.WriteOut(g)
	if err != nil {
		return nil, err
	}
	return m.finder.uses(needed(written, catalog), knownNames(m.Set().Lock(), m.folders, "embeddings"))
}

// needed is a workflow without the nodes that no output needs.
func needed(g *workflows.Graph, catalog *engine.Catalog) *workflows.Graph {
	reached := map[string]bool{}
	var reach func(id string)
	reach = func(id string) {
		n := g.Node(id)
		if n == nil || reached[id] {
			return
		}
		reached[id] = true
		for _, in := range n.Inputs {
			if link, ok := in.Value.Link(); ok {
				reach(link.Node)
			}
		}
	}
	for _, n := range g.Nodes() {
		if t, ok := catalog.Type(n.Class); ok && t.IsOutput {
			reach(n.ID)
		}
	}
	g = g.Clone()
	for _, n := range slices.Clone(g.Nodes()) {
		if !reached[n.ID] {
			g.Remove(n.ID)
		}
	}
	return g
}

// modelNames are the model files that workflows need. What is wrong with a workflow is told when it runs.
func (p *process) modelNames(graphs ...*workflows.Graph) []string {
	var names []string
	for _, g := range graphs {
		uses, err := p.models.uses(g, p.catalog())
		if err != nil {
			continue
		}
		for _, use := range uses {
			names = append(names, use.entryName())
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// modelFiles are the files of a workflow's models, without links; those that are not there yet are left out.
func (p *process) modelFiles(g *workflows.Graph) []string {
	uses, err := p.models.uses(g, p.catalog())
	if err != nil {
		return nil // the plan tells
	}
	var files []string
	for _, use := range uses {
		file, err := p.machine.folders.Path(use.folder, use.name)
		if err == nil {
			file, err = filepath.EvalSymlinks(file)
		}
		if err == nil {
			files = append(files, file)
		}
	}
	return files
}

// unload drops what was loaded from files and does not run.
func (m *machine) unload(files []string) {
	for _, s := range m.seats {
		s.diffusion.Forget(files...)
	}
}

// prepare brings the models of a prompt and compares them with models.lock.
func (p *process) prepare(ctx context.Context, prompt *worker.Preparation) error {
	m := p.models
	uses, err := m.uses(prompt.Graph, p.catalog())
	if err != nil {
		return nil // the plan tells
	}
	node := map[string]string{} // by the name of the entry
	var names []string
	for _, use := range uses {
		e, pinned := m.Set().Find(use.entryName())
		if _, seen := node[e.Name]; pinned && !seen {
			node[e.Name] = nodeOf(prompt.Graph, use.node)
			names = append(names, e.Name)
		}
	}
	err = m.Ensure(ctx, names, live.Meter(func(at live.Progress) {
		prompt.Progress(node[at.Entry.Name], at.Bytes, at.Entry.Size)
	}))
	if err == nil {
		return nil
	}
	return &engine.NodeError{Node: node[m.culprit(err, names)], Kind: engine.ExecutionFailed, Err: err}
}

// nodeOf is the node of a workflow that holds the one with an id, which may be inside of a defined node.
func nodeOf(g *workflows.Graph, id string) string {
	for at := id; at != ""; {
		if g.Node(at) != nil {
			return at
		}
		at = at[:max(0, strings.LastIndexByte(at, ':'))]
	}
	return id
}

// culprit is the name that an error of Ensure is about.
func (m *pinned) culprit(err error, names []string) string {
	if wrong, ok := errors.AsType[*live.Error](err); ok {
		return wrong.Entry.Name
	}
	for _, name := range names {
		if _, absent := m.Set().Absent(name); absent {
			return name
		}
	}
	return ""
}

// explain tells choices that are pinned and not there from those that nobody knows.
func (p *process) explain(invalid *engine.InvalidError) {
	for _, e := range invalid.Errors {
		value, ok := e.Extra.Get("received_value").(workflows.Value)
		folder, lists := p.models.finder.inputs[modelInput{e.Class, e.Input}]
		if e.Kind != engine.NotInList || !ok || !lists {
			continue
		}
		text, _ := value.Str()
		for _, file := range filesOf(folder, text) {
			if entry, absent := p.models.Set().Absent(file.entryName()); absent {
				e.Details += fmt.Sprintf("; models.lock pins %s, which is not here: comfyrun models fetch gets it, and so does a server with --fetch=missing", entry.Name)
			}
		}
	}
}

// nameOf is the name, FOLDER/NAME, of a model file whose path has no links in it.
func (m *pinned) nameOf(path string) string {
	if e, ok := m.Set().At(path); ok {
		return e.Name
	}
	for _, key := range m.folders.Keys() {
		for _, file := range m.folders.Files(key) {
			if real, err := filepath.EvalSymlinks(file.Path); err == nil && real == path {
				return key + "/" + file.Name
			}
		}
	}
	return filepath.Base(path)
}

// firstModels brings the models that are needed from the start: those of the warm-up, without which there is no start, and
// those of named workflows.
func (p *process) firstModels(ctx context.Context) error {
	m := p.models
	if m.first == nil {
		return nil
	}
	report := live.Meter(func(at live.Progress) {
		m.first.Note(fmt.Sprintf("%s: %s of %s", at.Entry.Name, sizeText(at.Bytes), sizeText(at.Entry.Size)))
	})
	if err := m.Ensure(ctx, p.modelNames(p.warmup.graphs...), report); err != nil {
		return fmt.Errorf("models of the warm-up: %w", err)
	}
	var problem error
	for _, name := range p.modelNames(p.namedGraphs()...) {
		if err := m.Ensure(ctx, []string{name}, report); err != nil {
			p.log.Warn("a model of a named workflow cannot be used", "model", name, "err", err)
			problem = errors.Join(problem, err)
		}
	}
	m.first.Met()
	if problem != nil {
		m.first.Note(problem.Error())
	}
	return ctx.Err()
}

// namedGraphs are the named workflows as they are in their files.
func (p *process) namedGraphs() []*workflows.Graph {
	if p.models.named == "" {
		return nil
	}
	named := library.New(p.models.named, p.catalog)
	if _, err := named.Scan(); err != nil {
		return nil // the server tells
	}
	var graphs []*workflows.Graph
	for _, e := range named.List() {
		if e.Workflow != nil {
			graphs = append(graphs, e.Workflow.Graph())
		}
	}
	return graphs
}

// followModels serves what models.lock says from time to time, until ctx ends. A process that runs no prompts only needs to
// know what it says.
func (p *process) followModels(ctx context.Context, runs bool) {
	f := live.Follower{Only: !runs, Outcome: p.modelsChanged}
	if runs {
		f.Idle, f.Unused = p.worker.WhenIdle, p.machine.unload
		f.Needed = func() []string { return p.modelNames(p.warmup.graphs...) }
		f.Warm = func(ctx context.Context, next *live.Set, names []string) error {
			return p.warmup.run(ctx, p, p.machine.folders.With(next), func(g *workflows.Graph) bool {
				return slices.ContainsFunc(p.modelNames(g), func(name string) bool { return slices.Contains(names, name) })
			})
		}
	}
	p.models.Watch(ctx, f)
}

// modelsChanged tells people what came of a changed models.lock.
func (p *process) modelsChanged(o live.Outcome) {
	m := p.models
	if m.served == nil {
		m.served = p.ready.Expect("models.lock served")
		m.served.Met()
	}
	p.metrics.ModelsSwapped(o.Err)
	if o.Err != nil {
		m.served.Note("the newest cannot be served, the one before is: " + o.Err.Error())
		p.log.Warn("models stay as they were", "models", o.Names, "err", o.Err)
		return
	}
	m.served.Note("")
	p.log.Info("models.lock is served", "models", o.Names, "seconds", o.Took.Seconds())
}
