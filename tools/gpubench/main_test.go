package main

import (
	"strings"
	"testing"
)

func TestParseCase(t *testing.T) {
	for _, text := range defaults {
		c, err := parseCase(text)
		if err != nil || c.String() != text {
			t.Errorf("%s: %v, %v", text, c, err)
		}
	}
	for _, text := range []string{"", "sd15", "sd15:512:20", "flux:512:20:1", "sd15:500:20:1", "sd15:512:0:1", "sd15:512:20:x", "sd15:512:20:1:1"} {
		if _, err := parseCase(text); err == nil || !strings.Contains(err.Error(), "MODEL:SIZE:STEPS:BATCH") {
			t.Errorf("%q: %v", text, err)
		}
	}
}

// TestTable draws two results of one case: PyTorch's speed is told by ours.
func TestTable(t *testing.T) {
	var b strings.Builder
	all := []result{
		{Engine: "comfyrun", Device: "cuda:0", Model: "sd15", Size: 512, Steps: 50, Batch: 1, Sample: 0.5, Best: 0.4, Peak: 3e9},
		{Engine: "torch 2", Device: "GPU", Model: "sd15", Size: 512, Steps: 50, Batch: 1, Sample: 1, Best: 1},
	}
	if err := table(&b, all); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"| sd15 | 512 | 50 | 1 | comfyrun, cuda:0 | 0.00 | 0.00 | 0.500 (0.400) | 100.0 | 0.000 | 3.0 | 1 |\n",
		"| sd15 | 512 | 50 | 1 | torch 2, GPU | 0.00 | 0.00 | 1.000 (1.000) | 50.0 | 0.000 | 0.0 | 0.50 |\n",
	} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("%s\nlacks %s", b.String(), want)
		}
	}
}
