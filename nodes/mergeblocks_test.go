package nodes

import "testing"

func TestRatioOf(t *testing.T) {
	ratios := []blockRatio{{"time_embed.", 0.9}, {"input_blocks.1", 0.1}, {"input_blocks.10.", 0.2}, {"out.", 0.3}, {"output_blocks.0.", 0.4}}
	for weight, want := range map[string]float64{
		"time_embed.0.weight": 0.9, "input_blocks.1.0.bias": 0.1, "input_blocks.10.0.bias": 0.2, "input_blocks.11.0.bias": 0.1,
		"out.2.weight": 0.3, "output_blocks.0.0.bias": 0.4, "middle_block.0.bias": 0.9,
	} {
		if got := ratioOf(weight, ratios); got != want {
			t.Errorf("%s: %g, want %g", weight, got, want)
		}
	}
}
