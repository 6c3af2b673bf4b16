package inputs

import (
	"encoding/json"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/comfyrun/comfyrun/engine"
	"github.com/comfyrun/comfyrun/workflows"
)

const info = `{
 "Text": {"input": {"required": {"text": ["STRING", {"multiline": true, "tooltip": "what to draw"}], "clip": ["CLIP"]}}, "output": ["COND"]},
 "Sample": {"input": {"required": {"seed": ["INT", {"min": 0, "max": 18446744073709551615}], "name": [["euler", "heun"]],
   "list": ["STRING"]}}, "output": []}
}`

const graph = `{
 "1": {"class_type": "Text", "inputs": {"text": "a", "clip": ["9", 0]}, "_meta": {"title": "Prompt"}},
 "2": {"class_type": "Text", "inputs": {"text": "b", "clip": ["9", 0]}, "_meta": {"title": "Text"}},
 "3": {"class_type": "Text", "inputs": {"text": "c"}, "_meta": {"title": "1"}},
 "4": {"class_type": "Sample", "inputs": {"seed": 18446744073709551615, "name": "euler", "list": {"__value__": [1]}, "a.b": true}, "_meta": {"title": "Sample"}},
 "5": {"class_type": "Foreign", "inputs": {"x": 1.50, "y": null}, "_meta": {"title": "Prompt.more"}},
 "Prompt": {"class_type": "Text", "inputs": {"other": 1}},
 "6": {"inputs": {"x": 1}}
}`

func listed(t *testing.T, text string) (*workflows.Graph, []Input) {
	t.Helper()
	c, err := engine.ParseObjectInfo([]byte(info))
	if err != nil {
		t.Fatal(err)
	}
	g, err := workflows.Parse([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return g, List(g, c)
}

func TestList(t *testing.T) {
	_, list := listed(t, graph)
	var got []string
	for _, in := range list {
		text, err := json.Marshal(in)
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, string(text))
	}
	want := []string{
		`{"set":"1.text","node":"1","class":"Text","title":"Prompt","input":"text","type":"STRING","value":"a","multiline":true,"doc":"what to draw","known":true}`,
		`{"set":"Text.text","node":"2","class":"Text","title":"Text","input":"text","type":"STRING","value":"b","multiline":true,"doc":"what to draw","known":true}`,
		`{"set":"3.text","node":"3","class":"Text","title":"1","input":"text","type":"STRING","value":"c","multiline":true,"doc":"what to draw","known":true}`,
		`{"set":"Sample.seed","node":"4","class":"Sample","title":"Sample","input":"seed","type":"INT","value":18446744073709551615,"min":0,"max":18446744073709551615,"known":true}`,
		`{"set":"Sample.name","node":"4","class":"Sample","title":"Sample","input":"name","type":"COMBO","value":"euler","choices":["euler","heun"],"known":true}`,
		`{"set":"Sample.list","node":"4","class":"Sample","title":"Sample","input":"list","type":"STRING","value":[1],"known":true}`,
		`{"set":"Sample.a.b","node":"4","class":"Sample","title":"Sample","input":"a.b","type":"bool","value":true,"known":false}`,
		`{"set":"Foreign.x","node":"5","class":"Foreign","title":"Prompt.more","input":"x","type":"number","value":1.50,"known":false}`,
		`{"set":"Foreign.y","node":"5","class":"Foreign","title":"Prompt.more","input":"y","type":"null","value":null,"known":false}`,
		`{"set":"Prompt.other","node":"Prompt","class":"Text","input":"other","type":"number","value":1,"known":false}`,
		`{"set":"6.x","node":"6","class":"","input":"x","type":"number","value":1,"known":false}`,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// Every reference leads back to its input.
func FuzzReferences(f *testing.F) {
	f.Add("A", "A.b", "b", "A", "c", "b.c")
	f.Add("1", "2", "x", "2", "1", "x.x")
	f.Fuzz(func(t *testing.T, class1, title1, input1, class2, title2, input2 string) {
		g := &workflows.Graph{}
		for _, n := range []*workflows.Node{
			{ID: "1", Class: class1, Title: title1, Inputs: workflows.Object{{Key: input1}}},
			{ID: "A", Class: class2, Title: title2, Inputs: workflows.Object{{Key: input2}}},
			{ID: "3", Class: title1, Title: class2, Inputs: workflows.Object{{Key: input2}}},
		} {
			if err := g.Add(n); err != nil {
				t.Fatal(err)
			}
		}
		for _, in := range List(g, engine.NewCatalog()) {
			n, input, err := g.Resolve(in.Set)
			if err != nil || n.ID != in.Node || input != in.Input {
				t.Errorf("%q is node %v, input %q (%v), want %q of %s", in.Set, n, input, err, in.Input, in.Node)
			}
		}
	})
}
