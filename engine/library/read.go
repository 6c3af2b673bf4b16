package library

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/comfyrun/comfyrun/engine"
	"github.com/comfyrun/comfyrun/workflows"
)

// read makes a workflow of its files, and checks it against the catalogue. The
// error holds everything that is wrong, one mistake a line.
func read(name string, f files, c *engine.Catalog) (*Workflow, error) {
	g, err := parse(f.workflow, c)
	if err != nil {
		return nil, fmt.Errorf("%s%s: %w", name, workflowEnd, err)
	}
	side, err := parseSidecar(f.sidecar)
	if err != nil {
		return nil, fmt.Errorf("%s%s: %w", name, sidecarEnd, err)
	}
	w := &Workflow{
		Name: name, Title: cmp.Or(side.Title, name), Description: side.Description, Digest: f.digest(), graph: g,
	}
	var errs []error
	w.Params, errs = bindAll(g, side, c)
	errs = append(errs, w.overlaps()...)
	if err := errors.Join(append(errs, w.check(c)...)...); err != nil {
		return nil, err
	}
	return w, nil
}

// bindAll makes the parameters that titles and a sidecar declare.
func bindAll(g *workflows.Graph, side *sidecar, c *engine.Catalog) (params []Param, errs []error) {
	declared, errs := titleDeclarations(g, c)
	if side.Titles != nil && !*side.Titles {
		errs = nil
	}
	declared, more := side.declare(declared, g)
	errs = append(errs, more...)
	for i := range declared {
		p, err := declared[i].bind(g, c)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		params = append(params, p)
	}
	return params, errs
}

// Parameters returns the parameters that a workflow, and the text of its sidecar if it has one, declare; whether the
// workflow itself checks is not asked. The error holds what is wrong with others, one mistake a line.
func Parameters(g *workflows.Graph, sidecarText []byte, c *engine.Catalog) ([]Param, error) {
	side, err := parseSidecar(sidecarText)
	if err != nil {
		return nil, fmt.Errorf("read sidecar: %w", err)
	}
	params, errs := bindAll(g, side, c)
	return params, errors.Join(errs...)
}

// SidecarOf is the name of the file beside a workflow's that may declare parameters.
func SidecarOf(file string) string { return strings.TrimSuffix(file, workflowEnd) + sidecarEnd }

// overlaps finds inputs that two parameters would set.
func (w *Workflow) overlaps() []error {
	owner := map[Target]string{}
	var errs []error
	for _, p := range w.Params {
		for _, t := range p.Targets {
			if other, taken := owner[t]; taken && other != p.Name {
				errs = append(errs, fmt.Errorf("parameters %s and %s both set input %s of node %s", other, p.Name, t.Input, t.Node))
			}
			owner[t] = p.Name
		}
	}
	return errs
}

// check plans the workflow as it is called without any value. Values that a
// call must give are left out of account. A picture that is not there makes its
// parameter required instead of the workflow wrong: which pictures a server
// holds is no property of a workflow.
func (w *Workflow) check(c *engine.Catalog) []error {
	g := w.graph.Clone()
	var errs []error
	for i := range w.Params {
		p := &w.Params[i]
		if p.Default.IsNull() {
			continue
		}
		if p.Type != Picture {
			if problem := p.accept(p.Default); problem != nil {
				errs = append(errs, fmt.Errorf("default of parameter %s: %s", p.Name, problem.Message))
				continue
			}
		}
		p.set(g, p.Default)
	}
	plan, err := engine.NewPlan(g, c, engine.PlanOptions{})
	var invalid *engine.InvalidError
	switch {
	case err == nil:
		invalid = plan.Invalid
	case !errors.As(err, &invalid):
		return append(errs, err)
	}
	if invalid == nil {
		return errs
	}
	if len(invalid.Errors) == 0 {
		return append(errs, invalid)
	}
	for _, e := range invalid.Errors {
		if !w.forgives(e) {
			errs = append(errs, e)
		}
	}
	return errs
}

// forgives reports whether a mistake goes away with the values of a call.
func (w *Workflow) forgives(e *engine.NodeError) bool {
	for i := range w.Params {
		p := &w.Params[i]
		if !slices.Contains(p.Targets, Target{e.Node, e.Input}) {
			continue
		}
		if p.Type == Picture {
			p.Required, p.Default = true, workflows.Value{}
		}
		return p.Required || p.Seed
	}
	return false
}
