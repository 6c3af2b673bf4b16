package ui

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/comfyrun/comfyrun/engine/cputest"
	"github.com/comfyrun/comfyrun/workflows"
)

// toys are definitions of small classes: Load gives an IMAGE, Blur takes one, Save shows one.
const toys = `{
	"Load": {"input": {"required": {"name": [["a.png", "b.png"]]}}, "output": ["IMAGE", "MASK"], "display_name": "Load it"},
	"Blur": {"input": {"required": {"image": ["IMAGE"], "radius": ["INT", {"default": 3}], "seed": ["INT", {"default": 1}]}}, "output": ["IMAGE"]},
	"Text": {"input": {"required": {"text": ["STRING", {"multiline": true, "dynamicPrompts": true}]}}, "output": ["STRING"]},
	"Pick": {"input": {"required": {"which": [["a", "b"], {"control_after_generate": true}], "on": ["BOOLEAN", {"default": true}], "amount": ["FLOAT"]}}, "output": ["INT"]},
	"Grow": {"input": {"required": {"how": ["COMFY_DYNAMICCOMBO_V3", {"options": []}], "n": ["INT", {"default": 1}]}}, "output": []},
	"Save": {"input": {"required": {"images": ["IMAGE"], "filename_prefix": ["STRING", {"default": "x"}]}}, "output": []}
}`

// drawing writes a workflow of nodes and links.
func drawing(nodes, links string, rest ...string) []byte {
	return []byte(`{"nodes": [` + nodes + `], "links": [` + links + `]` + strings.Join(rest, "") + `}`)
}

// save is a node 9 that shows what link 1 brings.
const save = `{"id": 9, "type": "Save", "inputs": [{"name": "images", "type": "IMAGE", "link": 1}], "widgets_values": ["p"]}`

func toyInfo(t testing.TB) ObjectInfo {
	t.Helper()
	info, err := ParseObjectInfo([]byte(toys))
	if err != nil {
		t.Fatal(err)
	}
	return info
}

// shown is the canonical form of what a drawing becomes, and the warnings, one a line.
func shown(t *testing.T, data []byte, o Options) string {
	t.Helper()
	g, warnings, err := Read(data, toyInfo(t), o)
	if err != nil {
		return err.Error()
	}
	text := string(workflows.Canonical(g))
	for _, w := range warnings {
		text += "\n" + w.String()
	}
	return text
}

const loads = `{"id": 1, "type": "Load", "outputs": [{"name": "IMAGE", "type": "IMAGE"}], "widgets_values": ["a.png"]}`

const loadsJSON = `"1":{"class_type":"Load","inputs":{"name":"a.png"}}`

func TestSetAndGet(t *testing.T) {
	set := `{"id": 2, "type": "SetNode", "inputs": [{"name": "IMAGE", "type": "IMAGE", "link": 2}], "outputs": [{"name": "*", "type": "*"}], "widgets_values": ["picture"]}`
	get := `{"id": 3, "type": "GetNode", "outputs": [{"name": "IMAGE", "type": "IMAGE"}], "widgets_values": ["picture"]}`
	links := `[1, 3, 0, 9, 0, "IMAGE"], [2, 1, 0, 2, 0, "IMAGE"]`
	through := `{` + loadsJSON + `,"9":{"class_type":"Save","inputs":{"filename_prefix":"p","images":["1",0]}}}`
	open := `{` + loadsJSON + `,"9":{"class_type":"Save","inputs":{"filename_prefix":"p"}}}`
	muted := strings.Replace(set, `"id": 2`, `"id": 2, "mode": 2`, 1)
	for _, tt := range []struct{ name, nodes, want string }{
		{"by name", set + "," + get, through},
		{"nobody sets it", get, open + "\nnode 3 (GetNode): it gets \"picture\", which no SetNode sets"},
		{"two set it", set + "," + strings.Replace(set, `"id": 2`, `"id": 4`, 1) + "," + get,
			`convert workflow: node 3 (GetNode): it gets "picture", which both node 2 and node 4 set`},
		{"a muted one sets nothing", muted + "," + get, open},
	} {
		if diff := cmp.Diff(tt.want, shown(t, drawing(loads+","+tt.nodes+","+save, links), Options{})); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tt.name, diff)
		}
	}
}

// A GetNode in a subgraph finds the SetNode outside.
func TestGetFromOutside(t *testing.T) {
	set := `{"id": 2, "type": "SetNode", "inputs": [{"name": "IMAGE", "type": "IMAGE", "link": 2}], "widgets_values": ["picture"]}`
	instance := `{"id": 5, "type": "sub"}`
	sub := `, "definitions": {"subgraphs": [{"id": "sub", "name": "S", "inputs": [], "outputs": [], "nodes": [
		{"id": 3, "type": "GetNode", "widgets_values": ["picture"]}, ` + save + `],
		"links": [{"id": 1, "origin_id": 3, "origin_slot": 0, "target_id": 9, "target_slot": 0, "type": "IMAGE"}]}]}`
	got := shown(t, drawing(loads+","+set+","+instance, `[2, 1, 0, 2, 0, "IMAGE"]`, sub), Options{})
	if want := `{` + loadsJSON + `,"5:9":{"class_type":"Save","inputs":{"filename_prefix":"p","images":["1",0]}}}`; got != want {
		t.Errorf("got %s\nwant %s", got, want)
	}
}

func TestValues(t *testing.T) {
	node := func(class, values string) []byte {
		return drawing(`{"id": 1, "type": "`+class+`", `+values+`}`, "")
	}
	for _, tt := range []struct{ name, class, values, want string }{
		{"64 bits", "Blur", `"widgets_values": [5, 18446744073709551615, "fixed"]`, `{"radius":5,"seed":18446744073709551615}`},
		{"numbers as written", "Pick", `"widgets_values": ["a", "fixed", "", true, 7.0]`, `{"amount":7.0,"on":true,"which":"a"}`},
		{"labels of the same values", "Blur", `"widgets_values": [7, 5, "fixed"], "widgets_values_named": {"seed": 7, "radius": 5, "x": "fixed"}`, `{"radius":5,"seed":7}`},
		{"names alone", "Blur", `"widgets_values_named": {"seed": 7, "radius": 5}`, `{"radius":5,"seed":7}`},
		{"names in order", "Blur", `"widgets_values_ordered": [{"name": "seed", "occurrence": 0, "value": 7}]`, `{"radius":3,"seed":7}`},
		{"object of positions", "Blur", `"widgets_values": {"0": 8, "1": 9}`, `{"radius":8,"seed":9}`},
		{"object of names", "Blur", `"widgets_values": {"seed": 8}`, `{"radius":3,"seed":8}`},
		{"list as literal", "Pick", `"widgets_values": [["a", "b"], "fixed", "", true, 7]`, `{"amount":7,"on":true,"which":{"__value__":["a","b"]}}`},
		{"surplus", "Blur", `"widgets_values": [5, 6, "fixed", 99]`, "{\"radius\":5,\"seed\":6}\nnode 1 (Blur): it has 4 values, its class 3 places for them: the last are passed over"},
		{"names and positions differ", "Blur", `"widgets_values": [5, 6, "fixed"], "widgets_values_named": {"seed": 7}`,
			"{\"radius\":5,\"seed\":6}\nnode 1 (Blur): widgets_values_named says otherwise than widgets_values, which counts"},
		{"no control", "Blur", `"widgets_values": [5, 6, 7]`, `node 1 (Blur), input control_after_generate: found 7 where "fixed"`},
		{"word for number", "Blur", `"widgets_values": ["five", 6, "fixed"]`, `node 1 (Blur), input radius: found "five" where a number should be`},
		{"number for choice", "Load", `"widgets_values": [5]`, `node 1 (Load), input name: found 5 where one of the choices, such as "a.png", should be`},
		{"word for bool", "Pick", `"widgets_values": ["a", "fixed", "", "euler", 1]`, `node 1 (Pick), input on: found "euler" where true or false should be`},
		{"widgets that depend on a value, by name", "Grow", `"widgets_values": ["big", 7, 2], "widgets_values_named": {"how": "big", "how.width": 7, "n": 2}`, `{"how":"big","how.width":7,"n":2}`},
		{"widgets that depend on a value, by position", "Grow", `"widgets_values": ["big", 7, 2]`, "node 1 (Grow), input how: how many values it has depends on its value (COMFY_DYNAMICCOMBO_V3)"},
		{"choice that is gone", "Load", `"widgets_values": ["gone.png"]`, `{"name":"gone.png"}`},
	} {
		got := shown(t, node(tt.class, tt.values), Options{})
		got = strings.Replace(strings.TrimPrefix(got, `{"1":{"class_type":"`+tt.class+`","inputs":`), "}}}", "}", 1)
		if !strings.Contains(got, tt.want) || strings.HasPrefix(tt.want, "{") && !strings.HasPrefix(strings.ReplaceAll(got, "}}", "}"), strings.ReplaceAll(tt.want, "}}", "}")) {
			t.Errorf("%s: got %s, want %s", tt.name, got, tt.want)
		}
	}
}

func TestUnknownClass(t *testing.T) {
	for _, tt := range []struct{ name, node, want string }{
		{"values without names", `"widgets_values": [5, "x"]`,
			"{\"1\":{\"class_type\":\"Far\",\"inputs\":{\"UNKNOWN\":5,\"UNKNOWN_1\":\"x\"}}}\nnode 1 (Far): the class is unknown, its values have no names"},
		{"names", `"widgets_values": [5, "fixed"], "widgets_values_named": {"n": 5, "control_after_generate": "fixed"}`,
			"{\"1\":{\"class_type\":\"Far\",\"inputs\":{\"n\":5}}}\nnode 1 (Far): the class is unknown"},
		{"slots of all widgets", `"inputs": [{"name": "n", "widget": {"name": "n"}}, {"name": "t", "widget": {"name": "t"}}], "widgets_values": [5, "randomize", "x"]`,
			"{\"1\":{\"class_type\":\"Far\",\"inputs\":{\"n\":5,\"t\":\"x\"}}}\nnode 1 (Far): the class is unknown"},
		{"slots of some widgets", `"inputs": [{"name": "n", "widget": {"name": "n"}}], "widgets_values": [5, "x"]`,
			"{\"1\":{\"class_type\":\"Far\",\"inputs\":{\"UNKNOWN\":5,\"UNKNOWN_1\":\"x\"}}}\nnode 1 (Far): the class is unknown, its values have no names"},
		{"muted", `"mode": 2, "widgets_values": [5]`, "{}"},
	} {
		if diff := cmp.Diff(tt.want, shown(t, drawing(`{"id": 1, "type": "Far", `+tt.node+`}`, ""), Options{})); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tt.name, diff)
		}
	}
}

// A group gives its instance the inputs, values and outputs of its nodes: here a picture and a radius that was turned into
// an input come in, both outputs of Load and that of Blur lead out but for the hidden mask.
func TestGroup(t *testing.T) {
	const group = `, "extra": {"groupNodes": {"g": {
		"nodes": [
			{"type": "Load", "inputs": [], "widgets_values": ["a.png"]},
			{"type": "Blur", "inputs": [{"name": "image", "type": "IMAGE", "link": 77}, {"name": "radius", "type": "INT", "widget": {"name": "radius"}}], "widgets_values": [1, 2, "fixed"]},
			{"type": "Blur", "inputs": [{"name": "image", "type": "IMAGE"}], "widgets_values": [3, 4, "fixed"]}
		],
		"links": [[0, 0, 1, 0, 1, "IMAGE"], [null, 0, 2, 0]],
		"external": [[0, 0, "IMAGE"]],
		"config": {"0": {"output": {"1": {"visible": false}}}}
	}}}`
	const nodes = `
		{"id": 1, "type": "Load", "widgets_values": ["b.png"]},
		{"id": 2, "type": "Pick", "widgets_values": ["a", "fixed", "", true, 1]},
		{"id": 7, "type": "workflow>g", "inputs": [{"name": "image", "type": "IMAGE", "link": 11}, {"name": "radius", "type": "INT", "link": 12}],
			"widgets_values": ["b.png", 22, "fixed", 33, 44, "randomize"]},
		{"id": 8, "type": "Save", "inputs": [{"name": "images", "link": 13}]},
		{"id": 9, "type": "Save", "inputs": [{"name": "images", "link": 14}]},
		{"id": 10, "type": "Save", "inputs": [{"name": "images", "link": 15}]}`
	got := shown(t, drawing(nodes, `[11,1,0,7,0], [12,2,0,7,1], [13,7,0,8,0], [14,7,1,9,0], [15,7,2,10,0]`, group), Options{})
	want := `{"1":{"class_type":"Load","inputs":{"name":"b.png"}},` +
		`"10":{"class_type":"Save","inputs":{"filename_prefix":"x","images":["7:2",0]}},` +
		`"2":{"class_type":"Pick","inputs":{"amount":1,"on":true,"which":"a"}},` +
		`"7:0":{"class_type":"Load","inputs":{"name":"b.png"}},` +
		`"7:1":{"class_type":"Blur","inputs":{"image":["7:0",0],"radius":["2",0],"seed":22}},` +
		`"7:2":{"class_type":"Blur","inputs":{"image":["1",0],"radius":33,"seed":44}},` +
		`"8":{"class_type":"Save","inputs":{"filename_prefix":"x","images":["7:0",0]}},` +
		`"9":{"class_type":"Save","inputs":{"filename_prefix":"x","images":["7:1",0]}}}`
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// Values of an instance reach widgets of nodes inside, of instances inside and of nodes inside of those.
func TestProxies(t *testing.T) {
	const subgraphs = `, "definitions": {"subgraphs": [
		{"id": "outer", "inputs": [], "outputs": [], "links": [], "nodes": [
			{"id": 1, "type": "inner", "inputs": [{"name": "size", "type": "INT", "widget": {"name": "size"}}]},
			{"id": 2, "type": "Blur", "widgets_values": [1, 2, "fixed"]}]},
		{"id": "inner", "inputs": [{"name": "size", "type": "INT"}], "outputs": [], "nodes": [
			{"id": 1, "type": "Blur", "inputs": [{"name": "radius", "type": "INT", "widget": {"name": "radius"}, "link": 1}], "widgets_values": [3, 4, "fixed"]}],
			"links": [{"id": 1, "origin_id": -10, "origin_slot": 0, "target_id": 1, "target_slot": 0}]}]}`
	instance := `{"id": 5, "type": "outer", "properties": {"proxyWidgets": [["1", "size"], ["2", "seed"], ["2", "control_after_generate"], ["1:1", "seed"], ["2", "$$preview"]]},
		"widgets_values": [11, 22, "randomize", 33]}`
	got := shown(t, drawing(instance, ``, subgraphs), Options{})
	want := `{"5:1:1":{"class_type":"Blur","inputs":{"radius":11,"seed":33}},"5:2":{"class_type":"Blur","inputs":{"radius":1,"seed":22}}}`
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// What cannot be converted is an *Error that says where.
func TestRefused(t *testing.T) {
	holds := func(id, inner string) string {
		return `{"id": "` + id + `", "name": "` + id + `", "nodes": [{"id": 1, "type": "` + inner + `"}], "links": []}`
	}
	deep := make([]string, MaxNesting+2)
	for i := range deep {
		deep[i] = holds(fmt.Sprint("s", i), fmt.Sprint("s", i+1))
	}
	wide := make([]string, 17)
	for i := range wide {
		wide[i] = fmt.Sprintf(`{"id": "s%d", "nodes": [{"id": 1, "type": "s%d"}, {"id": 2, "type": "s%d"}], "links": []}`, i, i+1, i+1)
	}
	subgraphs := func(list ...string) string {
		return `, "definitions": {"subgraphs": [` + strings.Join(list, ",") + `]}`
	}
	for _, tt := range []struct {
		name string
		data []byte
		want string
	}{
		{"no list", []byte(`{"nodes": {}, "links": []}`), `lists "nodes" and "links"`},
		{"no object", drawing(`5`, ``), "node 1 of the list is a number"},
		{"no id", drawing(`{"type": "Save"}`, ``), `node 1 of the list ("Save") has no id`},
		{"no class", drawing(`{"id": 4}`, ``), `node 4: it has no "type"`},
		{"one id twice", drawing(save+","+save, ``), "node 9 (Save): another node has this id too"},
		{"short link", drawing(``, `[1, 2]`), "link 1: [1,2] has not all of"},
		{"link of texts", drawing(``, `"x"`), "link 1: \"x\" is neither"},
		{"source is gone", drawing(save, `[1, 3, 0, 9, 0, "IMAGE"]`), "node 9 (Save), input images: its link comes from node 3"},
		{"holds itself", drawing(`{"id": 1, "type": "s"}`, ``, subgraphs(holds("s", "s"))), `node 1:1 (s): subgraph s ("s") holds itself`},
		{"hold each other", drawing(`{"id": 1, "type": "a"}`, ``, subgraphs(holds("a", "b"), holds("b", "a"))), `node 1:1:1 (a): subgraph a ("a") holds itself`},
		{"too deep", drawing(`{"id": 1, "type": "s0"}`, ``, subgraphs(deep...)), "subgraphs are nested more than 32 deep"},
		{"too many", drawing(`{"id": 1, "type": "s0"}`, ``, subgraphs(wide...)), "with its subgraphs written out it has more than 100000 nodes"},
		{"no id of a subgraph", drawing(``, ``, subgraphs(`{"name": "S", "nodes": [], "links": []}`)), `subgraph "S" has no id`},
		{"defined twice", drawing(``, ``, subgraphs(holds("a", "x"), holds("a", "y"))), `subgraph a ("a") is defined twice, differently`},
		{"group leads nowhere", drawing(`{"id": 1, "type": "workflow>g"}`, ``, `, "extra": {"groupNodes": {"g": {"nodes": [], "links": [[0, 0, 1, 0]]}}}`),
			"node 1 (workflow>g): link 1 of its group, [0,0,1,0], leads nowhere"},
		{"group holds itself", drawing(`{"id": 1, "type": "workflow>g"}`, ``, `, "extra": {"groupNodes": {"g": {"nodes": [{"type": "workflow>g"}], "links": []}}}`),
			`subgraph workflow>g ("g") holds itself`},
	} {
		w, err := Parse(tt.data)
		if err == nil {
			_, _, err = w.Convert(toyInfo(t), Options{})
		}
		var e *Error
		if !errors.As(err, &e) || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: error %v, want %q", tt.name, err, tt.want)
		}
	}
}

func TestCircles(t *testing.T) {
	reroute := func(id, in int) string {
		return fmt.Sprintf(`{"id": %d, "type": "Reroute", "inputs": [{"name": "", "type": "*", "link": %d}]}`, id, in)
	}
	got := shown(t, drawing(reroute(2, 2)+","+reroute(3, 3)+","+save, `[1, 2, 0, 9, 0], [2, 3, 0, 2, 0], [3, 2, 0, 3, 0]`), Options{})
	want := "{\"9\":{\"class_type\":\"Save\",\"inputs\":{\"filename_prefix\":\"p\"}}}\nnode 9 (Save), input images: its links go in a circle and give it nothing"
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// Many inputs at the end of a long way are no more work than one.
func TestLongWay(t *testing.T) {
	const n = 20_000
	nodes := []string{fmt.Sprintf(`{"id":%d,"type":"Load"}`, 2*n)}
	links := []string{fmt.Sprintf(`[0,%d,0,0,0]`, 2*n)}
	for i := range n {
		nodes = append(nodes, fmt.Sprintf(`{"id":%d,"type":"Reroute","inputs":[{"name":"","type":"*","link":%d}]}`, i, i),
			fmt.Sprintf(`{"id":%d,"type":"Save","inputs":[{"name":"images","link":%d}]}`, n+i, n+i))
		links = append(links, fmt.Sprintf(`[%d,%d,0,%d,0]`, i+1, i, i+1), fmt.Sprintf(`[%d,%d,0,%d,0]`, n+i, n-1, n+i))
	}
	cputest.Within(t, 20*time.Second)
	g, _, err := Read(drawing(strings.Join(nodes, ","), strings.Join(links, ",")), toyInfo(t), Options{})
	if err != nil {
		t.Fatal(err)
	}
	images, _ := g.Node(fmt.Sprint(2*n - 1)).Inputs.Get("images")
	if want := fmt.Sprintf(`["%d",0]`, 2*n); images.Raw() != want || g.Len() != n+1 {
		t.Errorf("images = %s, want %s; %d nodes", images.Raw(), want, g.Len())
	}
}

// A small file that stands for much work is refused: here, each of many instances reads a long list again.
func TestBounded(t *testing.T) {
	proxies := strings.Repeat(`["1", "x"],`, 100_000) + `["1", "x"]`
	inner := `{"id": "s", "nodes": [{"id": 1, "type": "t", "properties": {"proxyWidgets": [` + proxies + `]}}], "links": []}`
	last := `{"id": "t", "nodes": [], "links": []}`
	var instances []string
	for i := range 5000 {
		instances = append(instances, fmt.Sprintf(`{"id": %d, "type": "s"}`, i))
	}
	_, _, err := Read(drawing(strings.Join(instances, ","), "", `, "definitions": {"subgraphs": [`+inner+","+last+`]}`), toyInfo(t), Options{})
	wantError(t, err, "stand for more than can be followed")
}

func TestExpandPrompt(t *testing.T) {
	last := func() float64 { return math.Nextafter(1, 0) }
	for _, tt := range []struct{ text, want string }{
		{"{a|b|c}", "c"},
		{"{a|{b|{c|d}}} e", "d e"},
		{`\{a|b\} {c\|d|e\}f}`, `{a|b} e}f`},
		{"{a|b", "b"},
		{"a}b", "a}b"},
		{"{}", ""},
		{"x /* {a|b} */ y // z\n{p|q}", "x  y \nq"},
		{`ends in \`, `ends in \`},
		{strings.Repeat("{", 100), ""},
	} {
		if got := ExpandPrompt(tt.text, last); got != tt.want && tt.want != "" {
			t.Errorf("%q: %q, want %q", tt.text, got, tt.want)
		}
	}
}

func TestFileNames(t *testing.T) {
	now := time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC)
	for _, tt := range []struct {
		prefix string
		now    time.Time
		want   string
	}{
		{"%date:yyyy-MM-dd hh:mm:ss%", now, "2026-03-04 05:06:07"},
		{"%date:yy-M-d h:m:s%", now, "26-3-4 5:6:7"},
		{"%date:yyyy%", time.Time{}, "%date:yyyy%"},
		{"%width%_%Mine.name%_100%", now, "%width%_a.png_100%"},
		{"%Nobody.name%", now, "%Nobody.name%\nnode 9 (Save), input filename_prefix: %Nobody.name% names no value of a node"},
	} {
		nodes := strings.Replace(loads, `"id": 1`, `"id": 1, "title": "Mine"`, 1) + `, {"id": 9, "type": "Save", "widgets_values": ["` + tt.prefix + `"]}`
		got := shown(t, drawing(nodes, ""), Options{Now: tt.now})
		got = strings.Replace(strings.TrimPrefix(got, `{`+loadsJSON+`,"9":{"class_type":"Save","inputs":{"filename_prefix":"`), `"}}}`, "", 1)
		if got != tt.want {
			t.Errorf("%q: %q, want %q", tt.prefix, got, tt.want)
		}
	}
}

func TestObjectInfoErrors(t *testing.T) {
	for _, tt := range []struct{ data, want string }{
		{`[]`, "a list where an object of classes should be"},
		{`{"A": 5}`, `class "A": a number, not an object`},
		{`{"A": {}}`, `class "A": it has no "input"`},
		{`{"A": {"input": {"required": {"x": "INT"}}}}`, `class "A": input "x": "INT" is no list of a type and options`},
		{`{"A"`, "line 1, column 5"},
	} {
		if _, err := ParseObjectInfo([]byte(tt.data)); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v, want %s", tt.data, err, tt.want)
		}
	}
}

func TestSeveral(t *testing.T) {
	first := ObjectInfo{"A": {Name: "A", Title: "first"}}
	all := Several{nil, first, ObjectInfo{"A": {Name: "A", Title: "second"}, "B": {Name: "B"}}}
	if c, ok := all.Class("A"); !ok || c.Title != "first" {
		t.Errorf("A is %v, %v", c, ok)
	}
	if _, ok := all.Class("B"); !ok {
		t.Error("B is unknown")
	}
	if _, ok := all.Class("C"); ok {
		t.Error("C is known")
	}
}

// What is in the API format already is read as it is, and so is what a conversion gave; a second conversion gives the
// same bytes.
func TestConvertedStays(t *testing.T) {
	info := objectInfo(t)
	for _, name := range cases(t) {
		g, _, err := Read(read(t, name+".ui.json"), info, Options{})
		if err != nil {
			continue // TestRecorded knows which
		}
		once := workflows.Encode(g)
		again, _, err := Read(read(t, name+".ui.json"), info, Options{})
		if err != nil || !bytes.Equal(workflows.Encode(again), once) {
			t.Errorf("%s: converted again: another text (%v)", name, err)
		}
		back, warnings, err := Read(once, nil, Options{})
		if err != nil || len(warnings) > 0 || !bytes.Equal(workflows.Encode(back), once) {
			t.Errorf("%s: read back: another text (%v)", name, err)
		}
	}
	api, err := os.ReadFile("../default.json")
	if err != nil {
		t.Fatal(err)
	}
	g, _, err := Read(api, nil, Options{})
	if err != nil || !bytes.Equal(workflows.Encode(g), api) {
		t.Errorf("default.json does not stay (%v)", err)
	}
}

func FuzzRead(f *testing.F) {
	info := toyInfo(f)
	for _, name := range cases(f) {
		if strings.HasPrefix(name, "hand/") {
			f.Add(read(f, name+".ui.json"))
		}
	}
	for class := range info {
		f.Add(drawing(`{"id": 1, "type": "`+class+`", "widgets_values": ["a", {"0": 1}, [2]]}`, `[1, 1, 0, 1, 0]`))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		g, _, err := Read(data, info, Options{Random: third})
		if err != nil {
			return
		}
		text := workflows.Encode(g)
		back, err := workflows.Parse(text)
		if err != nil {
			t.Fatalf("what was made cannot be read: %v\n%s", err, text)
		}
		if !back.Equal(g) {
			t.Fatalf("what was made reads back as another graph:\n%s\n%s", text, workflows.Encode(back))
		}
	})
}

// A formatted drawing stands for the same graph.
func TestFormattedStays(t *testing.T) {
	info := objectInfo(t)
	for _, name := range cases(t) {
		data := read(t, name+".ui.json")
		formatted, err := workflows.Format(data)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		before, _, err := Read(data, info, Options{LikePage: true})
		if err != nil {
			continue // TestRecorded knows which
		}
		after, _, err := Read(formatted, info, Options{LikePage: true})
		if err != nil || workflows.Digest(after) != workflows.Digest(before) {
			t.Errorf("%s: formatted it is another graph (%v)", name, err)
		}
	}
}
