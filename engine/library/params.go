package library

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/comfyrun/comfyrun/engine"
	"github.com/comfyrun/comfyrun/workflows"
)

// Type says what a parameter takes.
type Type string

// The types of parameters.
const (
	Integer Type = "integer" // 64 bits, exact
	Number  Type = "number"
	String  Type = "string"
	Boolean Type = "boolean"
	Choice  Type = "choice"  // one of a list of names
	Picture Type = "picture" // the name of an uploaded picture
)

// Target is an input that a parameter sets.
type Target struct{ Node, Input string }

// Param is one parameter of a workflow.
type Param struct {
	Name        string
	Title       string // what a form shows; the name when nobody gave one
	Description string
	Type        Type
	Targets     []Target

	// Default is what is used when nothing is given; null for a Required
	// parameter and for a Seed.
	Default  workflows.Value
	Required bool
	// Seed marks an integer that is picked at random when it is not given: its
	// own name or an input's is seed, or ends in _seed, and the sidecar names no
	// default.
	Seed      bool
	Multiline bool
	Advanced  bool // a form may hide it at first

	Min, Max, Step engine.Number // unset: no bound. Step is for forms only.

	choices func() []string
	narrow  []string // the sidecar's choices; empty: all
	loose   bool     // values outside of the list are taken too
}

// Choices lists what a parameter of the type Choice takes, and the pictures
// that are there already of a Picture; it is asked of the catalogue each time.
func (p *Param) Choices() []string {
	if len(p.narrow) > 0 {
		return slices.Clone(p.narrow)
	}
	if p.choices == nil {
		return nil
	}
	return p.choices()
}

// typeOf is the type of parameter that an input can be; false: none.
func typeOf(in *engine.Input) (Type, bool) {
	if in.RawLink || in.List || option(in, "forceInput") || option(in, "multiselect") || option(in, "multi_select") {
		return "", false
	}
	switch {
	case option(in, "image_upload"):
		return Picture, true
	case in.Kind == engine.KindInt:
		return Integer, true
	case in.Kind == engine.KindFloat:
		return Number, true
	case in.Kind == engine.KindString:
		return String, true
	case in.Kind == engine.KindBoolean:
		return Boolean, true
	case in.Kind == engine.KindCombo:
		return Choice, true
	}
	return "", false
}

func option(in *engine.Input, key string) bool {
	return in.Options.Get(key) == true
}

// bind makes a parameter of a declaration: the catalogue says what its targets
// take, and it takes what all of them do.
func (d *declaration) bind(g *workflows.Graph, c *engine.Catalog) (Param, error) {
	p := Param{Name: d.Name, Title: d.Title, Targets: d.Targets}
	if p.Title == "" {
		p.Title = d.Name
	}
	for _, target := range d.Targets {
		n := g.Node(target.Node)
		in, err := declaredInput(n, target.Input, c)
		if err == nil {
			err = p.join(in, n)
		}
		if err != nil {
			return p, fmt.Errorf("%s: parameter %s: %w", d.From, d.Name, err)
		}
	}
	p.Seed = p.Type == Integer && (isSeed(d.Name) || slices.ContainsFunc(d.Targets, func(t Target) bool { return isSeed(t.Input) }))
	if err := p.narrowBy(d.side); err != nil {
		return p, fmt.Errorf("%s: parameter %s: %w", d.From, d.Name, err)
	}
	if p.Seed || p.Required {
		p.Default = workflows.Value{}
	}
	return p, nil
}

func isSeed(name string) bool { return name == "seed" || strings.HasSuffix(name, "_seed") }

func declaredInput(n *workflows.Node, input string, c *engine.Catalog) (*engine.Input, error) {
	t, ok := c.Type(n.Class)
	if !ok {
		return nil, fmt.Errorf("node %s: there is no node type %s", n.ID, n.Class)
	}
	i := slices.IndexFunc(t.Inputs, func(in engine.Input) bool { return in.Name == input })
	if i < 0 {
		return nil, fmt.Errorf("node %s (%s) has no input %s; it has %s", n.ID, n.Class, input, strings.Join(settableInputs(n, c), ", "))
	}
	if v, _ := n.Inputs.Get(input); v.Kind() == workflows.KindList {
		return nil, fmt.Errorf("input %s of node %s (%s) is linked: only a value can be set", input, n.ID, n.Class)
	}
	return &t.Inputs[i], nil
}

// join adds what one more target takes.
func (p *Param) join(in *engine.Input, n *workflows.Node) error {
	kind, ok := typeOf(in)
	switch {
	case !ok:
		return fmt.Errorf("input %s of node %s (%s) is %s, which cannot be set from outside", in.Name, n.ID, n.Class, in.Kind)
	case p.Type != "" && p.Type != kind:
		return fmt.Errorf("input %s of node %s (%s) is of type %s, another one of type %s", in.Name, n.ID, n.Class, kind, p.Type)
	case p.Type == "":
		p.Type, p.Description, p.Step = kind, in.Doc, in.Step
		p.choices, p.loose = in.Choices, in.Loose
		p.Default = literal(in, n)
	}
	p.Multiline = p.Multiline || option(in, "multiline")
	p.Min, p.Max = tighter(p.Min, in.Min, 1), tighter(p.Max, in.Max, -1)
	return nil
}

// literal is the value that the workflow gives an input, else the catalogue's
// default.
func literal(in *engine.Input, n *workflows.Node) workflows.Value {
	if v, given := n.Inputs.Get(in.Name); given {
		return v
	}
	switch d := in.Default.(type) {
	case engine.Number:
		if v, err := workflows.ParseValue([]byte(d.String())); err == nil {
			return v
		}
	case bool:
		return workflows.BoolValue(d)
	case string:
		return workflows.StringValue(d)
	}
	return workflows.Value{}
}

// tighter is the larger of two bounds (sign 1) or the smaller (sign -1); one
// that is not set does not bound.
func tighter(a, b engine.Number, sign int) engine.Number {
	if !a.IsSet() || b.IsSet() && sign*b.Compare(a) > 0 {
		return b
	}
	return a
}

// narrowBy applies what a sidecar says about a parameter.
func (p *Param) narrowBy(s *sideParam) error {
	if s == nil {
		return nil
	}
	p.Advanced = s.Advanced
	if s.Description != "" {
		p.Description = s.Description
	}
	if s.Default != nil {
		p.Default, p.Seed = tomlValue(s.Default), false
	}
	if s.Required {
		if s.Default != nil {
			return errors.New("a required parameter has no default")
		}
		p.Required, p.Seed = true, false
	}
	return errors.Join(p.narrowRange(s), p.narrowChoices(s.Choices))
}

func (p *Param) narrowRange(s *sideParam) error {
	low, errLow := tomlNumber(s.Min)
	high, errHigh := tomlNumber(s.Max)
	switch {
	case errLow != nil || errHigh != nil:
		return fmt.Errorf("min, max: %w", errors.Join(errLow, errHigh))
	case (low.IsSet() || high.IsSet()) && p.Type != Integer && p.Type != Number:
		return fmt.Errorf("a %s has no range", p.Type)
	case low.IsSet() && p.Min.IsSet() && low.Compare(p.Min) < 0:
		return fmt.Errorf("min %s is below the node's own %s", low, p.Min)
	case high.IsSet() && p.Max.IsSet() && high.Compare(p.Max) > 0:
		return fmt.Errorf("max %s is above the node's own %s", high, p.Max)
	}
	p.Min, p.Max = tighter(p.Min, low, 1), tighter(p.Max, high, -1)
	if p.Min.IsSet() && p.Max.IsSet() && p.Min.Compare(p.Max) > 0 {
		return fmt.Errorf("min %s is above max %s", p.Min, p.Max)
	}
	return nil
}

func (p *Param) narrowChoices(choices []string) error {
	if len(choices) == 0 {
		return nil
	}
	if p.Type != Choice && p.Type != String {
		return fmt.Errorf("a %s has no choices", p.Type)
	}
	if p.Type == Choice && !p.loose {
		all := p.Choices()
		for _, c := range choices {
			if !slices.Contains(all, c) {
				return fmt.Errorf("choice %q is none of the node's own: %s", c, shortList(all))
			}
		}
	}
	p.narrow = choices
	return nil
}

// shortList writes a list for a message.
func shortList(list []string) string {
	const most = 20
	if len(list) > most {
		return fmt.Sprintf("%s and %d more", strings.Join(list[:most], ", "), len(list)-most)
	}
	return strings.Join(list, ", ")
}
