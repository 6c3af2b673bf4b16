package diff

import (
	"fmt"
	"html"
	"slices"
	"strings"
)

const style = `:root{color-scheme:light dark;--bg:#fff;--fg:#1b1f24;--box:#eef1f4;--line:#8a94a0;--add:#1a7f37;--del:#cf222e;--mod:#b08800}
@media(prefers-color-scheme:dark){:root{--bg:#14171b;--fg:#e4e8ec;--box:#262c33;--line:#7d8794;--add:#3fb950;--del:#f85149;--mod:#d7a928}}
body{background:var(--bg);color:var(--fg);font:14px/1.5 system-ui,sans-serif;margin:1.5rem}
h1{font-size:1.2rem}h2{font-size:1rem}.pair{display:grid;grid-template-columns:1fr 1fr;gap:1rem}
figure{margin:0;border:1px solid var(--line);border-radius:6px;overflow:auto;max-height:75vh}figcaption{padding:.3rem .6rem;font-weight:600}
pre{white-space:pre-wrap;overflow-wrap:anywhere;background:var(--box);padding:.8rem;border-radius:6px}
svg{display:block;min-width:100%}svg text{font:12px system-ui,sans-serif;fill:var(--fg)}svg text.value{font-size:11px;opacity:.8}
rect{fill:var(--box);stroke:var(--line);stroke-width:1}path{fill:none;stroke:var(--line);stroke-width:1.4}
.added rect{stroke:var(--add);stroke-width:3}.removed rect{stroke:var(--del);stroke-width:3}.changed rect{stroke:var(--mod);stroke-width:3}
.off{opacity:.5}path.added{stroke:var(--add);stroke-width:2.4}path.removed{stroke:var(--del);stroke-width:2.4}
.added text.value.marked{fill:var(--add)}.changed text.value.marked{fill:var(--mod);opacity:1;font-weight:600}
`

// HTML writes a diff as one page that needs nothing else: the drawings of both documents side by side, what changed marked,
// and the changes in words.
func (d *Diff) HTML() string {
	var b strings.Builder
	title := d.Old.Name + " → " + d.New.Name
	fmt.Fprintf(&b, "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>%s</title>\n<style>\n%s</style></head><body>\n",
		escape(title), style)
	fmt.Fprintf(&b, "<h1>%s</h1>\n", escape(title))
	words := d.Text(false)
	if words == "" {
		words = "no difference\n"
	}
	fmt.Fprintf(&b, "<pre>%s</pre>\n", html.EscapeString(words))
	for _, s := range d.New.Sheets {
		m := d.pairs[s.ID]
		if m == nil {
			m = &Matching{Old: &Sheet{}, New: s}
		}
		if s.ID != "" {
			fmt.Fprintf(&b, "<h2>subgraph %s</h2>\n", escape(s.Name))
		}
		d.figures(&b, m)
	}
	b.WriteString("</body></html>\n")
	return b.String()
}

func escape(s string) string { return html.EscapeString(shown(s)) }

// marks are what changed of a sheet: nodes by id, and their inputs.
type marks struct {
	nodes  map[string]string
	inputs map[string]map[string]bool
}

func (m *marks) set(id, class, input string) {
	if m.nodes[id] == "" {
		m.nodes[id] = class
	}
	if m.inputs[id] == nil {
		m.inputs[id] = map[string]bool{}
	}
	m.inputs[id][input] = true
}

// figures draws a sheet of both documents.
func (d *Diff) figures(b *strings.Builder, m *Matching) {
	before := &marks{map[string]string{}, map[string]map[string]bool{}}
	after := &marks{map[string]string{}, map[string]map[string]bool{}}
	for _, c := range d.Changes {
		id := ""
		if c.Sheet != nil {
			id = c.Sheet.ID
		}
		if c.Node == nil || id != m.New.ID {
			continue
		}
		switch c.Kind {
		case Renumbered:
		case Added:
			after.set(c.Node.ID, "added", "")
		case Removed:
			before.set(c.Node.ID, "removed", "")
		default:
			after.set(c.Node.ID, "changed", c.Input)
			if old, ok := m.OldID(c.Node.ID); ok {
				before.set(old, "changed", c.Input)
			}
		}
	}
	places := [2]map[string]box{placed(m.Old), placed(m.New)}
	if places[0] == nil || places[1] == nil {
		places = m.arrange()
	}
	b.WriteString("<div class=\"pair\">\n")
	for i, side := range []struct {
		doc   *Document
		sheet *Sheet
		marks *marks
		link  string
	}{{d.Old, m.Old, before, "removed"}, {d.New, m.New, after, "added"}} {
		fmt.Fprintf(b, "<figure><figcaption>%s</figcaption>\n", escape(side.doc.Name))
		draw(b, side.sheet, places[i], &pen{side.marks, side.link})
		b.WriteString("</figure>\n")
	}
	b.WriteString("</div>\n")
}

// pen is how changes are drawn.
type pen struct {
	marks *marks
	link  string // the class of links that are on this side only
}

const (
	rowHeight = 15
	headRow   = 22
	maxRows   = 12
)

// draw writes a sheet as SVG: first links, then nodes.
func draw(b *strings.Builder, s *Sheet, places map[string]box, p *pen) {
	var all box
	for i, id := range ids(s) {
		if i == 0 {
			all = places[id]
		}
		all = all.around(places[id])
	}
	all = box{all.x - 20, all.y - 20, all.w + 40, all.h + 40}
	fmt.Fprintf(b, "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"%.0f %.0f %.0f %.0f\" width=\"%.0f\" height=\"%.0f\" role=\"img\">\n",
		all.x, all.y, all.w, all.h, min(all.w, 2400), min(all.w, 2400)*all.h/max(all.w, 1))
	for _, n := range s.Nodes {
		for i, in := range n.Inputs {
			from, ok := places[in.From.Node]
			if !ok {
				continue
			}
			to := places[n.ID]
			class := ""
			if p.marks.inputs[n.ID][in.Name] || p.marks.nodes[n.ID] == p.link || p.marks.nodes[in.From.Node] == p.link {
				class = p.link
			}
			x1, y1 := from.x+from.w, from.y+headRow/2+float64(min(in.From.Slot, 6))*4
			x2, y2 := to.x, to.y+headRow+float64(min(i, maxRows))*rowHeight
			bend := max(30, (x2-x1)/2)
			fmt.Fprintf(b, "<path class=\"%s\" d=\"M%.0f %.0fC%.0f %.0f %.0f %.0f %.0f %.0f\"/>\n", class, x1, y1, x1+bend, y1, x2-bend, y2, x2, y2)
		}
	}
	for _, n := range s.Nodes {
		drawNode(b, n, places[n.ID], p.marks)
	}
	b.WriteString("</svg>\n")
}

func ids(s *Sheet) []string {
	all := make([]string, len(s.Nodes))
	for i, n := range s.Nodes {
		all[i] = n.ID
	}
	return all
}

func drawNode(b *strings.Builder, n *Node, at box, m *marks) {
	class := m.nodes[n.ID]
	if n.Mode == 2 || n.Mode == 4 {
		class += " off"
	}
	fmt.Fprintf(b, "<g class=\"%s\"><title>%s</title><rect x=\"%.0f\" y=\"%.0f\" width=\"%.0f\" height=\"%.0f\" rx=\"5\"/>",
		class, escape(n.ref().String()+" "+n.summary()), at.x, at.y, at.w, at.h)
	fmt.Fprintf(b, "<text x=\"%.0f\" y=\"%.0f\">%s</text>", at.x+8, at.y+15, escape(clip(n.ref().String(), at.w)))
	for i, row := range n.rows() {
		y := at.y + headRow + float64(i+1)*rowHeight - 3
		if y > at.y+at.h {
			break
		}
		marked := ""
		if m.inputs[n.ID][row.Name] {
			marked = " marked"
		}
		fmt.Fprintf(b, "<text class=\"value%s\" x=\"%.0f\" y=\"%.0f\">%s</text>", marked, at.x+8, y, escape(clip(row.Name+" "+short(row.Value), at.w)))
	}
	b.WriteString("</g>\n")
}

func (n *Node) rows() []Named { return n.Literals[:min(len(n.Literals), maxRows)] }

func (n *Node) summary() string {
	var parts []string
	for _, l := range n.rows() {
		parts = append(parts, l.Name+" "+short(l.Value))
	}
	return strings.Join(parts, ", ")
}

// clip shortens a text to a width in pixels, at about seven for a character.
func clip(s string, width float64) string {
	runes := []rune(s)
	if most := max(6, int(width/6.6)-1); len(runes) > most {
		return string(runes[:most-1]) + "…"
	}
	return s
}

// box is a place: left, top, width, height.
type box struct{ x, y, w, h float64 }

func (a box) around(b box) box {
	x, y := min(a.x, b.x), min(a.y, b.y)
	return box{x, y, max(a.x+a.w, b.x+b.w) - x, max(a.y+a.h, b.y+b.h) - y}
}

// placed are the places that a drawing gives its nodes; nil if it gives none. Nodes without one, such as the inputs of a
// subgraph, stand beside.
func placed(s *Sheet) map[string]box {
	places := map[string]box{}
	var all box
	for _, n := range s.Nodes {
		if !n.Placed {
			continue
		}
		w := bounded(n.Box[2], 140, 1200)
		h := max(bounded(n.Box[3], 30, 2000), headRow+float64(min(len(n.Literals), 3))*rowHeight)
		places[n.ID] = box{bounded(n.Box[0], -1e6, 1e6), bounded(n.Box[1], -1e6, 1e6), w, h}
		if len(places) == 1 {
			all = places[n.ID]
		}
		all = all.around(places[n.ID])
	}
	if len(places) == 0 {
		return nil
	}
	for _, n := range s.Nodes {
		if n.Placed {
			continue
		}
		x := all.x - 260
		if n.ID == OutputNode {
			x = all.x + all.w + 60
		}
		places[n.ID] = box{x, all.y, 200, n.height()}
	}
	return places
}

func bounded(f, least, most float64) float64 { return max(least, min(most, f)) }

func (n *Node) height() float64 {
	return headRow + 8 + rowHeight*float64(min(max(len(n.Literals), len(n.Inputs)), maxRows))
}

// arrange places the nodes of both sheets: a node to the right of all that it takes from, the same node in the same place on
// both sides.
func (m *Matching) arrange() [2]map[string]box {
	key := func(side int, id string) string {
		if side == 0 {
			if to, ok := m.NewID(id); ok {
				return "n" + to
			}
			return "o" + id
		}
		return "n" + id
	}
	a := arrangement{from: map[string][]string{}, column: map[string]int{}, height: map[string]float64{}}
	for side, s := range []*Sheet{m.Old, m.New} {
		for _, n := range s.Nodes {
			k := key(side, n.ID)
			if _, known := a.height[k]; !known {
				a.order = append(a.order, k)
			}
			a.height[k] = max(a.height[k], n.height())
			for _, in := range n.Inputs {
				if s.Node(in.From.Node) != nil {
					a.from[k] = append(a.from[k], key(side, in.From.Node))
				}
			}
		}
	}
	places := a.places()
	var both [2]map[string]box
	for side, s := range []*Sheet{m.Old, m.New} {
		both[side] = map[string]box{}
		for _, n := range s.Nodes {
			at := places[key(side, n.ID)]
			at.h = n.height()
			both[side][n.ID] = at
		}
	}
	return both
}

// arrangement places nodes in columns.
type arrangement struct {
	order  []string
	from   map[string][]string
	column map[string]int
	height map[string]float64
}

func (a *arrangement) places() map[string]box {
	// Each pass moves nodes right of their sources; what moves no more after as many passes as there are nodes is in a
	// circle and stays.
	for range min(len(a.order), 200) {
		moved := false
		for _, k := range a.order {
			for _, f := range a.from[k] {
				if a.column[k] <= a.column[f] && a.column[f] < len(a.order)-1 {
					a.column[k], moved = a.column[f]+1, true
				}
			}
		}
		if !moved {
			break
		}
	}
	down := map[int]float64{}
	places := map[string]box{}
	order := slices.Clone(a.order)
	slices.SortStableFunc(order, func(x, y string) int { return a.column[x] - a.column[y] })
	for _, k := range order {
		c := a.column[k]
		places[k] = box{float64(c) * 290, down[c], 230, a.height[k]}
		down[c] += a.height[k] + 26
	}
	return places
}
