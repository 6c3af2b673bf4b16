package engine

import (
	"fmt"

	"github.com/comfyrun/comfyrun/workflows"
)

// findLinks fills the step's sources with the links that lead to a node of
// the plan. What is wrong with links is said later, by checkInput.
func (s *Step) findLinks(byID map[string]*Step) {
	s.Inputs = make([]Source, len(s.Type.Inputs))
	for i := range s.Inputs {
		s.Inputs[i].Name = s.Type.Inputs[i].Name
		if v, ok := s.node.Inputs.Get(s.Inputs[i].Name); ok {
			s.Inputs[i].link(v, byID)
		}
	}
	if !s.Type.Rest {
		return
	}
	for _, m := range s.node.Inputs {
		if s.declares(m.Key) {
			continue
		}
		if l, ok := m.Value.Link(); ok {
			s.Rest = append(s.Rest, Source{Name: m.Key, From: byID[l.Node], Slot: l.Slot})
		}
	}
}

func (src *Source) link(v workflows.Value, byID map[string]*Step) {
	if l, ok := v.Link(); ok {
		src.From, src.Slot = byID[l.Node], l.Slot
	}
}

func (s *Step) declares(input string) bool {
	for i := range s.Inputs {
		if s.Inputs[i].Name == input {
			return true
		}
	}
	for _, h := range s.Type.Hidden {
		if h.Name == input {
			return true
		}
	}
	return false
}

func (s *Step) linkTo(src *Source) workflows.Link {
	return workflows.Link{Node: src.From.ID, Slot: src.Slot}
}

// check validates all steps, sources first. The result holds what is wrong
// with the steps that are wanted; the others only matter for their keys.
func (p *Plan) check(cycles [][]*Step) map[*Step][]*NodeError {
	faults := map[*Step][]*NodeError{}
	for _, component := range cycles {
		text, ids := cycleText(loop(component))
		for _, s := range component {
			faults[s] = []*NodeError{s.cycleError(text, ids)}
		}
	}
	for _, s := range p.Steps {
		errs := s.checkInputs()
		if s.order.wanted {
			errs = append(errs, s.checkOwn(errs)...)
			s.writeBack()
		}
		faults[s] = append(faults[s], errs...)
		s.valid = len(faults[s]) == 0
		s.links(func(src *Source) { s.valid = s.valid && src.From.valid })
		if !s.order.wanted || len(faults[s]) == 0 {
			delete(faults, s)
		}
	}
	return faults
}

// cycleText is a cycle as messages show it, and the ids in it; of a long one
// the beginning.
func cycleText(cycle []*Step) (text string, ids []string) {
	const shown = 20
	for i, s := range append(cycle, cycle[0]) {
		if i > shown {
			return text + " -> …", ids
		}
		if i > 0 {
			text += " -> "
		}
		text += fmt.Sprintf("%s (%s)", s.ID, s.Type.Class)
		if i < len(cycle) {
			ids = append(ids, s.ID)
		}
	}
	return text, ids
}

func (s *Step) cycleError(text string, ids []string) *NodeError {
	return &NodeError{
		Node: s.ID, Class: s.Type.Class, Kind: DependencyCycle, Details: text,
		Err:   fmt.Errorf("nodes wait for each other: %s", text),
		Extra: Members{{"node_id", s.ID}, {"cycle_nodes", ids}},
	}
}

// writeBack puts coerced literals into the plan's graph, so that metadata
// show what was run.
func (s *Step) writeBack() {
	for _, l := range s.literal {
		s.node.Inputs.Set(l.name, l.value)
	}
	s.literal = nil
}
