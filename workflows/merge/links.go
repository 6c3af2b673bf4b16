package merge

import (
	"cmp"
	"slices"
	"strconv"

	"github.com/comfyrun/comfyrun/workflows"
	"github.com/comfyrun/comfyrun/workflows/diff"
)

// link is a row of a file's list of links.
type link struct {
	id, origin string
	slot       int
	raw        workflows.Value
}

// linkTable is the links of one version of a sheet.
type linkTable struct {
	byID map[string]*link
	to   map[string]*link // by target and slot
	// names are those of outputs whose numbers may shift.
	names map[string][]string
}

func readLinks(o workflows.Object) *linkTable {
	t := &linkTable{byID: map[string]*link{}, to: map[string]*link{}, names: map[string][]string{}}
	rows, _ := o.Value("links").List()
	for _, row := range rows {
		items := linkItems(row)
		if len(items) < 5 {
			continue
		}
		slot, _ := items[2].Int64()
		at, _ := items[4].Int64()
		l := &link{id: items[0].ID(), origin: items[1].ID(), slot: int(slot), raw: row}
		t.byID[l.id] = l
		if key := items[3].ID() + " " + strconv.FormatInt(at, 10); t.to[key] == nil {
			t.to[key] = l
		}
	}
	return t
}

var linkKeys = []string{"id", "origin_id", "origin_slot", "target_id", "target_slot", "type"}

// linkItems are what a link says, in either form.
func linkItems(v workflows.Value) []workflows.Value {
	items, _ := v.List()
	if o, ok := v.Object(); ok {
		for _, key := range linkKeys {
			items = append(items, o.Value(key))
		}
	}
	return items
}

// into finds the link of an input: the one that it names, else the one that names it.
func (t *linkTable) into(node string, at int, id string) *link {
	if l := t.byID[id]; l != nil && id != "" {
		return l
	}
	if id == "" && node != diff.OutputNode {
		return nil
	}
	return t.to[node+" "+strconv.Itoa(at)]
}

// slot is the slot of an origin: its name where numbers may shift.
func (t *linkTable) slot(origin string, slot int) workflows.Value {
	if names := t.names[origin]; slot >= 0 && slot < len(names) {
		return workflows.StringValue(names[slot])
	}
	return workflows.IntValue(int64(slot))
}

// linkIDs gives every link of every version its id in the result: that of ours, else that of theirs or the base where it is
// not taken, else a new one. It returns the ids by version and old id.
func (s *sheetMerge) linkIDs() [3]map[string]string {
	s.ids = map[join]string{}
	taken := map[string]bool{}
	for _, part := range s.parts {
		for _, r := range part.links {
			if n, err := strconv.ParseUint(r.id, 10, 53); err == nil {
				s.highestLink = max(s.highestLink, n)
			}
		}
	}
	var byOld [3]map[string]string
	for _, i := range []int{ours, theirs, base} {
		byOld[i] = map[string]string{}
		for _, j := range s.parts[i].order {
			r := s.parts[i].links[j]
			if s.ids[j] == "" {
				id := r.id
				if taken[id] {
					id = s.newLink()
				}
				s.ids[j], taken[id] = id, true
			}
			byOld[i][r.id] = s.ids[j]
		}
	}
	return byOld
}

func (s *sheetMerge) newLink() string {
	s.highestLink++
	s.freshLink = true
	return strconv.FormatUint(s.highestLink, 10)
}

// ends is a link of the result while it is written.
type ends struct {
	join
	id         string
	originSlot int
	targetSlot int
}

// putTogether writes nodes, ports and links into the sheet.
func (s *sheetMerge) putTogether(o *workflows.Object, links [3]map[string]string, reroutes map[string]string) {
	var all []ends
	for _, id := range sortedIDs(s.nodes) {
		all = append(all, s.linksInto(id)...)
	}
	leading := map[string][]string{}
	for _, e := range all {
		at := e.origin + " " + s.outputKey(e.origin, e.originSlot)
		leading[at] = append(leading[at], e.id)
	}
	var nodes []workflows.Value
	for _, id := range sortedIDs(s.nodes) {
		node := s.written(id, leading, links)
		if s.p.id != "" && (id == diff.InputNode || id == diff.OutputNode) {
			ports := "inputs"
			if id == diff.OutputNode {
				ports = "outputs"
			}
			o.Set(ports, s.ports(id, node))
			continue
		}
		node.Set("id", numbered(id, true))
		nodes = append(nodes, workflows.ObjectValue(node))
	}
	o.Set("nodes", workflows.ListValue(nodes...))
	rows := make([]workflows.Value, len(all))
	for i, e := range all {
		rows[i] = s.row(e, reroutes)
	}
	o.Set("links", workflows.ListValue(rows...))
	s.raise(o)
	prune(o, all)
}

// linksInto are the links that the inputs of a node have.
func (s *sheetMerge) linksInto(id string) []ends {
	slots := keyList(some(s.nodes[id].Value("inputs")), slotName)
	var all []ends
	for at, key := range slots.keys {
		slot, _ := slots.items[key].Object()
		origin, number, ok := source(slot.Value("link"))
		if !ok {
			continue
		}
		e := ends{join: join{origin, number.Raw(), id, key}, targetSlot: at}
		if name, ok := number.Str(); ok {
			e.originSlot = slices.Index(keyList(some(s.nodes[origin].Value("outputs")), slotName).keys, name)
		} else {
			n, _ := number.Int64()
			e.originSlot = int(n)
		}
		if e.id = s.ids[e.join]; e.id == "" {
			e.id = s.newLink()
			s.ids[e.join] = e.id
		}
		all = append(all, e)
	}
	return all
}

// outputKey is the name of an output by its number.
func (s *sheetMerge) outputKey(id string, at int) string {
	keys := keyList(some(s.nodes[id].Value("outputs")), slotName).keys
	if at < 0 || at >= len(keys) {
		return "#" + strconv.Itoa(at)
	}
	return keys[at]
}

// written is a node with ids of links in its slots.
func (s *sheetMerge) written(id string, leading map[string][]string, links [3]map[string]string) workflows.Object {
	node := slices.Clone(s.nodes[id])
	for i, m := range node {
		switch m.Key {
		case "inputs":
			node[i].Value = mapSlots(m.Value, func(key string, slot *workflows.Object) {
				origin, number, ok := source((*slot).Value("link"))
				if ok {
					slot.Set("link", numbered(s.ids[join{origin, number.Raw(), id, key}], true))
				}
			})
		case "outputs":
			node[i].Value = mapSlots(m.Value, func(key string, slot *workflows.Object) {
				at := id + " " + key
				if ids := leading[at]; len(ids) > 0 {
					slot.Set("links", idList(s.inOrder(ids, at, links)))
				}
			})
		}
	}
	return node
}

// inOrder puts the links of an output into the order of the files.
func (s *sheetMerge) inOrder(ids []string, at string, links [3]map[string]string) []string {
	rank := map[string]int{}
	lists := [3][]string{}
	for i := range s.parts {
		for _, old := range s.parts[i].outputs[at] {
			lists[i] = append(lists[i], links[i][old])
		}
	}
	first, second := ours, theirs
	if slices.Equal(lists[base], lists[ours]) {
		first, second = theirs, ours
	}
	for _, id := range slices.Concat(lists[first], lists[second]) {
		if _, known := rank[id]; !known {
			rank[id] = len(rank)
		}
	}
	place := func(id string) int {
		if n, ok := rank[id]; ok {
			return n
		}
		return len(rank)
	}
	slices.SortFunc(ids, func(a, b string) int { return cmp.Or(place(a)-place(b), workflows.CompareIDs(a, b)) })
	return ids
}

func idList(ids []string) workflows.Value {
	items := make([]workflows.Value, len(ids))
	for i, id := range ids {
		items[i] = numbered(id, true)
	}
	return workflows.ListValue(items...)
}

// ports are the inputs or outputs of a subgraph as its definition lists them.
func (s *sheetMerge) ports(id string, node workflows.Object) workflows.Value {
	if id == diff.OutputNode {
		return mapSlots(node.Value("inputs"), func(_ string, port *workflows.Object) {
			ids := []workflows.Value{}
			if v := (*port).Value("link"); !v.IsNull() {
				ids = append(ids, v)
			}
			port.Delete("link")
			port.Set("linkIds", workflows.ListValue(ids...))
		})
	}
	return mapSlots(node.Value("outputs"), func(_ string, port *workflows.Object) {
		ids := (*port).Value("links")
		if ids.IsNull() {
			ids = workflows.ListValue()
		}
		port.Delete("links")
		port.Set("linkIds", ids)
	})
}

// row writes a link, in the form that ours uses, with what the files say of it.
func (s *sheetMerge) row(e ends, reroutes map[string]string) workflows.Value {
	asObject := s.p.id != ""
	for _, i := range []int{theirs, ours} {
		if part := s.parts[i]; len(part.order) > 0 {
			asObject = part.links[part.order[0]].raw.Kind() == workflows.KindObject
		}
	}
	var raw workflows.Value
	for _, i := range []int{ours, theirs, base} {
		if r, ok := s.parts[i].links[e.join]; ok {
			raw = r.raw
			if o, ok := raw.Object(); ok && i == theirs {
				raw = relabelParent(o, reroutes)
			}
			break
		}
	}
	values := []workflows.Value{
		numbered(e.id, true), numbered(e.origin, true), workflows.IntValue(int64(e.originSlot)),
		numbered(e.target, true), workflows.IntValue(int64(e.targetSlot)), workflows.StringValue("*"),
	}
	if old := linkItems(raw); len(old) > 5 {
		values[5] = old[5]
	}
	if !asObject {
		if items, ok := raw.List(); ok && len(items) > 6 {
			values = append(values, items[6:]...)
		}
		return workflows.ListValue(values...)
	}
	o, _ := raw.Object()
	for i, key := range linkKeys {
		o.Set(key, values[i])
	}
	return workflows.ObjectValue(o)
}

// raise makes counters of ids as high as the ids that were given anew.
func (s *sheetMerge) raise(o *workflows.Object) {
	state, hasState := (*o).Value("state").Object()
	for _, c := range []struct {
		key, inState string
		fresh        bool
		least        uint64
	}{
		{"last_node_id", "lastNodeId", s.p.fresh, s.p.highest},
		{"last_link_id", "lastLinkId", s.freshLink, s.highestLink},
	} {
		if !c.fresh {
			continue
		}
		for _, at := range []struct {
			o   *workflows.Object
			key string
		}{{o, c.key}, {&state, c.inState}} {
			v, ok := at.o.Get(at.key)
			if n, _ := v.Uint64(); ok && n < c.least {
				at.o.Set(at.key, workflows.UintValue(c.least))
			}
		}
	}
	if hasState {
		o.Set("state", workflows.ObjectValue(state))
	}
}
