package engine

// order is a step's place in the depth-first walk that finds the order of
// execution and the cycles (R. Tarjan, Depth-first search and linear graph
// algorithms, SIAM J. Comput. 1, 1972), without recursion.
type order struct {
	index   int // from 1 on; 0: not seen yet
	low     int
	onStack bool
	next    int // the link to look at next
	wanted  bool
	mark    int // of the last visit by ancestors
}

type walk struct {
	count int
	open  []*Step // the path from the root
	stack []*Step // seen, component not complete yet
	done  func(component []*Step)
}

// sort puts all steps into Plan.Steps, each after those that it reads, and
// returns the cycles. What the wanted outputs need is marked as wanted.
func (p *Plan) sort(wanted []*Step) (cycles [][]*Step) {
	p.Steps = make([]*Step, 0, p.Graph.Len())
	w := &walk{done: func(component []*Step) {
		p.Steps = append(p.Steps, component...)
		if len(component) > 1 || component[0].readsItself() {
			cycles = append(cycles, component)
		}
	}}
	for _, s := range wanted {
		w.from(s)
	}
	for _, s := range p.Steps {
		s.order.wanted = true
	}
	for _, n := range p.Graph.Nodes() {
		w.from(p.byID[n.ID])
	}
	return cycles
}

func (w *walk) from(root *Step) {
	if root.order.index > 0 {
		return
	}
	w.enter(root)
	for len(w.open) > 0 {
		at := w.open[len(w.open)-1]
		if src, input := at.nextLink(); src != nil {
			w.follow(at, src, input)
			continue
		}
		w.leave(at)
	}
}

func (w *walk) enter(s *Step) {
	w.count++
	s.order.index, s.order.low, s.order.onStack = w.count, w.count, true
	w.open = append(w.open, s)
	w.stack = append(w.stack, s)
}

func (w *walk) follow(at *Step, src *Source, input *Input) {
	switch to := src.From; {
	case to.order.index == 0:
		to.used = consumer{step: at, input: input, link: at.linkTo(src)}
		w.enter(to)
	case to.order.onStack:
		at.order.low = min(at.order.low, to.order.index)
	}
}

func (w *walk) leave(s *Step) {
	w.open = w.open[:len(w.open)-1]
	if n := len(w.open); n > 0 {
		w.open[n-1].order.low = min(w.open[n-1].order.low, s.order.low)
	}
	if s.order.low < s.order.index {
		return
	}
	i := len(w.stack) - 1
	for w.stack[i] != s {
		i--
	}
	component := append([]*Step(nil), w.stack[i:]...)
	w.stack = w.stack[:i]
	for _, m := range component {
		m.order.onStack = false
	}
	w.done(component)
}

// nextLink is the next linked input that was not followed yet.
func (s *Step) nextLink() (*Source, *Input) {
	for s.order.next < len(s.Inputs)+len(s.Rest) {
		i := s.order.next
		s.order.next++
		if i < len(s.Inputs) && s.Inputs[i].From != nil {
			return &s.Inputs[i], &s.Type.Inputs[i]
		}
		if i -= len(s.Inputs); i >= 0 && s.Rest[i].From != nil {
			return &s.Rest[i], nil
		}
	}
	return nil, nil
}

func (s *Step) readsItself() bool {
	itself := false
	s.links(func(src *Source) { itself = itself || src.From == s })
	return itself
}

// loop is one cycle through a component, beginning with its first node.
func loop(component []*Step) []*Step {
	inside := make(map[*Step]int, len(component))
	for _, s := range component {
		inside[s] = -1
	}
	var path []*Step
	for at := component[len(component)-1]; ; at = at.within(inside) {
		if i := inside[at]; i >= 0 {
			return path[i:]
		}
		inside[at] = len(path)
		path = append(path, at)
	}
}

// within is something that the step reads and that lies in the component.
func (s *Step) within(component map[*Step]int) (to *Step) {
	s.links(func(src *Source) {
		if _, ok := component[src.From]; ok && to == nil {
			to = src.From
		}
	})
	return to
}
