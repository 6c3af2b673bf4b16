// Package diff tells two versions of a workflow apart in the words of a workflow: nodes, inputs, links, not lines of JSON.
//
// A [Document] is one version. It has sheets: the workflow itself, and one for each subgraph that it defines. A sheet has
// nodes; a node has literals, which are values by name, and inputs, which are links by name. What only the editor's picture
// of a workflow needs, such as the place of a node, is its layout.
//
// [Compare] gives the [Diff] of two documents. It first decides which node of the one is which node of the other, since
// programs that write workflows give ids anew. That matching is made twice: once so that an id of the same class outweighs
// everything, once so that ids hardly count. Each begins with anchors, which are pairs of nodes that are alike in their
// values and in everything around them. For the others it scores pairs of one class, by what share of values, title, and
// neighbours by input they have in common, and takes the best pair again and again; a pair that was taken raises the scores
// of its neighbours' pairs. Nodes that nothing tells apart are paired in the order of their ids. Last, a node without a
// counterpart is replaced by one of another class that stands in the same place of the wiring. The matching that leaves
// fewer changes is right, the first where both leave as many. No step depends on the order of a map, so that two runs give
// the same.
//
// The cost is O(n log n) for n nodes, values and links, and O(c log c) for the c pairs that are scored, of which there are at
// most all of a class where that is few (4096), else 32 for a node, and those of the neighbours of pairs: a node's inputs and
// up to 256 for what it leads to.
package diff

import (
	"github.com/comfyrun/comfyrun/workflows"
)

// Diff is what is different in the second of two documents.
type Diff struct {
	Old, New *Document
	Changes  []Change
	Layout   Layout
	pairs    map[string]*Matching // by the sheet of New
}

// Layout counts what the editor shows otherwise and what means the same.
type Layout struct {
	// Moved counts nodes with another place, size or colour.
	Moved int `json:"moved"`
	// Groups counts groups that are so.
	Groups int `json:"groups"`
	// Slots counts nodes whose slots are written otherwise, which the editor derives from classes.
	Slots int `json:"slots"`
	// View is whether other things of the drawing differ: the part that is shown, counters of ids.
	View bool `json:"view"`
}

// Kind says what a change is about.
type Kind string

// The kinds of changes.
const (
	Added           Kind = "added"            // a node; Content is all of it
	Removed         Kind = "removed"          // a node
	Replaced        Kind = "replaced"         // a node has another class; its other changes follow
	Renumbered      Kind = "renumbered"       // a node has another id
	Literal         Kind = "literal"          // a value
	Wired           Kind = "link"             // an input has another source, perhaps instead of a value
	Titled          Kind = "title"            // of a node
	Mode            Kind = "mode"             // of a node: muted, bypassed
	Member          Kind = "member"           // anything else of a node; Input is its path
	GroupAdded      Kind = "group_added"      // Input is its title
	GroupRemoved    Kind = "group_removed"    // Input is its title
	SubgraphAdded   Kind = "subgraph_added"   // a definition; its nodes follow
	SubgraphRemoved Kind = "subgraph_removed" // a definition
	Setting         Kind = "setting"          // of the document or a subgraph; Input is its path
)

// Change is one difference.
type Change struct {
	Kind Kind `json:"kind"`
	// Sheet is the subgraph that it happens in; nil for the workflow itself.
	Sheet *SheetRef `json:"subgraph,omitempty"`
	// Node is the node, by its id in the new document, or in the old one if it is removed.
	Node *Ref `json:"node,omitempty"`
	// Before is the node as the old document has it, where its id or class is another.
	Before *Ref `json:"before,omitempty"`
	// Input is the name of what changed, or a path to it.
	Input string `json:"input,omitempty"`
	// Old and New are values; nil where there is none.
	Old *workflows.Value `json:"old,omitempty"`
	New *workflows.Value `json:"new,omitempty"`
	// OldFrom and NewFrom are sources of an input; nil where it has none.
	OldFrom *From `json:"old_from,omitempty"`
	NewFrom *From `json:"new_from,omitempty"`
	// Words are the parts of a text, where both values are texts.
	Words []Words `json:"words,omitempty"`
	// Content is the whole node that was added.
	Content *Content `json:"content,omitempty"`
}

// SheetRef names a subgraph.
type SheetRef struct {
	ID   string `json:"id"`
	Name string `json:"name"`
}

// Ref names a node.
type Ref struct {
	ID    string `json:"id"`
	Class string `json:"class"`
	Title string `json:"title,omitempty"`
	// Label is the class for people: an instance of a subgraph has the name of that.
	Label string `json:"label,omitempty"`
}

// From is where an input comes from.
type From struct {
	Node Ref `json:"node"`
	Slot int `json:"slot"`
	// Output is the name of the slot, where the document has it.
	Output string `json:"output,omitempty"`
}

// Content is a node with all that it says but its layout.
type Content struct {
	Mode    int         `json:"mode,omitempty"`
	Values  []Named     `json:"values"`
	Links   []NamedFrom `json:"links"`
	Members []Named     `json:"members,omitempty"`
}

// Named is a value with its name.
type Named struct {
	Name  string          `json:"name"`
	Value workflows.Value `json:"value"`
}

// NamedFrom is an input with its source.
type NamedFrom struct {
	Name string `json:"name"`
	From From   `json:"from"`
}

// Same is whether there is no difference at all.
func (d *Diff) Same() bool {
	return len(d.Changes) == 0 && d.Layout == Layout{}
}
