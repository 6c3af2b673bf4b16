// Package difftest makes workflows and edits them at random, for tests of what compares and merges them. What it makes is
// sound: each link leads to a node, and in the editor's format the lists of links agree with the slots.
package difftest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"

	"github.com/comfyrun/comfyrun/workflows"
)

// classes are the classes of the nodes, with their values and links.
var classes = []struct {
	name   string
	values []string
	links  []string
}{
	{"CheckpointLoaderSimple", []string{"ckpt_name"}, nil},
	{"LoraLoader", []string{"lora_name", "strength_model", "strength_clip"}, []string{"model", "clip"}},
	{"CLIPTextEncode", []string{"text"}, []string{"clip"}},
	{"KSampler", []string{"seed", "control", "steps", "cfg"}, []string{"model", "positive", "negative", "latent_image"}},
	{"EmptyLatentImage", []string{"width", "height"}, nil},
	{"VAEDecode", nil, []string{"samples", "vae"}},
	{"SaveImage", []string{"filename_prefix"}, []string{"images"}},
}

// Flow is a workflow that can be edited.
type Flow struct {
	r       *rand.Rand
	Drawing bool
	Nodes   []*Node
	last    int
	// view is something that only the editor shows.
	view int
}

// Node is a node of a flow.
type Node struct {
	ID     int
	Class  int
	Title  string
	Mode   int
	Values []any
	// Links are the sources of the inputs; nil where there is none.
	Links []*Link
	X, Y  int
}

// Link is a source.
type Link struct {
	From *Node
	Slot int
}

// New makes a workflow of n nodes.
func New(r *rand.Rand, drawing bool, n int) *Flow {
	f := &Flow{r: r, Drawing: drawing}
	for range n {
		f.Add()
	}
	return f
}

// Add appends a node with random values and links to earlier nodes.
func (f *Flow) Add() *Node {
	f.last++
	n := &Node{ID: f.last, Class: f.r.IntN(len(classes)), X: f.r.IntN(2000), Y: f.r.IntN(1000)}
	for range classes[n.Class].values {
		n.Values = append(n.Values, f.value())
	}
	for range classes[n.Class].links {
		n.Links = append(n.Links, f.source())
	}
	f.Nodes = append(f.Nodes, n)
	return n
}

func (f *Flow) value() any {
	if f.r.IntN(3) > 0 {
		return f.r.Uint64()
	}
	words := []string{"a", "red", "house", "by", "the", "sea", "(at:1.2)", "dawn,"}
	text := ""
	for range 1 + f.r.IntN(6) {
		text += words[f.r.IntN(len(words))] + " "
	}
	return text + strconv.Itoa(f.r.IntN(1000))
}

func (f *Flow) source() *Link {
	if len(f.Nodes) == 0 || f.r.IntN(8) == 0 {
		return nil
	}
	return &Link{f.Nodes[f.r.IntN(len(f.Nodes))], f.r.IntN(3)}
}

// Clone copies a flow; edits of the copy come from another source of chance.
func (f *Flow) Clone(r *rand.Rand) *Flow {
	c := &Flow{r: r, Drawing: f.Drawing, last: f.last, view: f.view}
	to := map[*Node]*Node{}
	for _, n := range f.Nodes {
		m := *n
		m.Values = slices.Clone(n.Values)
		to[n] = &m
		c.Nodes = append(c.Nodes, &m)
	}
	for _, n := range c.Nodes {
		n.Links = slices.Clone(n.Links)
		for i, l := range n.Links {
			if l != nil {
				n.Links[i] = &Link{to[l.From], l.Slot}
			}
		}
	}
	return c
}

// Edit makes one random edit to the nodes from first up to last of the list and tells what it was.
func (f *Flow) Edit(first, last int) string {
	last = min(last, len(f.Nodes))
	if first >= last {
		return fmt.Sprintf("add %d", f.Add().ID)
	}
	n := f.Nodes[first+f.r.IntN(last-first)]
	switch what := f.r.IntN(12); {
	case what < 4 && len(n.Values) > 0:
		i := f.r.IntN(len(n.Values))
		n.Values[i] = f.value()
		return fmt.Sprintf("value %d of %d", i, n.ID)
	case what < 6 && len(n.Links) > 0:
		i := f.r.IntN(len(n.Links))
		n.Links[i] = f.source()
		return fmt.Sprintf("link %d of %d", i, n.ID)
	case what == 6:
		f.Delete(n)
		return fmt.Sprintf("delete %d", n.ID)
	case what == 7:
		return fmt.Sprintf("add %d", f.Add().ID)
	case what == 8:
		n.Title = fmt.Sprint("title ", f.r.IntN(100))
		return fmt.Sprintf("title of %d", n.ID)
	case what == 9 && f.Drawing:
		n.Mode = 2 * f.r.IntN(3)
		return fmt.Sprintf("mode of %d", n.ID)
	}
	n.X, n.Y = f.r.IntN(2000), f.r.IntN(1000)
	return fmt.Sprintf("move %d", n.ID)
}

// Delete takes a node out, and the links from it.
func (f *Flow) Delete(n *Node) {
	f.Nodes = slices.DeleteFunc(f.Nodes, func(m *Node) bool { return m == n })
	for _, m := range f.Nodes {
		for i, l := range m.Links {
			if l != nil && l.From == n {
				m.Links[i] = nil
			}
		}
	}
}

// Renumber gives all nodes other ids.
func (f *Flow) Renumber() {
	ids := f.r.Perm(len(f.Nodes))
	for i, n := range f.Nodes {
		n.ID = ids[i] + 1
	}
	f.last = len(f.Nodes)
}

// Text writes the flow in the canonical layout.
func (f *Flow) Text() []byte {
	var v any
	if f.Drawing {
		v = f.drawing()
	} else {
		v = f.graph()
	}
	data, err := json.Marshal(v)
	if err != nil {
		return []byte(err.Error())
	}
	text, err := workflows.Format(bytes.TrimSpace(data))
	if err != nil {
		return []byte(err.Error())
	}
	return text
}

func (f *Flow) graph() any {
	top := map[string]any{}
	for _, n := range f.Nodes {
		inputs := map[string]any{}
		for i, name := range classes[n.Class].values {
			inputs[name] = n.Values[i]
		}
		for i, name := range classes[n.Class].links {
			if l := n.Links[i]; l != nil {
				inputs[name] = []any{strconv.Itoa(l.From.ID), l.Slot}
			}
		}
		node := map[string]any{"class_type": classes[n.Class].name, "inputs": inputs}
		if n.Title != "" {
			node["_meta"] = map[string]any{"title": n.Title}
		}
		top[strconv.Itoa(n.ID)] = node
	}
	return top
}

func (f *Flow) drawing() any {
	type output struct {
		node *Node
		slot int
	}
	nodes, links := []any{}, []any{}
	leading := map[output][]int{}
	entering := map[*Node][]any{}
	last := 0
	for _, n := range f.Nodes {
		for i, l := range n.Links {
			if l == nil {
				entering[n] = append(entering[n], nil)
				continue
			}
			last++
			leading[output{l.From, l.Slot}] = append(leading[output{l.From, l.Slot}], last)
			entering[n] = append(entering[n], last)
			links = append(links, []any{last, l.From.ID, l.Slot, n.ID, i, "X"})
		}
	}
	for _, n := range f.Nodes {
		inputs, outputs := []any{}, []any{}
		for i, name := range classes[n.Class].links {
			inputs = append(inputs, map[string]any{"name": name, "type": "X", "link": entering[n][i]})
		}
		for slot := range 3 {
			ids := append([]int{}, leading[output{n, slot}]...)
			outputs = append(outputs, map[string]any{"name": fmt.Sprint("OUT", slot), "type": "X", "links": ids})
		}
		node := map[string]any{
			"id": n.ID, "type": classes[n.Class].name, "pos": []int{n.X, n.Y}, "size": []int{210, 100}, "mode": n.Mode,
			"inputs": inputs, "outputs": outputs, "properties": map[string]any{}, "widgets_values": append([]any{}, n.Values...),
		}
		if n.Title != "" {
			node["title"] = n.Title
		}
		nodes = append(nodes, node)
	}
	return map[string]any{"nodes": nodes, "links": links, "groups": []any{}, "extra": map[string]any{"ds": f.view}, "version": 0.4,
		"last_node_id": f.last, "last_link_id": last}
}
