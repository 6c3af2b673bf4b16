package diff

import (
	"cmp"
	"container/heap"
	"hash/fnv"
	"slices"
	"strconv"
)

// side is one sheet with what is compared of it.
type side struct {
	nodes []*features
	index map[string]int // of nodes by id
	count map[string]int // of nodes by class
}

// features are what is compared of a node. Numbers that stand for texts are hashes of them, which do not differ between
// runs.
type features struct {
	n        *Node
	class    string // in the words of the old document
	port     bool
	literals []uint64 // names with values, sorted
	roles    []uint64 // links as the classes, names and slots at their ends, sorted
	sources  []edge   // by name
	// consumers are the links that lead away.
	consumers []edge
	// deep is what the node says, and what everything up to one or two links away says.
	deep     [3]uint64
	verbatim uint64 // its links with the ids at their ends
	mate     int    // the node of the other side that it is, or -1
}

// edge is a link: the name of the input at its end, the slot at its start, and the node at the other end, or -1.
type edge struct {
	name uint64
	slot int
	node int
}

// sourceAt is the place of an input among the sources, or -1.
func (f *features) sourceAt(name uint64) int {
	i, ok := slices.BinarySearchFunc(f.sources, name, func(e edge, name uint64) int { return cmp.Compare(e.name, name) })
	if !ok {
		return -1
	}
	return i
}

// source is the node that an input comes from, or -1.
func (f *features) source(name uint64) int {
	if k := f.sourceAt(name); k >= 0 {
		return f.sources[k].node
	}
	return -1
}

// newSide looks at a sheet. Classes tells other names of classes.
func newSide(s *Sheet, classes map[string]string) *side {
	d := &side{index: make(map[string]int, len(s.Nodes)), count: map[string]int{}}
	for i, n := range s.Nodes {
		f := &features{n: n, class: n.Class, port: n.port, mate: -1}
		if other, ok := classes[n.Class]; ok {
			f.class = other
		}
		d.index[n.ID] = i
		d.count[f.class]++
		for _, l := range n.Literals {
			f.literals = append(f.literals, hash(l.Name, l.Value.Raw()))
		}
		slices.Sort(f.literals)
		d.nodes = append(d.nodes, f)
	}
	verbatim := make([][]uint64, len(d.nodes))
	for i, f := range d.nodes {
		for _, in := range f.n.Inputs {
			d.link(i, in, verbatim)
		}
	}
	for i, f := range d.nodes {
		slices.SortFunc(f.sources, func(e, h edge) int { return cmp.Compare(e.name, h.name) })
		slices.Sort(f.roles)
		slices.Sort(verbatim[i])
		f.verbatim = mix(0, verbatim[i]...)
		f.deep[0] = mix(hash(f.class, f.n.Title), f.literals...)
	}
	for level := 1; level < 3; level++ {
		for _, f := range d.nodes {
			f.deep[level] = d.around(f, level-1)
		}
	}
	return d
}

// link notes a link at both of its ends.
func (d *side) link(i int, in Input, verbatim [][]uint64) {
	f, name, slot := d.nodes[i], hash(in.Name), strconv.Itoa(in.From.Slot)
	j, ok := d.index[in.From.Node]
	verbatim[i] = append(verbatim[i], hash("in", in.Name, in.From.Node, slot))
	if !ok {
		f.sources = append(f.sources, edge{name, in.From.Slot, -1})
		return
	}
	g := d.nodes[j]
	f.sources = append(f.sources, edge{name, in.From.Slot, j})
	g.consumers = append(g.consumers, edge{name, in.From.Slot, i})
	f.roles = append(f.roles, hash("from", in.Name, g.class, slot))
	g.roles = append(g.roles, hash("to", in.Name, f.class, slot))
	verbatim[j] = append(verbatim[j], hash("out", in.Name, f.n.ID, slot))
}

// around is what a node and its neighbours are like at a level.
func (d *side) around(f *features, level int) uint64 {
	var near []uint64
	for _, e := range f.sources {
		if e.node >= 0 {
			near = append(near, mix(1, e.name, uint64(e.slot), d.nodes[e.node].deep[level]))
		}
	}
	for _, e := range f.consumers {
		near = append(near, mix(2, e.name, uint64(e.slot), d.nodes[e.node].deep[level]))
	}
	slices.Sort(near)
	return mix(f.deep[level], near...)
}

func hash(texts ...string) uint64 {
	h := fnv.New64a()
	for _, s := range texts {
		h.Write([]byte(s))
		h.Write([]byte{0})
	}
	return h.Sum64()
}

// mix makes one number of several: the finalizer of MurmurHash3 after each.
func mix(h uint64, values ...uint64) uint64 {
	for _, v := range values {
		h = (h ^ v) * 0x9e3779b97f4a7c15
		h = (h ^ h>>33) * 0xff51afd7ed558ccd
		h ^= h >> 33
	}
	return h
}

// common counts what two sorted lists have in common.
func common(a, b []uint64) int {
	n := 0
	for len(a) > 0 && len(b) > 0 {
		switch {
		case a[0] < b[0]:
			a = a[1:]
		case a[0] > b[0]:
			b = b[1:]
		default:
			n++
			a, b = a[1:], b[1:]
		}
	}
	return n
}

// score says how much speaks for two nodes of one class to be the same.
func (m *matcher) score(i, j int) int {
	f, g := m.a.nodes[i], m.b.nodes[j]
	s := share(f.literals, g.literals) + share(f.roles, g.roles)
	if f.n.ID == g.n.ID {
		s += m.idWeight
	}
	if f.n.Title != "" && f.n.Title == g.n.Title {
		s += 100
	}
	for _, level := range []int{1, 2} {
		if f.deep[level] == g.deep[level] {
			s += 100
		}
	}
	if m.a.count[f.class] == 1 && m.b.count[f.class] == 1 {
		s += 100
	}
	alike, other := m.neighbours(i, j)
	return s + min(600, 120*alike) - min(300, 60*other)
}

// share is how much of two lists they have in common, up to 300.
func share(a, b []uint64) int {
	most := max(len(a), len(b))
	if most == 0 {
		return 0
	}
	return 300 * common(a, b) / most
}

// neighbours counts the links of two nodes that lead to what is known to be the same, and those that lead elsewhere.
func (m *matcher) neighbours(i, j int) (alike, other int) {
	f, g := m.a.nodes[i], m.b.nodes[j]
	for _, e := range f.sources {
		if e.node < 0 || m.a.nodes[e.node].mate < 0 {
			continue
		}
		if k := g.sourceAt(e.name); k >= 0 && m.sameSource(e, g.sources[k]) {
			alike++
		} else {
			other++
		}
	}
	const most = 16
	for x, e := range f.consumers {
		mate := m.a.nodes[e.node].mate
		if x == most || mate < 0 {
			continue
		}
		if k := m.b.nodes[mate].sourceAt(e.name); k >= 0 && m.b.nodes[mate].sources[k].node == j {
			alike++
		} else {
			other++
		}
	}
	return alike, other
}

// The bounds of the pairs that are scored.
const (
	maxPairs  = 4096 // of a class, all of which are scored
	maxBucket = 32   // of a feature, where a class has more
)

// propose scores the pairs of nodes that are left: all of a class, or where that is too many those with the same id or with
// a rare feature in common.
func (m *matcher) propose() {
	left := map[string][2][]int{}
	var classes []string
	for i, f := range m.a.nodes {
		if f.mate < 0 {
			l := left[f.class]
			if len(l[0]) == 0 {
				classes = append(classes, f.class)
			}
			l[0] = append(l[0], i)
			left[f.class] = l
		}
	}
	for j, g := range m.b.nodes {
		if l, ok := left[g.class]; ok && g.mate < 0 {
			l[1] = append(l[1], j)
			left[g.class] = l
		}
	}
	for _, class := range classes {
		as, bs := left[class][0], left[class][1]
		if len(as)*len(bs) > maxPairs {
			m.proposeRare(as, bs)
			continue
		}
		for _, i := range as {
			for _, j := range bs {
				m.consider(i, j)
			}
		}
	}
}

// proposeRare scores pairs with a feature in common, of a feature the first few.
func (m *matcher) proposeRare(as, bs []int) {
	by := map[uint64][]int{}
	for _, j := range bs {
		for _, token := range m.b.nodes[j].tokens() {
			if len(by[token]) < maxBucket {
				by[token] = append(by[token], j)
			}
		}
	}
	for _, i := range as {
		seen := map[int]bool{}
		for _, token := range m.a.nodes[i].tokens() {
			for _, j := range by[token] {
				if len(seen) < maxBucket && !seen[j] {
					seen[j] = true
					m.consider(i, j)
				}
			}
		}
	}
}

// tokens are the features of a node, the telling ones first.
func (f *features) tokens() []uint64 {
	tokens := []uint64{hash("id", f.n.ID), f.deep[2], f.deep[1], f.deep[0], f.verbatim}
	if f.n.Title != "" {
		tokens = append(tokens, hash("title", f.n.Title))
	}
	return append(append(tokens, f.literals...), f.roles...)
}

// candidate is a pair with its score.
type candidate struct{ score, i, j int }

// candidates is a heap, the best first; of equals the first ids.
type candidates []candidate

func (c *candidates) push(x candidate) { heap.Push(c, x) }
func (c *candidates) pop() candidate   { return heap.Pop(c).(candidate) }

// Len is the number of pairs.
func (c candidates) Len() int { return len(c) }

// Less is whether one pair comes before another.
func (c candidates) Less(x, y int) bool {
	return cmp.Or(cmp.Compare(c[y].score, c[x].score), cmp.Compare(c[x].i, c[y].i), cmp.Compare(c[x].j, c[y].j)) < 0
}

// Swap exchanges two pairs.
func (c candidates) Swap(x, y int) { c[x], c[y] = c[y], c[x] }

// Push appends a candidate, for the package container/heap.
func (c *candidates) Push(x any) { *c = append(*c, x.(candidate)) }

// Pop removes the last candidate, for the package container/heap.
func (c *candidates) Pop() any {
	last := (*c)[len(*c)-1]
	*c = (*c)[:len(*c)-1]
	return last
}
