package diff

import (
	"fmt"
	"strconv"
	"strings"
	"unicode"

	"github.com/comfyrun/comfyrun/workflows"
)

// Text writes a diff in words, a line for each change; nothing for documents that are the same. Color adds the escape
// sequences of terminals. Control characters of the documents are escaped.
func (d *Diff) Text(color bool) string {
	p := &printer{color: color}
	var sheet *SheetRef
	var ids []string
	for _, c := range d.Changes {
		if c.Sheet != nil && (sheet == nil || *sheet != *c.Sheet) {
			p.renumbered(&ids)
			p.indent = ""
			p.line(yellow, "in subgraph "+quoted(c.Sheet.Name)+":")
			p.indent = "  "
		}
		sheet = c.Sheet
		if c.Kind == Renumbered {
			ids = append(ids, shown(c.Before.ID)+" → "+shown(c.Node.ID))
			continue
		}
		p.change(c)
	}
	p.renumbered(&ids)
	p.indent = ""
	if s := d.Layout.String(); s != "" {
		p.line(dim, s)
	}
	return p.b.String()
}

// String counts in words; empty where nothing was counted.
func (l Layout) String() string {
	var parts []string
	for _, c := range []struct {
		n         int
		one, many string
	}{
		{l.Moved, "1 node moved or repainted", "%d nodes moved or repainted"},
		{l.Groups, "1 group moved or repainted", "%d groups moved or repainted"},
		{l.Slots, "1 node lists other slots", "%d nodes list other slots"},
	} {
		switch {
		case c.n == 1:
			parts = append(parts, c.one)
		case c.n > 1:
			parts = append(parts, fmt.Sprintf(c.many, c.n))
		}
	}
	if l.View {
		parts = append(parts, "the view differs")
	}
	if len(parts) == 0 {
		return ""
	}
	return "layout: " + strings.Join(parts, "; ")
}

// The colours of terminals.
const (
	red    = "31"
	green  = "32"
	yellow = "33"
	dim    = "2"
)

type printer struct {
	b      strings.Builder
	color  bool
	indent string
}

func (p *printer) paint(color, s string) string {
	if !p.color || color == "" {
		return s
	}
	return "\x1b[" + color + "m" + s + "\x1b[0m"
}

func (p *printer) line(color, s string) {
	p.b.WriteString(p.indent + p.paint(color, s) + "\n")
}

// renumbered writes what nodes have new ids.
func (p *printer) renumbered(ids *[]string) {
	if len(*ids) > 0 {
		p.line(dim, "renumbered: "+strings.Join(*ids, ", "))
	}
	*ids = nil
}

func (p *printer) change(c Change) {
	switch c.Kind {
	case Added:
		p.line(green, "+ "+c.Node.String()+c.Content.String())
	case Removed:
		p.line(red, "- "+c.Node.String())
	case Replaced:
		p.line("", p.paint(yellow, c.Before.String())+": replaced by "+p.paint(yellow, c.Node.String()))
	case SubgraphAdded:
		p.line(green, "+ the subgraph is new")
	case SubgraphRemoved:
		p.line(red, "- the subgraph is gone")
	case GroupAdded:
		p.line(green, "+ group "+quoted(c.Input))
	case GroupRemoved:
		p.line(red, "- group "+quoted(c.Input))
	case Mode:
		p.line("", p.paint(yellow, c.Node.String())+": "+modeWord(c.Old)+" → "+modeWord(c.New))
	case Titled:
		p.line("", p.paint(yellow, c.Before.orNode(c.Node).String())+": title "+p.values(c))
	case Wired:
		p.line("", p.paint(yellow, c.Node.String())+": "+shown(c.Input)+" "+p.wiring(c))
	case Setting:
		p.line("", shown(c.Input)+" "+p.values(c))
	default:
		p.line("", p.paint(yellow, c.Node.String())+": "+shown(c.Input)+" "+p.values(c))
	}
}

func (r *Ref) orNode(n *Ref) *Ref {
	if r != nil {
		return r
	}
	return n
}

// values is how a value changed.
func (p *printer) values(c Change) string {
	switch {
	case c.Words != nil:
		return p.words(c.Words)
	case c.Old == nil && c.New != nil:
		return "set to " + p.paint(green, short(*c.New))
	case c.New == nil && c.Old != nil:
		return "removed, was " + p.paint(red, short(*c.Old))
	case c.Old == nil:
		return "unchanged"
	}
	return p.paint(red, short(*c.Old)) + " → " + p.paint(green, short(*c.New))
}

// wiring is how the source of an input changed.
func (p *printer) wiring(c Change) string {
	before, after := "", ""
	switch {
	case c.OldFrom != nil:
		before = "from " + c.OldFrom.String()
	case c.Old != nil:
		before = short(*c.Old)
	}
	switch {
	case c.NewFrom != nil:
		after = "from " + c.NewFrom.String()
	case c.New != nil:
		after = short(*c.New)
	}
	switch {
	case before == "":
		return "now " + p.paint(green, after)
	case after == "":
		return "no longer " + p.paint(red, before)
	}
	return "now " + p.paint(green, after) + ", was " + p.paint(red, before)
}

// words shows what was deleted and inserted, with a few words around.
func (p *printer) words(list []Words) string {
	var b strings.Builder
	for i, w := range list {
		text := shown(w.Text)
		switch w.Op {
		case opDelete:
			b.WriteString(p.marked(red, "[-", text, "-]"))
		case opInsert:
			b.WriteString(p.marked(green, "{+", text, "+}"))
		default:
			b.WriteString(context(text, i > 0, i < len(list)-1))
		}
	}
	return b.String()
}

func (p *printer) marked(color, open, s, closing string) string {
	return p.paint(color, open+s+closing)
}

// context shortens a text that did not change to what is near the changes before and after it.
func context(s string, before, after bool) string {
	const keep = 30
	runes := []rune(s)
	most := 0
	if before {
		most += keep
	}
	if after {
		most += keep
	}
	if len(runes) <= most+10 {
		return s
	}
	head, tail := "", ""
	if before {
		head = string(runes[:keep])
	}
	if after {
		tail = string(runes[len(runes)-keep:])
	}
	return head + "…" + tail
}

// String is the node for people: KSampler 3 "Second pass".
func (r *Ref) String() string {
	s := r.Class
	if r.Label != "" {
		s = r.Label
	}
	if r.ID == InputNode && s == portsIn || r.ID == OutputNode && s == portsOut {
		return s
	}
	if s != "" {
		s += " "
	}
	s += r.ID
	if r.Title != "" && r.Title != r.Class && r.Title != r.Label {
		return shown(s) + " " + quoted(r.Title)
	}
	return shown(s)
}

// String is the source for people.
func (f *From) String() string {
	s := f.Node.String()
	switch {
	case f.Node.Class == "":
		s = "node " + s + ", which is not there"
	case f.Output != "":
		s += " (" + shown(f.Output) + ")"
	case f.Slot != 0:
		s += ", output " + strconv.Itoa(f.Slot)
	}
	return s
}

// String lists values, then links.
func (c *Content) String() string {
	var parts []string
	if c.Mode != 0 {
		parts = append(parts, modeName(c.Mode))
	}
	for _, v := range c.Values {
		parts = append(parts, shown(v.Name)+" "+short(v.Value))
	}
	for _, l := range c.Links {
		parts = append(parts, shown(l.Name)+" from "+l.From.String())
	}
	if len(parts) == 0 {
		return ""
	}
	return ": " + strings.Join(parts, ", ")
}

func modeWord(v *workflows.Value) string {
	mode, _ := v.Int64()
	return modeName(int(mode))
}

func modeName(mode int) string {
	switch mode {
	case 0:
		return "active"
	case 2:
		return "muted"
	case 4:
		return "bypassed"
	}
	return "mode " + strconv.Itoa(mode)
}

// short is a value on one line, its middle left out if it is long.
func short(v workflows.Value) string {
	const most = 100
	s := v.Raw()
	if text, ok := v.Str(); ok {
		s = quoted(text)
	}
	s = shown(s)
	if runes := []rune(s); len(runes) > most {
		return string(runes[:most*2/3]) + "…" + string(runes[len(runes)-most/3:])
	}
	return s
}

func quoted(s string) string { return `"` + shown(s) + `"` }

// shown escapes what would steer a terminal.
func shown(s string) string {
	var b strings.Builder
	for _, r := range s {
		switch {
		case r == '\n':
			b.WriteString("⏎")
		case r == '\t':
			b.WriteByte(' ')
		case unicode.IsControl(r) || unicode.Is(unicode.Cf, r) || unicode.Is(unicode.Zl, r) || unicode.Is(unicode.Zp, r):
			fmt.Fprintf(&b, "\\u%04x", r)
		default:
			b.WriteRune(r)
		}
	}
	return b.String()
}
