package merge

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/comfyrun/comfyrun/workflows"
	"github.com/comfyrun/comfyrun/workflows/diff"
	"github.com/comfyrun/comfyrun/workflows/diff/difftest"
)

// mustMerge merges without the short ways for sides that are the same.
func mustMerge(t *testing.T, b, o, th []byte, side Side) *Result {
	t.Helper()
	r, err := merge([3][]byte{b, o, th}, Options{Prefer: side})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func parse(t *testing.T, data []byte) *diff.Document {
	t.Helper()
	doc, err := diff.Parse(data, nil)
	if err != nil {
		t.Fatalf("%v\n%s", err, data)
	}
	return doc
}

// sound checks that every link leads to a node.
func sound(t *testing.T, data []byte) {
	t.Helper()
	for _, s := range parse(t, data).Sheets {
		for _, n := range s.Nodes {
			for _, in := range n.Inputs {
				if s.Node(in.From.Node) == nil {
					t.Errorf("node %s: %s leads to %s, which is not there\n%s", n.ID, in.Name, in.From.Node, data)
				}
			}
		}
	}
}

func TestMergeOfOneSide(t *testing.T) {
	for seed := range uint64(200) {
		r := rand.New(rand.NewPCG(seed, 1))
		f := difftest.New(r, seed%2 == 0, 1+r.IntN(12))
		b := f.Text()
		log := ""
		for range 1 + r.IntN(5) {
			log += f.Edit(0, len(f.Nodes)) + "\n"
		}
		x := f.Text()
		for name, tt := range map[string][3][]byte{"b,b,x": {b, b, x}, "b,x,b": {b, x, b}, "b,x,x": {b, x, x}} {
			got := mustMerge(t, tt[0], tt[1], tt[2], Ours)
			if len(got.Conflicts) > 0 {
				t.Errorf("seed %d, %s: conflicts %+v", seed, name, got.Conflicts)
			}
			if d := diff.Compare(parse(t, x), parse(t, got.Data)); !d.Same() && d.Layout.String() != "layout: the view differs" || len(d.Changes) > 0 {
				t.Errorf("seed %d, %s: the result differs from x:\n%s%s\n%s\n%s\n%s", seed, name, d.Text(false), log, b, x, got.Data)
			}
			if short, err := Merge(tt[0], tt[1], tt[2], Options{}); err != nil || !bytes.Equal(short.Data, x) {
				t.Errorf("seed %d, %s: Merge gives another result than x: %v", seed, name, err)
			}
			if t.Failed() {
				t.FailNow()
			}
		}
	}
}

// edited makes a workflow and two others of it, of which the second is edited after the first where both is true.
func edited(seed uint64, disjoint bool) (b, o, th []byte, log string) {
	r := rand.New(rand.NewPCG(seed, 2))
	f := difftest.New(r, seed%2 == 0, 4+r.IntN(10))
	left, right := f.Clone(rand.New(rand.NewPCG(seed, 3))), f.Clone(rand.New(rand.NewPCG(seed, 4)))
	half, all := len(f.Nodes)/2, len(f.Nodes)
	for range 1 + r.IntN(4) {
		if disjoint {
			log += "ours: " + left.Edit(0, half) + "\n" + "theirs: " + right.Edit(half, all) + "\n"
		} else {
			log += "ours: " + left.Edit(0, all) + "\n" + "theirs: " + right.Edit(0, all) + "\n"
		}
	}
	if !disjoint && seed%5 == 0 {
		left.Renumber()
		log += "ours: renumber\n"
	}
	return f.Text(), left.Text(), right.Text(), log
}

// signature is a change without ids, which merging may give anew.
func signature(c diff.Change) string {
	s := fmt.Sprint(c.Kind, " ", c.Node.Class, " ", c.Input)
	for _, v := range []*workflows.Value{c.Old, c.New} {
		if v != nil {
			s += " " + v.Raw()
		}
	}
	for _, f := range []*diff.From{c.OldFrom, c.NewFrom} {
		if f != nil {
			s += fmt.Sprint(" ", f.Node.Class, f.Slot)
		}
	}
	return s
}

func changes(t *testing.T, a, b []byte) map[string]string {
	t.Helper()
	all := map[string]string{}
	for _, c := range diff.Compare(parse(t, a), parse(t, b)).Changes {
		if c.Kind != diff.Renumbered {
			all[signature(c)] = c.Node.ID
		}
	}
	return all
}

// What a side changed is in the result, or a conflict tells of its node.
func TestNoEditIsLost(t *testing.T) {
	clean := 0
	for seed := range uint64(500) {
		disjoint := seed%3 > 0
		b, o, th, log := edited(seed, disjoint)
		got := mustMerge(t, b, o, th, Ours)
		sound(t, got.Data)
		// Where all ids are others, a node with other values may be taken for a new one in one comparison only.
		renumbered := !disjoint && seed%5 == 0
		if len(got.Conflicts) == 0 && !renumbered {
			clean++
			for name, x := range map[string][2][]byte{"theirs": {th, o}, "ours": {o, th}} {
				made, kept, both := changes(t, b, x[0]), changes(t, x[1], got.Data), changes(t, b, x[1])
				for c := range made {
					if _, ok := kept[c]; !ok && both[c] == "" {
						t.Errorf("seed %d: what %s changed is lost: %s", seed, name, c)
					}
				}
			}
		}
		mirrored := mustMerge(t, b, th, o, Theirs)
		if len(mirrored.Conflicts) != len(got.Conflicts) {
			t.Errorf("seed %d: %d conflicts, mirrored %d", seed, len(got.Conflicts), len(mirrored.Conflicts))
		}
		for c := range changes(t, got.Data, mirrored.Data) {
			if len(got.Renumbered) > 0 {
				break // the new nodes have each other's ids
			}
			t.Errorf("seed %d: the mirrored merge differs: %s", seed, c)
		}
		if t.Failed() {
			t.Fatalf("%s\nbase %s\nours %s\ntheirs %s\nresult %s\n%+v", log, b, o, th, got.Data, got.Conflicts)
		}
	}
	if clean < 150 {
		t.Errorf("only %d merges were clean", clean)
	}
}

// drawing is a workflow of the editor with a subgraph, a reroute and a group. The arguments are texts that stand in it.
func drawing(seed, pos, group, inner, more, port string) []byte {
	return []byte(`{"last_node_id": 6, "last_link_id": 8, "version": 0.4, "groups": [{"id": 1, "title": "` + group + `", "bounding": [0, 0, 9, 9]}],
	"nodes": [
		{"id": 1, "type": "Loader", "pos": [` + pos + `], "outputs": [{"name": "MODEL", "type": "MODEL", "links": [1]}]},
		{"id": 2, "type": "sub-1", "inputs": [{"name": "model", "type": "MODEL", "link": 1}], "outputs": [{"name": "IMAGE", "type": "IMAGE", "links": [2]}],
			"properties": {"proxyWidgets": [["10", "seed"]]}, "widgets_values": [` + seed + `]},
		{"id": 3, "type": "Save", "inputs": [{"name": "images", "type": "IMAGE", "link": 2}], "outputs": []}` + more + `],
	"links": [[1, 1, 0, 2, 0, "MODEL"], [2, 2, 0, 3, 0, "IMAGE"]],
	"extra": {"linkExtensions": [{"id": 2, "parentId": 1}], "reroutes": [{"id": 1, "pos": [1, 1], "linkIds": [2]}]},
	"definitions": {"subgraphs": [{"id": "sub-1", "name": "part", "version": 1, "state": {"lastNodeId": 11, "lastLinkId": 3},
		"inputNode": {"id": -10}, "outputNode": {"id": -20},
		"inputs": [{"id": "i1", "name": "model", "type": "MODEL", "linkIds": [1]}` + port + `],
		"outputs": [{"id": "o1", "name": "IMAGE", "type": "IMAGE", "linkIds": [2]}],
		"nodes": [{"id": 10, "type": "Sampler", "inputs": [{"name": "model", "type": "MODEL", "link": 1}],
			"outputs": [{"name": "IMAGE", "type": "IMAGE", "links": [2]}], "widgets_values": [` + inner + `]}],
		"links": [{"id": 1, "origin_id": -10, "origin_slot": 0, "target_id": 10, "target_slot": 0, "type": "MODEL"},
			{"id": 2, "origin_id": 10, "origin_slot": 0, "target_id": -20, "target_slot": 0, "type": "IMAGE"}]}]}}`)
}

func TestDrawings(t *testing.T) {
	const wide = `, {"id": "i2", "name": "seed", "type": "INT", "linkIds": []}`
	const high = `, {"id": "i3", "name": "steps", "type": "INT", "linkIds": []}`
	node := func(class string) string { return `, {"id": 7, "type": "` + class + `", "inputs": [], "outputs": []}` }
	for name, tt := range map[string]struct {
		base, ours, theirs, want []byte
		conflicts                string
	}{
		"everywhere": {
			drawing("1", "0, 0", "A", "5, 6", "", ""),
			drawing("2", "0, 0", "A", "9, 6", "", wide),
			drawing("1", "3, 3", "B", "5, 8", "", high),
			drawing("2", "3, 3", "B", "9, 8", "", wide+high), "[]",
		},
		"new nodes": {
			drawing("1", "0, 0", "A", "5, 6", "", ""),
			drawing("1", "0, 0", "A", "5, 6", node("Mine"), ""),
			drawing("1", "0, 0", "A", "5, 6", node("Theirs"), ""),
			[]byte(strings.Replace(string(drawing("1", "0, 0", "A", "5, 6", node("Mine")+strings.Replace(node("Theirs"), "7", "8", 1), "")),
				`"last_node_id": 6`, `"last_node_id": 8`, 1)), "[]",
		},
		"both moved": {
			drawing("1", "0, 0", "A", "5, 6", "", ""), drawing("1", "1, 1", "A", "5, 6", "", ""), drawing("1", "2, 2", "A", "5, 6", "", ""),
			drawing("1", "1, 1", "A", "5, 6", "", ""), "[]",
		},
		"a value inside": {
			drawing("1", "0, 0", "A", "5, 6", "", ""), drawing("1", "0, 0", "A", "7, 6", "", ""), drawing("1", "0, 0", "A", "8, 6", "", ""),
			drawing("1", "0, 0", "A", "7, 6", "", ""), "[value sub-1 10 value 1]",
		},
	} {
		t.Run(name, func(t *testing.T) {
			got := mustMerge(t, format(t, tt.base), format(t, tt.ours), format(t, tt.theirs), Ours)
			if d := cmp.Diff(string(format(t, tt.want)), string(got.Data)); d != "" {
				t.Errorf("result (-want +got):\n%s", d)
			}
			said := []string{}
			for _, c := range got.Conflicts {
				said = append(said, fmt.Sprint(c.Kind, " ", c.Sheet.ID, " ", c.Node.ID, " ", c.Input))
			}
			if fmt.Sprint(said) != tt.conflicts {
				t.Errorf("conflicts are %v, want %s", said, tt.conflicts)
			}
		})
	}
}

func format(t *testing.T, data []byte) []byte {
	t.Helper()
	formatted, err := workflows.Format(data)
	if err != nil {
		t.Fatalf("%v\n%s", err, data)
	}
	return formatted
}

// A node that ours deleted and theirs linked to: the preferred side decides, and no link dangles.
func TestUsedAndDeleted(t *testing.T) {
	b := format(t, []byte(`{"1": {"class_type": "A", "inputs": {}}, "2": {"class_type": "B", "inputs": {"x": ["1", 0]}}, "3": {"class_type": "C", "inputs": {"y": 1}}}`))
	o := format(t, []byte(`{"2": {"class_type": "B", "inputs": {}}, "3": {"class_type": "C", "inputs": {"y": 1}}}`))
	th := format(t, []byte(`{"1": {"class_type": "A", "inputs": {}}, "2": {"class_type": "B", "inputs": {"x": ["1", 0]}},
		"3": {"class_type": "C", "inputs": {"y": 1, "z": ["1", 0]}}}`))
	for side, want := range map[Side]string{
		Ours:   `{"2": {"class_type": "B", "inputs": {}}, "3": {"class_type": "C", "inputs": {"y": 1}}}`,
		Theirs: `{"1": {"class_type": "A", "inputs": {}}, "2": {"class_type": "B", "inputs": {}}, "3": {"class_type": "C", "inputs": {"y": 1, "z": ["1", 0]}}}`,
	} {
		got := mustMerge(t, b, o, th, side)
		if d := cmp.Diff(string(format(t, []byte(want))), string(got.Data)); d != "" {
			t.Errorf("%v (-want +got):\n%s", side, d)
		}
		if len(got.Conflicts) != 1 || got.Conflicts[0].Kind != Used || got.Conflicts[0].Node.ID != "3" || !got.Conflicts[0].Ours.Deleted {
			t.Errorf("%v: conflicts are %+v", side, got.Conflicts)
		}
	}
}

// Where both sides made the file, what they have in common is one.
func TestEmptyBase(t *testing.T) {
	o := format(t, []byte(`{"1": {"class_type": "A", "inputs": {"x": 1, "y": 2}}}`))
	th := format(t, []byte(`{"1": {"class_type": "A", "inputs": {"x": 1, "y": 3}}, "2": {"class_type": "B", "inputs": {"a": ["1", 0]}}}`))
	r, err := Merge(nil, o, th, Options{})
	if err != nil {
		t.Fatal(err)
	}
	want := `{"1": {"class_type": "A", "inputs": {"x": 1, "y": 2}}, "2": {"class_type": "B", "inputs": {"a": ["1", 0]}}}`
	if d := cmp.Diff(string(format(t, []byte(want))), string(r.Data)); d != "" {
		t.Errorf("result (-want +got):\n%s", d)
	}
	if len(r.Conflicts) != 1 || r.Conflicts[0].Input != "y" {
		t.Errorf("conflicts are %+v", r.Conflicts)
	}
}

func TestFormats(t *testing.T) {
	api, ui := []byte(`{}`), []byte(`{"nodes": [], "links": []}`)
	if _, err := Merge(api, ui, []byte(`{"1": {"class_type": "A"}}`), Options{}); !errors.Is(err, ErrFormats) {
		t.Errorf("error is %v, want ErrFormats", err)
	}
	if _, err := Merge(api, api, []byte(`{]`), Options{}); err == nil || !strings.HasPrefix(err.Error(), "theirs: ") {
		t.Errorf("error is %v, want one that names theirs", err)
	}
	unsound := []byte(`{"nodes": [{"id": 1}], "links": []}`)
	if _, err := Merge(unsound, unsound, unsound, Options{}); err == nil {
		t.Error("what is no workflow was merged")
	}
}

// Whatever three files say, the result is a workflow in its layout whose links lead to nodes, if those of the files do.
func FuzzMerge(f *testing.F) {
	for seed := range uint64(6) {
		b, o, th, _ := edited(seed, seed%3 == 0)
		f.Add(b, o, th)
	}
	f.Add(drawing("1", "0, 0", "A", "5, 6", "", ""), drawing("2", "1, 0", "A", "9, 6", "", ""), drawing("1", "0, 0", "B", "5, 8", "", ""))
	f.Fuzz(func(t *testing.T, b, o, th []byte) {
		for _, side := range []Side{Ours, Theirs} {
			r, err := Merge(b, o, th, Options{Prefer: side})
			if err != nil {
				return
			}
			again, err := workflows.Format(r.Data)
			if err != nil || !bytes.Equal(again, r.Data) {
				t.Fatalf("the result is not in its layout: %v\n%s", err, r.Data)
			}
			if _, err := diff.Parse(r.Data, nil); err != nil {
				t.Fatalf("the result is no workflow: %v\n%s", err, r.Data)
			}
			if whole(t, b) && whole(t, o) && whole(t, th) {
				sound(t, r.Data)
			}
		}
	})
}

// whole is whether all links of a workflow lead to nodes.
func whole(t *testing.T, data []byte) bool {
	t.Helper()
	if len(bytes.TrimSpace(data)) == 0 {
		return true
	}
	for _, s := range parse(t, data).Sheets {
		for _, n := range s.Nodes {
			for _, in := range n.Inputs {
				if s.Node(in.From.Node) == nil {
					return false
				}
			}
		}
	}
	return true
}
