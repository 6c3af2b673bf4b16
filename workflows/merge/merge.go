// Package merge joins two versions of a workflow that were both made of a third one.
//
// Base is the version that both started from, ours and theirs are what became of it. The nodes of the three are the same or
// not by the rules of package diff, so that an id that one side changed does no harm. What one side changed and the other
// left alone is as the first has it, value by value and link by link; what both changed in the same way is so. Nodes that a
// side added stay; where both added different nodes under one id, theirs get new ids and their links follow.
//
// What both sides changed differently is a [Conflict]: a value, a link, a node that one side deleted and the other changed
// or linked to. The result then has what the preferred side has, which is ours if nothing else is said, and is a sound
// workflow in every case: each link leads to a node. Layout (places, sizes, colours, the part that is shown) makes no
// conflicts; where both sides moved the same node, the preferred one counts, and that is counted.
//
// The result is in the layout of [workflows.Format]. Where one side is the base, or both are the same, it is just the
// other side.
package merge

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"slices"

	"github.com/comfyrun/comfyrun/workflows"
	"github.com/comfyrun/comfyrun/workflows/diff"
	"github.com/comfyrun/comfyrun/workflows/ui"
)

// ErrFormats says that the versions are not all in the same of the two formats.
var ErrFormats = errors.New("the versions are in different formats, one of the editor and one of the API: convert makes the second of the first")

// Side is one of the versions that are merged.
type Side int

// The sides. The version that both started from comes first where all three are listed.
const (
	Ours Side = iota
	Theirs
)

// String is the word for a side.
func (s Side) String() string {
	if s == Theirs {
		return "theirs"
	}
	return "ours"
}

// Options say how to merge. The zero value is right for most.
type Options struct {
	// Prefer is the side that the result follows where there is a conflict.
	Prefer Side
	// Definitions give values of the editor's format their names in conflicts; may be nil.
	Definitions ui.Definitions
}

// Kind says what a conflict is about.
type Kind string

// The kinds of conflicts.
const (
	Value   Kind = "value"   // both sides changed a value
	Wired   Kind = "link"    // both sides changed the source of an input
	Deleted Kind = "deleted" // one side deleted a node or another part, the other changed it
	Used    Kind = "used"    // one side deleted a node, the other linked an input to it
)

// Conflict is something that the sides disagree about.
type Conflict struct {
	Kind Kind `json:"kind"`
	// Sheet is the subgraph that it is in; nil for the workflow itself.
	Sheet *diff.SheetRef `json:"subgraph,omitempty"`
	// Node is the node by its id in the result; nil where it is no matter of a node.
	Node *diff.Ref `json:"node,omitempty"`
	// Input is the name of what both changed.
	Input  string `json:"input,omitempty"`
	Base   State  `json:"base"`
	Ours   State  `json:"ours"`
	Theirs State  `json:"theirs"`
	// Kept is the side that the result follows: "ours" or "theirs".
	Kept string `json:"kept"`
}

// State is what one version has at a place. Without any member it has nothing there.
type State struct {
	Value   *workflows.Value `json:"value,omitempty"`
	From    *diff.From       `json:"from,omitempty"`
	Deleted bool             `json:"deleted,omitempty"`
}

// Renumbering is a node of theirs that has another id in the result.
type Renumbering struct {
	Sheet *diff.SheetRef `json:"subgraph,omitempty"`
	Class string         `json:"class"`
	From  string         `json:"from"`
	To    string         `json:"to"`
}

// Result is a merge.
type Result struct {
	// Data is the workflow.
	Data []byte `json:"-"`
	// Conflicts are in the order of subgraphs, ids and names.
	Conflicts  []Conflict    `json:"conflicts"`
	Renumbered []Renumbering `json:"renumbered"`
	// Layout counts nodes that both sides moved or painted differently.
	Layout int `json:"layout"`
}

// The versions by index.
const (
	base   = 0
	ours   = 1
	theirs = 2
)

// Merge merges two versions of a workflow in either format. An empty base means that both sides made the file. The error
// says that a version is no workflow, and which, or [ErrFormats].
func Merge(b, o, t []byte, options Options) (*Result, error) {
	var texts [3][]byte
	for i, data := range [3][]byte{b, o, t} {
		if len(bytes.TrimSpace(data)) == 0 && i == base {
			continue
		}
		formatted, err := workflows.Format(data)
		if err == nil {
			_, err = diff.Parse(formatted, nil)
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", [3]string{"base", "ours", "theirs"}[i], err)
		}
		texts[i] = formatted
	}
	switch {
	case bytes.Equal(texts[ours], texts[theirs]), bytes.Equal(texts[base], texts[theirs]):
		return &Result{Data: texts[ours]}, nil
	case bytes.Equal(texts[base], texts[ours]):
		return &Result{Data: texts[theirs]}, nil
	}
	return merge(texts, options)
}

// merge merges texts that were formatted before.
func merge(texts [3][]byte, options Options) (*Result, error) {
	m := &merger{options: options}
	for i, text := range texts {
		if text == nil {
			m.documents[i] = &diff.Document{Drawing: m.drawn(texts), Sheets: []*diff.Sheet{{}}}
			continue
		}
		doc, err := diff.Parse(text, options.Definitions)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", [3]string{"base", "ours", "theirs"}[i], err)
		}
		v, err := workflows.ParseValue(text)
		if err != nil {
			return nil, fmt.Errorf("parse workflow: %w", err)
		}
		m.documents[i] = doc
		m.tops[i], _ = v.Object()
	}
	if m.documents[ours].Drawing != m.documents[theirs].Drawing || m.documents[base].Drawing != m.documents[ours].Drawing {
		return nil, ErrFormats
	}
	m.plan()
	var merged workflows.Object
	if m.documents[ours].Drawing {
		merged = m.drawing()
	} else {
		merged = m.graph()
	}
	data, err := workflows.Format([]byte(workflows.ObjectValue(merged).Raw()))
	if err != nil {
		return nil, fmt.Errorf("write merged workflow: %w", err)
	}
	m.result.Data = data
	m.sort()
	return &m.result, nil
}

// drawn is whether ours is in the editor's format, which decides about an empty base.
func (m *merger) drawn(texts [3][]byte) bool { return ui.Is(texts[ours]) }

// merger is the state of one merge.
type merger struct {
	options   Options
	documents [3]*diff.Document
	tops      [3]workflows.Object
	sheets    map[string]*plan // by the id of the subgraph
	result    Result
}

// preferred is the version that counts where there is a conflict.
func (m *merger) preferred() int {
	if m.options.Prefer == Theirs {
		return theirs
	}
	return ours
}

func (m *merger) sort() {
	slices.SortStableFunc(m.result.Conflicts, func(a, b Conflict) int {
		return cmp.Or(sheetOrder(a.Sheet, b.Sheet), nodeOrder(a.Node, b.Node), cmp.Compare(a.Input, b.Input))
	})
}

func sheetOrder(a, b *diff.SheetRef) int {
	id := func(r *diff.SheetRef) string {
		if r == nil {
			return ""
		}
		return r.ID
	}
	return cmp.Compare(id(a), id(b))
}

func nodeOrder(a, b *diff.Ref) int {
	id := func(r *diff.Ref) string {
		if r == nil {
			return ""
		}
		return r.ID
	}
	return workflows.CompareIDs(id(a), id(b))
}
