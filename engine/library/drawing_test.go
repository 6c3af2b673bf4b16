package library

import (
	"strings"
	"testing"

	"github.com/comfyrun/comfyrun/workflows"
)

// drawing is a workflow as the editor saves it: Draw with a seed that is a parameter, Save.
const drawing = `{"version": 0.4, "last_node_id": 3, "last_link_id": 2, "nodes": [
	{"id": 1, "type": "Load", "mode": 0, "inputs": [], "outputs": [{"name": "IMAGE", "type": "IMAGE", "links": [1]}], "widgets_values": ["a.png", "image"]},
	{"id": 2, "type": "Draw", "title": "seed: The noise", "mode": 0, "inputs": [{"name": "image", "type": "IMAGE", "link": 1}],
		"outputs": [{"name": "IMAGE", "type": "IMAGE", "links": [2]}], "widgets_values": [18446744073709551615, "fixed", 9, 7.5, "heun", "a house", false]},
	{"id": 3, "type": "Save", "mode": 0, "inputs": [{"name": "image", "type": "IMAGE", "link": 2}], "outputs": [], "widgets_values": ["x"]}],
	"links": [[1, 1, 0, 2, 0, "IMAGE"], [2, 2, 0, 3, 0, "IMAGE"]], "groups": [], "config": {}, "extra": {}}`

func TestDrawing(t *testing.T) {
	c := toys("a.png")()
	w, err := read("draw", files{workflow: []byte(drawing)}, c)
	if err != nil {
		t.Fatal(err)
	}
	if len(w.Params) != 1 || w.Params[0].Name != "seed" {
		t.Fatalf("parameters %+v, want the seed", w.Params)
	}
	if text := string(workflows.Encode(w.graph)); !strings.Contains(text, "18446744073709551615") {
		t.Errorf("the seed is not there to its last digit: %s", text)
	}
	broken := strings.Replace(drawing, `"type": "Draw"`, `"type": "Drow"`, 1)
	if _, err := read("draw", files{workflow: []byte(broken)}, c); err == nil || !strings.Contains(err.Error(), "Drow") {
		t.Errorf("an unknown class: %v", err)
	}
	short := strings.Replace(drawing, `"heun", "a house", false`, `"neither", 3`, 1)
	if _, err := read("draw", files{workflow: []byte(short)}, c); err == nil {
		t.Error("values that do not fit their widgets are accepted")
	}
}
