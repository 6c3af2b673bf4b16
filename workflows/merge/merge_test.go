package merge

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"testing"

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
