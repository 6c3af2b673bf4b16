package ui

import "testing"

func TestValueIndex(t *testing.T) {
	info, err := ParseObjectInfo([]byte(`{"K": {"input": {"required": {"model": ["MODEL"], "seed": ["INT"], "steps": ["INT"], "image": [["a"], {"image_upload": true}]}}}}`))
	if err != nil {
		t.Fatal(err)
	}
	for input, want := range map[string]int{"model": -1, "seed": 0, "steps": 2, "image": 3, "upload": 4, controlName: 1, "none": -1} {
		if got := info["K"].ValueIndex(input); got != want {
			t.Errorf("%s: %d, want %d", input, got, want)
		}
	}
}
