package diff_test

import (
	"bytes"
	"math/rand/v2"
	"testing"

	"github.com/comfyrun/comfyrun/workflows"
	"github.com/comfyrun/comfyrun/workflows/diff"
	"github.com/comfyrun/comfyrun/workflows/diff/difftest"
)

// TestFormatKeepsMeaning makes 2,000 random edits: the canonical layout of each version is that of itself, a version formatted
// out of another layout differs in nothing, and no edit is lost on the way.
func TestFormatKeepsMeaning(t *testing.T) {
	const flows, edits = 200, 10
	for seed := range flows {
		r := rand.New(rand.NewPCG(uint64(seed), 1))
		f := difftest.New(r, seed%2 == 0, 3+r.IntN(12))
		before := f.Text()
		for range edits {
			what := f.Edit(0, len(f.Nodes)-1)
			text := f.Text()
			once, err := workflows.Format(bytes.ReplaceAll(text, []byte("\n"), []byte("\r\n  ")))
			if err != nil {
				t.Fatalf("seed %d, %s: %v", seed, what, err)
			}
			if twice, err := workflows.Format(once); err != nil || !bytes.Equal(once, twice) {
				t.Fatalf("seed %d, %s: formatting twice changes it, %v", seed, what, err)
			}
			if !same(t, text, once) {
				t.Fatalf("seed %d, %s: formatting changed the meaning of\n%s", seed, what, text)
			}
			if again, err := workflows.Format(before); err != nil || bytes.Equal(again, once) != bytes.Equal(before, text) {
				t.Fatalf("seed %d, %s: formatting hides the edit, %v", seed, what, err)
			}
			before = text
		}
	}
}

// same reports whether nothing tells two files apart.
func same(t *testing.T, a, b []byte) bool {
	t.Helper()
	old, err := diff.Parse(a, nil)
	if err != nil {
		t.Fatal(err)
	}
	now, err := diff.Parse(b, nil)
	if err != nil {
		t.Fatal(err)
	}
	return diff.Compare(old, now).Same()
}
