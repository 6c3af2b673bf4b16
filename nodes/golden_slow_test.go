//go:build slow

package nodes

import "testing"

// TestGoldenFull runs the workflow of the checkpoint with real widths.
func TestGoldenFull(t *testing.T) {
	for _, c := range goldenCases(t) {
		if c.Name == fullSize {
			t.Logf("%+v", runGolden(t, c))
		}
	}
}
