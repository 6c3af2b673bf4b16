package ui

import (
	"slices"
	"strings"

	"github.com/comfyrun/comfyrun/workflows"
)

// source is where an input gets its value: an output of a record, a literal, or nothing.
type source struct {
	record  *record
	slot    int
	literal *widget
}

// step is an output that is looked at on the way to a source.
type step struct {
	r    *record
	slot int
}

// search is the way from one input to its source.
type search struct {
	*conversion
	start   *record
	input   string
	visited map[step]bool
}

// source finds what an input of a record gets.
func (c *conversion) source(r *record, i int) (source, error) {
	s := &search{conversion: c, start: r, input: r.slots[i].name}
	return s.from(r, i, "")
}

// from follows the link of an input. Wanted is the type of the first input on the way that is no anything.
func (s *search) from(r *record, i int, wanted string) (source, error) {
	if i >= len(r.slots) || r.slots[i].link == "" {
		return source{}, nil
	}
	if err := s.spend(1); err != nil {
		return source{}, err
	}
	if len(s.visited) > maxChain {
		return source{}, refuse(s.start, s.input, "the way to its source is longer than can be followed")
	}
	l, ok := r.in.g.links[r.slots[i].link]
	if !ok {
		s.warn(r, r.slots[i].name, "link "+r.slots[i].link+" is not in the file")
		return source{}, nil
	}
	if wanted == "" {
		wanted = r.slots[i].typ
	}
	return s.end(r.in, l, wanted)
}

// end follows a link to where it comes from.
func (s *search) end(in *instance, l link, wanted string) (source, error) {
	if owner := in.owner; owner != nil && l.origin == inputNode {
		if l.originSlot >= len(owner.slots) {
			return source{}, nil
		}
		outer := owner.slots[l.originSlot]
		if outer.link == "" {
			if outer.widget != nil && outer.widget.has {
				return source{literal: outer.widget}, nil
			}
			return source{}, nil
		}
		return s.from(owner, l.originSlot, wanted)
	}
	r := in.byID[l.origin]
	if r == nil {
		return source{}, refuse(s.start, s.input, "its link comes from node %s, which is not in the file", l.origin)
	}
	return s.output(r, l.originSlot, wanted)
}

// route is a virtual output and the type that is wanted of it, which alone decide where a search goes on.
type route struct {
	step
	wanted string
}

// output finds what an output of a record gives.
func (s *search) output(r *record, i int, wanted string) (source, error) {
	if r.n.mode != modeBypass && !r.virtual() {
		return source{record: r, slot: i}, nil
	}
	way := route{step{r, i}, wanted}
	if known, ok := s.routes[way]; ok {
		return known, nil
	}
	found, err := s.through(r, i, wanted)
	if err == nil {
		s.routes[way] = found
	}
	return found, err
}

// through follows an output of a virtual or bypassed node.
func (s *search) through(r *record, i int, wanted string) (source, error) {
	at := step{r, i}
	if s.visited[at] {
		s.warn(s.start, s.input, "its links go in a circle and give it nothing")
		return source{}, nil
	}
	if s.visited == nil {
		s.visited = map[step]bool{}
	}
	s.visited[at] = true
	switch {
	case r.n.mode == modeBypass:
		if i = r.bypass(i, wanted); i < 0 {
			return source{}, nil
		}
		return s.from(r, i, "")
	case r.n.mode == modeMute:
		return source{}, nil
	case r.inner != nil:
		return s.inside(r, i, wanted)
	case r.n.class == "GetNode":
		return s.setter(r, wanted)
	case r.n.class == "PrimitiveNode":
		if s.start.in != r.in {
			s.warn(s.start, s.input, "node "+r.id+" (PrimitiveNode) gives nothing to the inside of a subgraph")
		}
		return source{}, nil
	}
	return s.from(r, i, wanted)
}

// inside follows an output of an instance into its subgraph.
func (s *search) inside(r *record, i int, wanted string) (source, error) {
	g := r.inner.g
	if i >= len(g.outputs) {
		return source{}, nil
	}
	for _, id := range g.outputs[i].links {
		if l, ok := g.links[id]; ok && l.target == outputNode {
			return s.end(r.inner, l, wanted)
		}
	}
	return source{}, nil
}

// setter follows a GetNode to the SetNode of its name: in its own graph, else in those around it.
func (s *search) setter(r *record, wanted string) (source, error) {
	name := r.n.firstText()
	for in := r.in; ; in = in.owner.in {
		switch found := in.setters[name]; len(found) {
		case 0:
		case 1:
			return s.output(found[0], 0, wanted)
		default:
			return source{}, refuse(r, "", "it gets %q, which both node %s and node %s set", name, found[0].id, found[1].id)
		}
		if in.owner == nil {
			break
		}
	}
	s.warn(r, "", "it gets "+workflows.StringValue(name).Raw()+", which no SetNode sets")
	return source{}, nil
}

// bypass is the input that a bypassed node passes on to an output, or -1.
func (r *record) bypass(i int, wanted string) int {
	if wanted == "" || wanted == "*" {
		if i < len(r.slots) {
			return i
		}
		return min(0, len(r.slots)-1)
	}
	output := "*"
	if types := r.outputTypes(); i < len(types) {
		output = types[i]
	}
	fits := func(s slot) bool { return compatible(s.typ, output) && compatible(s.typ, wanted) }
	if i < len(r.slots) && fits(r.slots[i]) {
		return i
	}
	if same := slices.IndexFunc(r.slots, func(s slot) bool { return s.typ == wanted }); same >= 0 {
		return same
	}
	return slices.IndexFunc(r.slots, fits)
}

func (r *record) outputTypes() []string {
	switch {
	case r.inner != nil:
		types := make([]string, len(r.inner.g.outputs))
		for i, p := range r.inner.g.outputs {
			types[i] = p.typ
		}
		return types
	case r.class != nil:
		return r.class.Outputs
	}
	return r.n.outputs
}

// compatible is whether the editor lets slots of two types be linked.
func compatible(a, b string) bool {
	if a == "" || b == "" || a == "*" || b == "*" || strings.EqualFold(a, b) {
		return true
	}
	for _, x := range strings.Split(strings.ToLower(a), ",") {
		if slices.Contains(strings.Split(strings.ToLower(b), ","), x) {
			return true
		}
	}
	return false
}
