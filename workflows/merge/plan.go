package merge

import (
	"slices"
	"strconv"
	"strings"

	"github.com/comfyrun/comfyrun/workflows"
	"github.com/comfyrun/comfyrun/workflows/diff"
)

// plan gives the nodes of one sheet the ids of the result.
type plan struct {
	id     string // of the subgraph
	sheets [3]*diff.Sheet
	// ids are those of the result by those of a version.
	ids [3]map[string]string
	// byID are the nodes of a version by their ids in the result.
	byID [3]map[string]*diff.Node
	// highest is the highest number in an id.
	highest uint64
	taken   map[string]bool
	// fresh is whether a node got an id that no version has.
	fresh bool
}

// identity is one node in the versions that have it, by id.
type identity [3]string

// plan decides for every sheet which nodes are the same.
func (m *merger) plan() {
	m.sheets = map[string]*plan{}
	var known []string
	for i, doc := range m.documents {
		for _, s := range doc.Sheets {
			p := m.sheets[s.ID]
			if p == nil {
				p = &plan{id: s.ID}
				m.sheets[s.ID] = p
				known = append(known, s.ID)
			}
			p.sheets[i] = s
		}
	}
	var matched [3]map[string]*diff.Matching // by sheet: base and ours, base and theirs, ours and theirs
	for k, pair := range [3][2]int{{base, ours}, {base, theirs}, {ours, theirs}} {
		matched[k] = map[string]*diff.Matching{}
		for _, x := range diff.Match(m.documents[pair[0]], m.documents[pair[1]]) {
			if x.Old.ID == x.New.ID {
				matched[k][x.Old.ID] = x
			}
		}
	}
	slices.Sort(known)
	for _, id := range known {
		p := m.sheets[id]
		for i := range p.sheets {
			if p.sheets[i] == nil {
				p.sheets[i] = &diff.Sheet{}
			}
		}
		p.assign(p.identities(matched[0][id], matched[1][id], matched[2][id]))
		m.renumberings(p)
	}
}

// identities lists the nodes of a sheet: those of the base, then those that sides added.
func (p *plan) identities(toOurs, toTheirs, across *diff.Matching) []identity {
	var all []identity
	for _, n := range p.sheets[base].Nodes {
		x := identity{base: n.ID}
		x[ours] = newID(toOurs, n.ID)
		x[theirs] = newID(toTheirs, n.ID)
		all = append(all, x)
	}
	var added [3][]*diff.Node
	for side, from := range [3]*diff.Matching{ours: toOurs, theirs: toTheirs} {
		for _, n := range p.sheets[side].Nodes {
			if side != base && oldID(from, n.ID) == "" {
				added[side] = append(added[side], n)
			}
		}
	}
	both := p.addedAlike(all, added)
	if len(p.sheets[base].Nodes) == 0 && across != nil {
		both = map[string]string{}
		for _, n := range added[ours] {
			if id := newID(across, n.ID); id != "" {
				both[n.ID] = id
			}
		}
	}
	twice := map[string]bool{}
	for _, n := range added[ours] {
		all = append(all, identity{ours: n.ID, theirs: both[n.ID]})
		twice[both[n.ID]] = true
	}
	for _, n := range added[theirs] {
		if !twice[n.ID] {
			all = append(all, identity{theirs: n.ID})
		}
	}
	return all
}

func newID(m *diff.Matching, id string) string {
	if m == nil {
		return ""
	}
	id, _ = m.NewID(id)
	return id
}

func oldID(m *diff.Matching, id string) string {
	if m == nil {
		return ""
	}
	id, _ = m.OldID(id)
	return id
}

// addedAlike finds nodes that both sides added alike: with the same id, and all values and links the same. It supposes that
// of all pairs with the same id and values, and drops those whose links differ, until none does.
func (p *plan) addedAlike(all []identity, added [3][]*diff.Node) map[string]string {
	same := map[string]string{} // ids of ours to ids of theirs
	for _, x := range all {
		if x[ours] != "" && x[theirs] != "" {
			same[x[ours]] = x[theirs]
		}
	}
	both := map[string]string{}
	fresh := map[*diff.Node]bool{}
	for _, n := range added[theirs] {
		fresh[n] = true
	}
	for _, n := range added[ours] {
		if other := p.sheets[theirs].Node(n.ID); fresh[other] && alike(n, other) {
			both[n.ID], same[n.ID] = n.ID, n.ID
		}
	}
	for dropped := true; dropped; {
		dropped = false
		for _, n := range added[ours] {
			if both[n.ID] != "" && !linkedAlike(n, p.sheets[theirs].Node(n.ID), same) {
				delete(both, n.ID)
				delete(same, n.ID)
				dropped = true
			}
		}
	}
	return both
}

func alike(a, b *diff.Node) bool {
	return a.Class == b.Class && a.Title == b.Title && a.Mode == b.Mode && slices.Equal(a.Literals, b.Literals) && slices.Equal(a.Members, b.Members)
}

func linkedAlike(a, b *diff.Node, same map[string]string) bool {
	return slices.EqualFunc(a.Inputs, b.Inputs, func(x, y diff.Input) bool {
		return x.Name == y.Name && x.From.Slot == y.From.Slot && same[x.From.Node] == y.From.Node
	})
}

// assign gives every node its id in the result: the one that ours has, unless only theirs changed it; then that of theirs;
// a new one where that is taken.
func (p *plan) assign(all []identity) {
	p.taken = map[string]bool{}
	for i := range p.ids {
		p.ids[i] = map[string]string{}
		for _, n := range p.sheets[i].Nodes {
			p.count(n.ID)
		}
	}
	renumbered := func(x identity) bool {
		return x[ours] != "" && x[ours] == x[base] && x[theirs] != "" && x[theirs] != x[base]
	}
	for _, x := range all {
		if x[ours] != "" && !renumbered(x) {
			p.take(x, x[ours])
		}
	}
	for _, x := range all {
		if renumbered(x) {
			p.take(x, x[theirs], x[ours])
		}
	}
	for _, x := range all {
		if x[ours] == "" && x[theirs] != "" {
			p.take(x, x[theirs])
		}
	}
	for _, x := range all {
		if x[ours] == "" && x[theirs] == "" {
			p.take(x, x[base])
		}
	}
	for i, s := range p.sheets {
		p.byID[i] = map[string]*diff.Node{}
		for _, n := range s.Nodes {
			p.byID[i][p.ids[i][n.ID]] = n
		}
	}
}

// take gives a node the first of some ids that is not taken, else a new one.
func (p *plan) take(x identity, wanted ...string) {
	id := ""
	for _, w := range wanted {
		if !p.taken[w] {
			id = w
			break
		}
	}
	for id == "" || p.taken[id] {
		p.highest++
		p.fresh = true
		id = strconv.FormatUint(p.highest, 10)
	}
	p.taken[id] = true
	for i, old := range x {
		if old != "" {
			p.ids[i][old] = id
		}
	}
}

// count notes the numbers in an id.
func (p *plan) count(id string) {
	for _, part := range strings.Split(id, ":") {
		if n, err := strconv.ParseUint(part, 10, 53); err == nil {
			p.highest = max(p.highest, n)
		}
	}
}

// renumberings lists the nodes of theirs that got another id because it was taken.
func (m *merger) renumberings(p *plan) {
	for _, n := range p.sheets[theirs].Nodes {
		if to := p.ids[theirs][n.ID]; to != n.ID {
			m.result.Renumbered = append(m.result.Renumbered, Renumbering{Sheet: p.ref(), Class: n.Class, From: n.ID, To: to})
		}
	}
}

func (p *plan) ref() *diff.SheetRef {
	if p.id == "" {
		return nil
	}
	for _, i := range []int{ours, theirs, base} {
		if s := p.sheets[i]; s.ID == p.id {
			return &diff.SheetRef{ID: s.ID, Name: s.Name}
		}
	}
	return &diff.SheetRef{ID: p.id}
}

// id is the id in the result of a node of a version; one that no version has stays.
func (p *plan) idOf(version int, id string) string {
	if to, ok := p.ids[version][id]; ok {
		return to
	}
	return id
}

// node names a node of the result by what the versions say of it.
func (p *plan) node(id string) *diff.Ref {
	for _, i := range []int{ours, theirs, base} {
		if n := p.byID[i][id]; n != nil {
			r := &diff.Ref{ID: id, Class: n.Class, Title: n.Title}
			if n.Label != n.Class {
				r.Label = n.Label
			}
			return r
		}
	}
	return &diff.Ref{ID: id}
}

// numbered is an id as JSON: a number if it is written as one, where numbers are used.
func numbered(id string, numbers bool) workflows.Value {
	if n, err := strconv.ParseInt(id, 10, 64); err == nil && numbers && strconv.FormatInt(n, 10) == id {
		return workflows.IntValue(n)
	}
	return workflows.StringValue(id)
}
