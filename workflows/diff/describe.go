package diff

import (
	"fmt"
	"hash/fnv"
	"strings"

	"github.com/comfyrun/comfyrun/workflows"
)

// Describe writes a document as text for line by line comparison: a block for each node, a line for each value and link.
// Texts of several lines have a line for each. Of the layout there is a checksum in one line for each sheet, so that a
// moved node changes that line only.
func Describe(doc *Document) string {
	var b strings.Builder
	for i, s := range doc.Sheets {
		if i > 0 {
			fmt.Fprintf(&b, "\nsubgraph %s %s\n", quoted(s.Name), shown(s.ID))
		}
		s.describe(&b, doc.Drawing)
	}
	return strings.TrimPrefix(b.String(), "\n")
}

func (s *Sheet) describe(b *strings.Builder, drawing bool) {
	for _, v := range s.Settings {
		describeValue(b, "", v)
	}
	if drawing {
		fmt.Fprintf(b, "layout = %s\n", s.layoutSum())
	}
	for _, g := range s.Groups {
		fmt.Fprintf(b, "group %s\n", quoted(g.Title))
	}
	for _, n := range s.Nodes {
		fmt.Fprintf(b, "\n%s\n", n.ref())
		if n.Mode != 0 {
			fmt.Fprintf(b, "  %s\n", modeName(n.Mode))
		}
		for _, v := range n.Literals {
			describeValue(b, "  ", v)
		}
		for _, in := range n.Inputs {
			fmt.Fprintf(b, "  %s from %s\n", shown(in.Name), s.from(in.From))
		}
		for _, v := range n.Members {
			describeValue(b, "  ", v)
		}
	}
}

func describeValue(b *strings.Builder, indent string, v Named) {
	text, ok := v.Value.Str()
	if !ok || !strings.Contains(text, "\n") {
		s := v.Value.Raw()
		if ok {
			s = quoted(text)
		}
		fmt.Fprintf(b, "%s%s = %s\n", indent, shown(v.Name), shown(s))
		return
	}
	fmt.Fprintf(b, "%s%s =\n", indent, shown(v.Name))
	for line := range strings.Lines(text) {
		fmt.Fprintf(b, "%s  | %s\n", indent, shown(strings.TrimSuffix(line, "\n")))
	}
}

// layoutSum is a checksum of everything that the editor shows and that means nothing.
func (s *Sheet) layoutSum() string {
	h := fnv.New64a()
	for _, n := range s.Nodes {
		fmt.Fprintf(h, "%s\x00%s\x00", n.layout, n.slots)
	}
	for _, g := range s.Groups {
		fmt.Fprintf(h, "%s\x00", g.layout)
	}
	fmt.Fprintf(h, "%s", s.view.Raw())
	return fmt.Sprintf("%016x", h.Sum64())
}

// Short is a value on one line for messages, the middle of a long one left out.
func Short(v workflows.Value) string { return short(v) }
