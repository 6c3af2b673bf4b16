package check

import (
	"slices"
	"strconv"
	"strings"

	"github.com/comfyrun/comfyrun/engine"
	"github.com/comfyrun/comfyrun/workflows"
	"github.com/comfyrun/comfyrun/workflows/ui"
)

// locator finds the place of a finding in the file's text.
type locator interface {
	locate(f Finding) workflows.Span
}

// placesOf finds places in a text that is JSON. It reads the text when it is asked for the first time.
type placesOf struct {
	data        []byte
	drawing     bool
	definitions func() (ui.Definitions, error)
	places      *workflows.Places
	prefix      []string // of the nodes in the API format
	root        *sheet
	sheets      map[string]*sheet // subgraphs by their ids
	known       ui.Definitions
}

// sheet is a drawing in the file, or a subgraph's.
type sheet struct {
	path  []string
	nodes map[string]drawn
}

// drawn is a node of a sheet.
type drawn struct {
	path []string
	node workflows.Object
}

func (p *placesOf) locate(f Finding) workflows.Span {
	if p.places == nil && !p.open() {
		return workflows.Span{}
	}
	span, ok := workflows.Span{}, false
	switch {
	case f.Node == "":
	case p.drawing:
		span, ok = p.inDrawing(f)
	default:
		span, ok = p.inGraph(f)
	}
	if !ok {
		span, _ = p.places.Value()
		span.EndLine, span.EndColumn = span.Line, span.Column+1 // not the whole file
	}
	return span
}

func (p *placesOf) open() bool {
	var err error
	if p.places, err = workflows.NewPlaces(p.data); err != nil {
		return false
	}
	v, err := workflows.ParseValue(p.data)
	if err != nil {
		return false
	}
	top, _ := v.Object()
	if !p.drawing {
		// The body of a POST /prompt; a node may be called so too.
		if inner, _ := top.Get("prompt"); inner.Kind() == workflows.KindObject {
			members, _ := inner.Object()
			if _, isNode := members.Get("class_type"); !isNode {
				p.prefix = []string{"prompt"}
			}
		}
		return true
	}
	if p.definitions != nil {
		p.known, _ = p.definitions()
	}
	p.sheets = map[string]*sheet{}
	p.root = p.sheet(top, nil)
	return true
}

// inGraph is the place of an input's value, of the class, or of the node's id.
func (p *placesOf) inGraph(f Finding) (workflows.Span, bool) {
	node := append(slices.Clone(p.prefix), f.Node)
	if f.Input != "" {
		if span, ok := p.places.Value(append(node, "inputs", f.Input)...); ok {
			return span, true
		}
	}
	if f.Kind == engine.MissingNodeType {
		if span, ok := p.places.Value(append(node, "class_type")...); ok {
			return span, true
		}
	}
	return p.places.Key(node...)
}

// sheet lists the nodes of a drawing and of the subgraphs that it defines.
func (p *placesOf) sheet(o workflows.Object, path []string) *sheet {
	s := &sheet{path: path, nodes: map[string]drawn{}}
	v, _ := o.Get("nodes")
	items, _ := v.List()
	for i, item := range items {
		node, _ := item.Object()
		id, _ := node.Get("id")
		s.nodes[plain(id)] = drawn{append(slices.Clone(path), "nodes", strconv.Itoa(i)), node}
	}
	v, _ = o.Get("definitions")
	definitions, _ := v.Object()
	v, _ = definitions.Get("subgraphs")
	items, _ = v.List()
	for i, item := range items {
		graph, _ := item.Object()
		id, _ := graph.Get("id")
		p.sheets[plain(id)] = p.sheet(graph, append(slices.Clone(path), "definitions", "subgraphs", strconv.Itoa(i)))
	}
	return s
}

// plain is an id as text, whether it is written as a text or as a number.
func plain(v workflows.Value) string {
	if s, ok := v.Str(); ok {
		return s
	}
	if i, ok := v.Int64(); ok {
		return strconv.FormatInt(i, 10)
	}
	return ""
}

// find follows an id such as 12:7 into subgraphs, as far as it can be followed.
func (p *placesOf) find(id string) (found drawn, exact, ok bool) {
	at := p.root
	for rest := id; ; {
		if n, ok := at.nodes[rest]; ok {
			return n, true, true
		}
		head, tail, more := strings.Cut(rest, ":")
		n, here := at.nodes[head]
		if !here {
			return found, false, ok
		}
		found, ok = n, true
		class, _ := n.node.Get("type")
		next := p.sheets[plain(class)]
		if !more || next == nil {
			return found, false, true
		}
		at, rest = next, tail
	}
}

// inDrawing is the place of a widget's value, of an input's slot, or of the node's class.
func (p *placesOf) inDrawing(f Finding) (workflows.Span, bool) {
	n, exact, ok := p.find(f.Node)
	if !ok {
		return workflows.Span{}, false
	}
	if exact && f.Input != "" {
		for _, path := range [][]string{p.widget(n, f), n.slot(f.Input)} {
			if path == nil {
				continue
			}
			if span, ok := p.places.Value(append(slices.Clone(n.path), path...)...); ok {
				return span, true
			}
		}
	}
	for _, key := range []string{"type", "id"} {
		if span, ok := p.places.Value(append(slices.Clone(n.path), key)...); ok {
			return span, true
		}
	}
	return p.places.Value(n.path...)
}

// widget is where in a node an input's value is. A value that another node gives it stands elsewhere, so what stands here
// must be the value that the finding is about.
func (p *placesOf) widget(n drawn, f Finding) []string {
	stored, _ := n.node.Get("widgets_values")
	if o, ok := stored.Object(); ok && has(o, f) {
		return []string{"widgets_values", f.Input}
	}
	if items, ok := stored.List(); ok && p.known != nil {
		if class, ok := p.known.Class(f.Class); ok {
			i := class.ValueIndex(f.Input)
			if i >= 0 && i < len(items) && (f.Received == nil || items[i] == *f.Received) {
				return []string{"widgets_values", strconv.Itoa(i)}
			}
		}
	}
	named, _ := n.node.Get("widgets_values_named")
	if o, ok := named.Object(); ok && has(o, f) {
		return []string{"widgets_values_named", f.Input}
	}
	return nil
}

func has(o workflows.Object, f Finding) bool {
	v, ok := o.Get(f.Input)
	return ok && (f.Received == nil || v == *f.Received)
}

// slot is where in a node an input for links is.
func (d drawn) slot(input string) []string {
	v, _ := d.node.Get("inputs")
	items, _ := v.List()
	for i, item := range items {
		o, _ := item.Object()
		if name, _ := o.Get("name"); plain(name) == input {
			return []string{"inputs", strconv.Itoa(i), "name"}
		}
	}
	return nil
}
