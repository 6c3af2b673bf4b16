//go:build slow

package diffusion

import "testing"

// TestNetsFull compares the network with real widths. Its outputs are sums of
// many more terms, so the tolerance is larger.
func TestNetsFull(t *testing.T) { testNets(t, "sd15-full-fp16", 5e-4) }
