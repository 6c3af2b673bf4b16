package webtest

import (
	"testing"
)

func TestCompare(t *testing.T) {
	for _, tt := range []struct {
		name, want, got string
		paths           []string
	}{
		{"equal", `{"a":[1,2.0,"x",null,true]}`, `{"a":[1,2.0,"x",null,true]}`, nil},
		{"integer and float", `3.0`, `3`, []string{"json"}},
		{"floats", `3.0`, `3.00`, nil},
		{"integers beyond 2^53", `9007199254740993`, `9007199254740992`, []string{"json"}},
		{"bare NaN", `{"f":"<NaN>"}`, `{"f":NaN}`, nil},
		{"NaN in a text", `"a \"NaN\" b"`, `"a \"NaN\" b"`, nil},
		{"placeholders", `["<uuid>","<ms>","x_<5 letters>_1"]`, `["0192e4a0-0000-4000-8000-000000000000",1700000000000,"x_abcde_1"]`, nil},
		{"no uuid", `"<uuid>"`, `"abc"`, []string{"json"}},
		{"key that is one", `{"<uuid>":{"a":1}}`, `{"0192e4a0-0000-4000-8000-000000000000":{"a":2}}`, []string{"json/<uuid>/a"}},
		{"missing and more", `{"a":1}`, `{"b":1}`, []string{"json/a", "json/b"}},
		{"a list has an order", `{"images":["a","b"]}`, `{"images":["b","a"]}`, []string{"json/images/0", "json/images/1"}},
		{"a set has none", `{"dependent_outputs":["a","b"]}`, `{"dependent_outputs":["b","a"]}`, nil},
		{"outputs to execute", `{"prompt":[0,"p",{},{},["1","2"]]}`, `{"prompt":[0,"p",{},{},["2","1"]]}`, nil},
		{"a heap", `{"queue_pending":[1,3,2]}`, `{"queue_pending":[1,2,3]}`, nil},
		{"first of a heap", `{"queue_pending":[1,3]}`, `{"queue_pending":[3,1]}`, []string{"json/queue_pending/0", "json/queue_pending/1"}},
		{"lines of details", `{"error":{"details":"a: x\nb: y"}}`, `{"error":{"details":"b: y\na: x"}}`, nil},
		{"Python's text", `{"type":"invalid_input_type","details":"i, abc, invalid literal"}`, `{"type":"invalid_input_type","details":"i"}`, nil},
		{"text of ours", `{"type":"too_small","details":"i"}`, `{"type":"too_small","details":"j"}`, []string{"json/details"}},
		{"traceback", `{"traceback":["<traceback>"]}`, `{"traceback":[]}`, nil},
		{"tooltip", `["IMAGE",{"tooltip":""}]`, `["IMAGE",{"tooltip":"ours"}]`, nil},
		{"no JSON", `{}`, `{`, []string{"json"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := Compare("json", []byte(tt.want), []byte(tt.got))
			if len(got) != len(tt.paths) {
				t.Fatalf("differences %v, want at %v", got, tt.paths)
			}
			for i, d := range got {
				if d.Path != tt.paths[i] {
					t.Errorf("difference at %s, want %s", d.Path, tt.paths[i])
				}
			}
		})
	}
}

func TestExpand(t *testing.T) {
	if got := string(expand("[xxx… (5 times x)]")); got != "[xxxxx]" {
		t.Errorf("got %s", got)
	}
}
