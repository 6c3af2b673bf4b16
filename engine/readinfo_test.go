package engine

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/comfyrun/comfyrun/workflows"
)

// What is read of an object_info says the same again.
func TestParseObjectInfoRoundTrip(t *testing.T) {
	data, err := os.ReadFile("testdata/object_info.json")
	if err != nil {
		t.Fatal(err)
	}
	c, err := ParseObjectInfo(data)
	if err != nil {
		t.Fatal(err)
	}
	for class, want := range golden(t) {
		typ, ok := c.Type(class)
		if !ok {
			t.Errorf("%s is lost", class)
			continue
		}
		got, err := json.Marshal(typ.Info())
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(sortedJSON(t, want), sortedJSON(t, got)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", class, diff)
		}
	}
}

// sortedJSON is a text with the members of objects in the order of their keys, numbers as they were written.
func sortedJSON(t *testing.T, data []byte) string {
	t.Helper()
	d := json.NewDecoder(bytes.NewReader(data))
	d.UseNumber()
	var v any
	if err := d.Decode(&v); err != nil {
		t.Fatal(err)
	}
	out, err := json.MarshalIndent(v, "", " ")
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}

const foreignInfo = `{
 "Load": {"input": {"required": {"name": [["a.safetensors", "b"], {"default": "b"}], "seed": ["INT", {"min": 0, "max": 18446744073709551615}],
   "scale": ["FLOAT", {"min": 0.5, "max": 2}], "size": [[512, 1.5, "auto", true]], "remote": ["COMBO", {"remote": {"route": "/x"}}],
   "many": [["x"], {"multiselect": true}]}, "optional": {"extra": ["STRING"], "grow": ["COMFY_AUTOGROW_V3", {}]}, "hidden": {"id": "UNIQUE_ID"}},
  "input_order": {"required": ["seed", "name", "seed"], "optional": ["extra"]},
  "output": ["THING", ["x", "y"], "COMBO", "COMFY_MATCHTYPE_V3"], "output_name": ["thing"], "output_is_list": [true], "python_module": "custom_nodes.x"},
 "Save": {"input": {"required": {"thing": ["THING"], "either": ["THING,IMAGE"], "v3": ["COMBO", {"options": ["x", "y"]}], "image": ["IMAGE"]},
   "optional": {"any": ["COMFY_MATCHTYPE_V3", {}]}}, "output": [], "output_node": true, "api_node": false}
}`

func TestParseObjectInfo(t *testing.T) {
	c, err := ParseObjectInfo([]byte(foreignInfo))
	if err != nil {
		t.Fatal(err)
	}
	load, _ := c.Type("Load")
	var inputs []string
	for _, in := range load.Inputs {
		inputs = append(inputs, fmt.Sprintf("%s %s %t", in.Name, in.Kind, in.Optional))
	}
	want := []string{"seed INT false", "name COMBO false", "scale FLOAT false", "size COMBO false", "remote COMBO false", "many COMBO false",
		"extra STRING true", "grow COMFY_AUTOGROW_V3 true"}
	if diff := cmp.Diff(want, inputs); diff != "" {
		t.Error(diff)
	}
	if load.IsOutput || load.Module != "custom_nodes.x" || !load.Outputs[0].List || load.Outputs[0].Name != "thing" || load.Hidden[0].Kind != HiddenUniqueID {
		t.Errorf("%+v", load)
	}
	if _, err := load.Call(t.Context(), nil); !errors.Is(err, ErrNoCode) {
		t.Errorf("call: %v", err)
	}
}

func TestForeignCatalogChecks(t *testing.T) {
	c, err := ParseObjectInfo([]byte(foreignInfo))
	if err != nil {
		t.Fatal(err)
	}
	const sound = `{"1": {"class_type": "Load", "inputs": {"name": "b", "seed": 18446744073709551615, "scale": 0.5, "size": 512, "remote": "?", "many": "x"}},
 "2": {"class_type": "Save", "inputs": {"thing": ["1", 0], "either": ["1", 0], "v3": ["1", 1], "image": ["1", 3], "any": ["1", 2]}}}`
	for _, tt := range []struct{ old, new, want string }{
		{"", "", ""},
		{`"size": 512`, `"size": true`, ""},
		{`"size": 512`, `"size": 1.5`, ""},
		{`"size": 512`, `"size": 512.0`, ""},
		{`"size": 512`, `"size": "auto"`, ""},
		{`"size": 512`, `"size": "512"`, "1 size invalid_input_type 512 is not one of 512, 1.5, auto, True"},
		{`"name": "b"`, `"name": "c"`, "1 name value_not_in_list 'c' is not one of a.safetensors, b"},
		{`18446744073709551615`, `18446744073709551616`, "1 seed value_bigger_than_max 1.8446744073709552e+19 is above the maximum 18446744073709551615"},
		{`"scale": 0.5`, `"scale": 2.5`, "1 scale value_bigger_than_max 2.5 is above the maximum 2"},
		{`"thing": ["1", 0]`, `"thing": ["1", 1]`, "2 thing return_type_mismatch takes THING, but node 1 gives ['x', 'y']"},
		{`"image": ["1", 3]`, `"image": "x.png"`, `2 image invalid_input_type wants a link to IMAGE, not the string "x.png"`},
		{`"image": ["1", 3]`, `"image": ["1", 4]`, "2 image exception_during_validation is linked to output 4 of node 1 (Load), which has 4"},
		{`"thing": ["1", 0]`, `"thing": 5`, ""}, // who knows what a page has a box for
	} {
		g, err := workflows.Parse([]byte(strings.Replace(sound, tt.old, tt.new, 1)))
		if err != nil {
			t.Fatal(err)
		}
		_, err = NewPlan(g, c, PlanOptions{})
		got := ""
		var invalid *InvalidError
		if errors.As(err, &invalid) {
			e := invalid.Errors[0]
			got = fmt.Sprintf("%s %s %s %v", e.Node, e.Input, e.Kind, e.Err)
		}
		if got != tt.want {
			t.Errorf("%s: %q, want %q", tt.new, got, tt.want)
		}
	}
}

func TestParseObjectInfoErrors(t *testing.T) {
	for text, want := range map[string]string{
		`[]`:        "a list where an object of classes should be",
		`{`:         "line 1, column 2",
		`{"A": 5}`:  `class "A": a number, not an object`,
		`{"A": {}}`: `class "A": it has no "input"`,
		`{"A": {"input": {"required": {"x": "INT"}}}}`: `class "A": input "x": "INT" is no list of a type and options`,
		`{"": {"input": {}}}`:                          "no class name",
	} {
		if _, err := ParseObjectInfo([]byte(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %s", text, err, want)
		}
	}
}

func FuzzParseObjectInfo(f *testing.F) {
	f.Add([]byte(foreignInfo))
	f.Add([]byte(`{"A": {"input": {"required": {"x": [5, {"min": "a", "default": [1], "round": false}]}}, "output": [null, 5]}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := ParseObjectInfo(data)
		if err != nil {
			return
		}
		text, err := json.Marshal(ObjectInfo(c))
		if err != nil {
			t.Fatal(err)
		}
		again, err := ParseObjectInfo(text)
		if err != nil {
			t.Fatalf("%s: %v", text, err)
		}
		same := func(a, b *NodeType) bool {
			return a.Class == b.Class && len(a.Inputs) == len(b.Inputs) && len(a.Outputs) == len(b.Outputs)
		}
		if !slices.EqualFunc(c.Types(), again.Types(), same) {
			t.Fatalf("reads otherwise: %s", text)
		}
	})
}
