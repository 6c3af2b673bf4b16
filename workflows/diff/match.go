package diff

// Matching says which node of one sheet is which node of another.
type Matching struct {
	Old, New *Sheet
	toNew    map[string]string
	toOld    map[string]string
}

// NewID returns the id in the new sheet of a node of the old one.
func (m *Matching) NewID(old string) (string, bool) {
	id, ok := m.toNew[old]
	return id, ok
}

// OldID returns the id in the old sheet of a node of the new one.
func (m *Matching) OldID(id string) (string, bool) {
	id, ok := m.toOld[id]
	return id, ok
}

// Match finds the sheets that two documents have in common and matches their nodes, in the order of the new document's
// sheets. Subgraphs are the same by id, else by a name that is the only one of its kind on both sides.
func Match(a, b *Document) []*Matching {
	pairs := [][2]*Sheet{{a.Sheets[0], b.Sheets[0]}}
	classes := map[string]string{} // classes of the new document in terms of the old one
	for _, s := range b.Sheets[1:] {
		if old := counterpart(a, b, s); old != nil {
			pairs = append(pairs, [2]*Sheet{old, s})
			classes[s.ID] = old.ID
		}
	}
	var all []*Matching
	for _, p := range pairs {
		all = append(all, matchSheets(p[0], p[1], classes))
	}
	return all
}

// counterpart finds the subgraph of a that s is in b.
func counterpart(a, b *Document, s *Sheet) *Sheet {
	var found *Sheet
	for _, old := range a.Sheets[1:] {
		if old.ID == s.ID {
			return old
		}
		if old.Name == s.Name && b.sheet(old.ID) == nil {
			if found != nil {
				return nil
			}
			found = old
		}
	}
	if found != nil {
		for _, other := range b.Sheets[1:] {
			if other != s && other.Name == s.Name && a.sheet(other.ID) == nil {
				return nil
			}
		}
	}
	return found
}

// sheet finds a subgraph by id.
func (d *Document) sheet(id string) *Sheet {
	for _, s := range d.Sheets[1:] {
		if s.ID == id {
			return s
		}
	}
	return nil
}

// How much the same id weighs, by what is believed of ids.
const (
	trusted  = 1000
	doubtful = 60
)

// matchSheets makes a matching that trusts ids and one that does not, and returns the one that leaves fewer changes.
func matchSheets(a, b *Sheet, classes map[string]string) *Matching {
	first := newMatcher(a, b, classes)
	first.run(trusted)
	best := first
	if cost := first.cost(); cost > 0 {
		second := newMatcher(a, b, classes)
		second.run(doubtful)
		if second.cost() < cost {
			best = second
		}
	}
	m := &Matching{Old: a, New: b, toNew: map[string]string{}, toOld: map[string]string{}}
	for i, f := range best.a.nodes {
		if f.mate >= 0 {
			m.toNew[a.Nodes[i].ID] = b.Nodes[f.mate].ID
			m.toOld[b.Nodes[f.mate].ID] = a.Nodes[i].ID
		}
	}
	return m
}

// matcher is one attempt to match two sheets.
type matcher struct {
	a, b     *side
	idWeight int
	heap     candidates
}

func newMatcher(a, b *Sheet, classes map[string]string) *matcher {
	return &matcher{a: newSide(a, nil), b: newSide(b, classes)}
}

func (m *matcher) run(idWeight int) {
	m.idWeight = idWeight
	if idWeight == trusted {
		m.anchorIDs()
	}
	m.anchorContent()
	m.propose()
	m.settle()
	m.zip()
	m.replace()
}

func (m *matcher) pair(i, j int) {
	m.a.nodes[i].mate, m.b.nodes[j].mate = j, i
}

func (m *matcher) free(i, j int) bool {
	return m.a.nodes[i].mate < 0 && m.b.nodes[j].mate < 0
}

// anchorIDs pairs nodes of the same id and class that say the same and are linked to the same ids in both directions.
func (m *matcher) anchorIDs() {
	for i, f := range m.a.nodes {
		if j, ok := m.b.index[f.n.ID]; ok && m.b.nodes[j].class == f.class {
			if g := m.b.nodes[j]; g.port || f.deep[0] == g.deep[0] && f.verbatim == g.verbatim {
				m.pair(i, j)
			}
		}
	}
}

// anchorContent pairs nodes that no other node of either side is like, two links around. An id that may be right has the
// say where ids are trusted.
func (m *matcher) anchorContent() {
	in := map[uint64][2]int{} // nodes of each side by what they are like
	for _, f := range m.a.nodes {
		n := in[f.deep[2]]
		n[0]++
		in[f.deep[2]] = n
	}
	at := map[uint64]int{}
	for j, g := range m.b.nodes {
		n := in[g.deep[2]]
		n[1]++
		in[g.deep[2]] = n
		at[g.deep[2]] = j
	}
	for i, f := range m.a.nodes {
		if in[f.deep[2]] != [2]int{1, 1} {
			continue
		}
		j := at[f.deep[2]]
		if !m.free(i, j) || m.b.nodes[j].class != f.class || m.idWeight == trusted && m.contested(i, j) {
			continue
		}
		m.pair(i, j)
	}
}

// contested is whether the id of a node is that of another of its class on the other side.
func (m *matcher) contested(i, j int) bool {
	f, g := m.a.nodes[i], m.b.nodes[j]
	if f.n.ID == g.n.ID {
		return false
	}
	k, ok := m.b.index[f.n.ID]
	if ok && m.b.nodes[k].class == f.class {
		return true
	}
	k, ok = m.a.index[g.n.ID]
	return ok && m.a.nodes[k].class == g.class
}

// settle takes the best pair until none is good enough.
func (m *matcher) settle() {
	for len(m.heap) > 0 {
		c := m.heap.pop()
		if m.free(c.i, c.j) {
			m.pair(c.i, c.j)
			m.spread(c.i, c.j)
		}
	}
}

// zip pairs nodes that are left though they and all around them are alike, in the order of their ids.
func (m *matcher) zip() {
	left := map[uint64][]int{}
	for j, g := range m.b.nodes {
		if g.mate < 0 {
			left[g.deep[2]] = append(left[g.deep[2]], j)
		}
	}
	for i, f := range m.a.nodes {
		if js := left[f.deep[2]]; f.mate < 0 && len(js) > 0 && m.b.nodes[js[0]].class == f.class {
			m.pair(i, js[0])
			left[f.deep[2]] = js[1:]
		}
	}
}

// spread proposes the neighbours of a pair anew, which know more now.
func (m *matcher) spread(i, j int) {
	f, g := m.a.nodes[i], m.b.nodes[j]
	for _, e := range f.sources {
		if k := g.source(e.name); k >= 0 {
			m.consider(e.node, k)
		}
	}
	const most = 16
	for x, e := range f.consumers {
		if x == most {
			break
		}
		for y, h := range g.consumers {
			if y == most {
				break
			}
			if e.name == h.name && e.slot == h.slot {
				m.consider(e.node, h.node)
			}
		}
	}
}

// enough is the score from which two nodes are taken for one.
const enough = 160

func (m *matcher) consider(i, j int) {
	if i < 0 || j < 0 || !m.free(i, j) || m.a.nodes[i].class != m.b.nodes[j].class {
		return
	}
	if s := m.score(i, j); s >= enough {
		m.heap.push(candidate{score: s, i: i, j: j})
	}
}

// replace pairs nodes of different classes that stand in the same place: of the same id with one link alike, or with most
// of their links alike.
func (m *matcher) replace() {
	var as, bs []int
	for i, f := range m.a.nodes {
		if f.mate < 0 && !f.port {
			as = append(as, i)
		}
	}
	for j, g := range m.b.nodes {
		if g.mate < 0 && !g.port {
			bs = append(bs, j)
		}
	}
	for _, i := range as {
		if j, ok := m.b.index[m.a.nodes[i].n.ID]; ok {
			m.replaceBy(i, j)
		}
	}
	if len(as)*len(bs) <= maxPairs {
		for _, i := range as {
			for _, j := range bs {
				m.replaceBy(i, j)
			}
		}
	}
	for len(m.heap) > 0 {
		if c := m.heap.pop(); m.free(c.i, c.j) {
			m.pair(c.i, c.j)
		}
	}
}

func (m *matcher) replaceBy(i, j int) {
	f, g := m.a.nodes[i], m.b.nodes[j]
	if !m.free(i, j) || f.class == g.class {
		return
	}
	alike, _ := m.neighbours(i, j)
	most := max(len(f.sources)+len(f.consumers), len(g.sources)+len(g.consumers))
	if f.n.ID == g.n.ID && alike > 0 {
		m.heap.push(candidate{score: trusted + alike, i: i, j: j})
	} else if alike >= 2 && 2*alike > most {
		m.heap.push(candidate{score: alike, i: i, j: j})
	}
}

// cost counts the changes that a matching leaves: four for a node without a counterpart, one for each other change.
func (m *matcher) cost() int {
	cost := 0
	for i, f := range m.a.nodes {
		if f.mate < 0 {
			cost += 4
			continue
		}
		cost += m.pairCost(i, f.mate)
	}
	for _, g := range m.b.nodes {
		if g.mate < 0 {
			cost += 4
		}
	}
	return cost
}

func (m *matcher) pairCost(i, j int) int {
	f, g := m.a.nodes[i], m.b.nodes[j]
	cost := max(len(f.literals), len(g.literals)) - common(f.literals, g.literals)
	if f.n.ID != g.n.ID {
		cost++
	}
	if f.class != g.class {
		cost++
	}
	if f.n.Title != g.n.Title {
		cost++
	}
	for _, e := range f.sources {
		if k := g.sourceAt(e.name); k < 0 || !m.sameSource(e, g.sources[k]) {
			cost++
		}
	}
	for _, e := range g.sources {
		if f.sourceAt(e.name) < 0 {
			cost++
		}
	}
	return cost
}

func (m *matcher) sameSource(e, h edge) bool {
	return e.slot == h.slot && e.node >= 0 && h.node >= 0 && m.a.nodes[e.node].mate == h.node
}
