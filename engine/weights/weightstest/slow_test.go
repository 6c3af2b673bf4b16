//go:build slow

package weightstest

import "testing"

// TestWriteFull makes the checkpoint with real widths, 2.1 GB.
func TestWriteFull(t *testing.T) { Write(t, t.TempDir(), "sd15-full-fp16") }
