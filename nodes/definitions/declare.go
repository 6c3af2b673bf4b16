package definitions

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"

	"github.com/comfyrun/comfyrun/engine"
	"github.com/comfyrun/comfyrun/workflows"
)

// class is a definition brought together with the node types that it uses.
type class struct {
	def    *Definition
	typ    *engine.NodeType
	inner  map[string]*engine.NodeType // by node id
	feeds  map[target]int              // which of the inputs leads to an inner one
	size   int                         // nodes when written out
	digest string                      // of the file
}

// target is an input of an inner node.
type target struct{ node, input string }

// declarer declares definitions, those first that others use.
type declarer struct {
	catalog *engine.Catalog
	trial   *engine.Catalog // the same, and the classes that trial workflows need
	defs    map[string]*Definition
	classes map[string]*class
	done    map[string]bool
	chain   []string // classes being declared
	errs    Errors
}

func declare(c *engine.Catalog, defs []*Definition) (*Set, Errors) {
	l := &declarer{
		catalog: c, trial: trialCatalog(c), defs: map[string]*Definition{}, classes: map[string]*class{}, done: map[string]bool{},
	}
	var order []*Definition
	for _, d := range defs {
		first, again := l.defs[d.Class]
		switch _, builtIn := c.Type(d.Class); {
		case builtIn:
			l.fail(d, []string{"class_type"}, "%s is a built-in class, which no definition may hide: choose another name", d.Class)
		case again:
			l.fail(d, []string{"class_type"}, "%s is defined in %s already", d.Class, first.File)
		default:
			l.defs[d.Class] = d
			order = append(order, d)
		}
	}
	slices.SortFunc(order, func(a, b *Definition) int { return cmp.Compare(a.Class, b.Class) })
	for _, d := range order {
		l.declare(d)
	}
	return &Set{byClass: l.classes}, l.errs
}

// fail notes a mistake at the value that a path leads to, or the nearest around.
func (l *declarer) fail(d *Definition, path []string, format string, args ...any) {
	line, _ := workflows.Position(d.data, known(d.data, path)...)
	l.errs = append(l.errs, &Error{File: d.File, Line: line, Err: fmt.Errorf(format, args...)})
}

// known is as much of a path as there is in the text.
func known(data []byte, path []string) []string {
	v, err := workflows.ParseValue(data)
	for i := 0; err == nil && i < len(path); i++ {
		members, _ := v.Object()
		var ok bool
		if v, ok = members.Get(path[i]); !ok {
			return path[:i]
		}
	}
	return path
}

// declare adds a class to the catalogue, after those that it uses. It says whether
// that went well.
func (l *declarer) declare(d *Definition) bool {
	if l.done[d.Class] {
		return l.classes[d.Class] != nil
	}
	l.chain = append(l.chain, d.Class)
	ok := l.declareUsed(d)
	l.chain = l.chain[:len(l.chain)-1]
	l.done[d.Class] = true
	if !ok {
		return false // told where the mistake is
	}
	before := len(l.errs)
	c := l.class(d)
	l.trial.AddType(c.typ)
	l.try(c)
	if len(l.errs) > before {
		return false
	}
	l.catalog.AddType(c.typ)
	l.classes[d.Class] = c
	return true
}

func (l *declarer) declareUsed(d *Definition) bool {
	ok := true
	for _, n := range d.Workflow.Nodes() {
		used, defined := l.defs[n.Class]
		if !defined {
			continue
		}
		if i := slices.Index(l.chain, n.Class); i >= 0 {
			chain := strings.Join(append(slices.Clone(l.chain[i:]), n.Class), " -> ")
			l.fail(d, []string{"workflow", n.ID, "class_type"}, "definitions use each other in a circle: %s", chain)
			ok = false
			continue
		}
		ok = l.declare(used) && ok
	}
	return ok
}

// class puts the node type together.
func (l *declarer) class(d *Definition) *class {
	sum := sha256.Sum256(d.data)
	c := &class{def: d, inner: map[string]*engine.NodeType{}, feeds: map[target]int{}, digest: hex.EncodeToString(sum[:])}
	c.typ = &engine.NodeType{
		Class: d.Class, Title: d.Title, Category: d.Category, Doc: d.Doc, Module: d.module,
		Deprecated: d.Deprecated, Experimental: d.Experimental,
		Transient: true, Call: c.call, Fingerprint: c.fingerprint, NeedLazy: needNothing,
	}
	for _, n := range d.Workflow.Nodes() {
		if t, ok := l.catalog.Type(n.Class); ok {
			c.inner[n.ID] = t
			c.inherit(t)
		}
		c.size++
		if used := l.classes[n.Class]; used != nil {
			c.size += used.size - 1
		}
	}
	for i := range d.Inputs {
		c.typ.Inputs = append(c.typ.Inputs, l.input(c, i))
	}
	for _, out := range d.Outputs {
		c.typ.Outputs = append(c.typ.Outputs, l.output(c, out))
	}
	switch {
	case c.size > workflows.MaxNodes:
		l.fail(d, []string{"workflow"}, "with all that its nodes are defined by, it has %d nodes; %d are allowed", c.size, workflows.MaxNodes)
	case len(d.Outputs) == 0 && !c.typ.IsOutput && len(c.inner) == d.Workflow.Len():
		l.fail(d, nil, "%s has no outputs and no output node inside: nothing would come of it", d.Class)
	}
	return c
}

// inherit takes over what holds for the whole when it holds for one inner node.
func (c *class) inherit(t *engine.NodeType) {
	c.typ.IsOutput = c.typ.IsOutput || t.IsOutput
	c.typ.Volatile = c.typ.Volatile || t.Volatile
	isID := func(h engine.Hidden) bool { return h.Kind == engine.HiddenUniqueID }
	if i := slices.IndexFunc(t.Hidden, isID); i >= 0 && !slices.ContainsFunc(c.typ.Hidden, isID) {
		c.typ.Hidden = append(c.typ.Hidden, t.Hidden[i])
	}
}

func (l *declarer) output(c *class, out Output) engine.Output {
	path := []string{"outputs", out.Name, "from"}
	if c.def.Workflow.Node(out.From.Node) == nil {
		l.fail(c.def, path, "output %s is of node %s, which the workflow does not have", out.Name, out.From.Node)
		return engine.Output{}
	}
	t := c.inner[out.From.Node]
	switch {
	case t == nil: // the trial tells
		return engine.Output{}
	case out.From.Slot < 0 || out.From.Slot >= len(t.Outputs):
		l.fail(c.def, path, "output %s is output %d of node %s (%s), which has %d, counted from 0",
			out.Name, out.From.Slot, out.From.Node, t.Class, len(t.Outputs))
		return engine.Output{}
	}
	o := t.Outputs[out.From.Slot]
	o.Name, o.Doc = out.Name, cmp.Or(out.Doc, o.Doc)
	return o
}

// find returns the inner input that NODE.INPUT means. Both may have dots in them.
func (l *declarer) find(c *class, ref string) (target, *engine.Input, error) {
	err, tries := fmt.Errorf("%q is not of the form NODE.INPUT", ref), 0
	for i := range ref {
		if ref[i] != '.' {
			continue
		}
		n, wrong := c.def.Workflow.Find(ref[:i])
		if wrong != nil {
			if tries == 0 {
				err = wrong
			}
			tries++
			continue
		}
		t := c.inner[n.ID]
		if t == nil {
			return target{}, nil, nil // the trial tells
		}
		at := target{n.ID, ref[i+1:]}
		if in := declared(t, at.input); in != nil {
			return at, in, nil
		}
		tries++
		err = fmt.Errorf("node %s (%s) has no input %q; inputs are %s", n.ID, t.Class, at.input, inputNames(t))
	}
	return target{}, nil, err
}

func declared(t *engine.NodeType, input string) *engine.Input {
	for i := range t.Inputs {
		if t.Inputs[i].Name == input {
			return &t.Inputs[i]
		}
	}
	if t.Rest {
		return &engine.Input{Name: input, Kind: engine.KindAny, Optional: true}
	}
	return nil
}

func inputNames(t *engine.NodeType) string {
	if len(t.Inputs) == 0 {
		return "none"
	}
	names := make([]string, len(t.Inputs))
	for i, in := range t.Inputs {
		names[i] = in.Name
	}
	return strings.Join(names, ", ")
}

// source is an inner input that an input leads to.
type source struct {
	at  target
	in  *engine.Input
	typ *engine.NodeType
}

// targets finds all inner inputs of an input.
func (l *declarer) targets(c *class, index int) []source {
	in := &c.def.Inputs[index]
	path := []string{"inputs", in.Name, "to"}
	var found []source
	for _, ref := range in.To {
		at, inner, err := l.find(c, ref)
		if err != nil {
			l.fail(c.def, path, "input %s: %w", in.Name, err)
			continue
		}
		if inner == nil {
			continue
		}
		if other, taken := c.feeds[at]; taken {
			l.fail(c.def, path, "input %s leads to %s, as input %s does", in.Name, ref, c.def.Inputs[other].Name)
			continue
		}
		c.feeds[at] = index
		found = append(found, source{at, inner, c.inner[at.node]})
	}
	return found
}
