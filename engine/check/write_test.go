package check

import (
	"bytes"
	"encoding/json"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/comfyrun/comfyrun/engine"
	"github.com/comfyrun/comfyrun/workflows"
)

func samples() []Finding {
	seven := workflows.IntValue(7)
	return []Finding{
		{File: "./a b/w,1.json", Line: 3, Column: 5, EndLine: 3, EndColumn: 6, Severity: Error, Kind: engine.TooBig, Node: "12:3", Class: "K<S>", Title: "T",
			Input: "steps", Message: "7 is 100% too\nbig: really, \x1b[31mred", Received: &seven, Allowed: &Allowed{Type: "INT", Min: engine.Int(1), Max: engine.Int(5)}},
		{File: "./a b/w,1.json", Line: 3, Column: 5, EndLine: 4, EndColumn: 2, Severity: Error, Kind: engine.TooBig, Node: "12:3", Class: "K<S>", Input: "steps", Message: "again"},
		{File: "/x/p.png", Severity: Warning, Kind: NodeUnused, Node: "4", Class: "A", Message: "not needed"},
		{File: "w.json", Line: 1, Column: 1, EndLine: 1, EndColumn: 1, Severity: Error, Kind: InvalidJSON, Message: "end of file"},
		{File: "w.json", Line: 1, Column: 1, EndLine: 1, EndColumn: 2, Severity: Error, Kind: "a_new_kind", Message: "?"},
	}
}

func written(t *testing.T, write func(*bytes.Buffer) error) string {
	t.Helper()
	var b bytes.Buffer
	if err := write(&b); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func TestWriteText(t *testing.T) {
	want := `./a b/w,1.json:3:5: error: node 12:3 (K<S>), input steps: 7 is 100% too big: really,  [31mred (value_bigger_than_max)
./a b/w,1.json:3:5: error: node 12:3 (K<S>), input steps: again (value_bigger_than_max)
/x/p.png: warning: node 4 (A): not needed (node_unused)
w.json:1:1: error: end of file (invalid_json)
w.json:1:1: error: ? (a_new_kind)
`
	if diff := cmp.Diff(want, written(t, func(b *bytes.Buffer) error { return WriteText(b, samples()) })); diff != "" {
		t.Error(diff)
	}
}

func TestWriteJSON(t *testing.T) {
	want := `{"file":"./a b/w,1.json","line":3,"column":5,"end_line":3,"end_column":6,"severity":"error","kind":"value_bigger_than_max","node":"12:3","class":"K<S>","title":"T","input":"steps","message":"7 is 100% too\nbig: really, \u001b[31mred","received":7,"allowed":{"type":"INT","min":1,"max":5}}
{"file":"./a b/w,1.json","line":3,"column":5,"end_line":4,"end_column":2,"severity":"error","kind":"value_bigger_than_max","node":"12:3","class":"K<S>","input":"steps","message":"again"}
{"file":"/x/p.png","severity":"warning","kind":"node_unused","node":"4","class":"A","message":"not needed"}
{"file":"w.json","line":1,"column":1,"end_line":1,"end_column":1,"severity":"error","kind":"invalid_json","message":"end of file"}
{"file":"w.json","line":1,"column":1,"end_line":1,"end_column":2,"severity":"error","kind":"a_new_kind","message":"?"}
`
	if diff := cmp.Diff(want, written(t, func(b *bytes.Buffer) error { return WriteJSON(b, samples()) })); diff != "" {
		t.Error(diff)
	}
}

// As GitHub's documentation of workflow commands wants it: percent signs, line ends, and in properties also colons and
// commas are escaped.
func TestWriteGitHub(t *testing.T) {
	want := `::error file=a b/w%2C1.json,line=3,endLine=3,col=5,endColumn=6,title=value_bigger_than_max::node 12:3 (K<S>), input steps: 7 is 100%25 too%0Abig: really,  [31mred
::error file=a b/w%2C1.json,line=3,endLine=4,title=value_bigger_than_max::node 12:3 (K<S>), input steps: again
::warning file=/x/p.png,title=node_unused::node 4 (A): not needed
::error file=w.json,line=1,endLine=1,col=1,endColumn=1,title=invalid_json::end of file
::error file=w.json,line=1,endLine=1,col=1,endColumn=2,title=a_new_kind::?
`
	if diff := cmp.Diff(want, written(t, func(b *bytes.Buffer) error { return WriteGitHub(b, samples()) })); diff != "" {
		t.Error(diff)
	}
}

func TestStrict(t *testing.T) {
	findings := samples()
	Strict(findings)
	for _, f := range findings {
		if f.Severity != Error {
			t.Errorf("%+v", f)
		}
	}
}

// get follows keys and positions into JSON; what is not there fails the test.
func get(t *testing.T, v any, path ...any) any {
	t.Helper()
	for _, key := range path {
		var next any
		switch key := key.(type) {
		case string:
			o, _ := v.(map[string]any)
			next = o[key]
		case int:
			if list, _ := v.([]any); key < len(list) {
				next = list[key]
			}
		}
		if next == nil {
			t.Fatalf("%v: no %v in %v", path, key, v)
		}
		v = next
	}
	return v
}

// sarifRunOf is the one run of a log, whose head is checked.
func sarifRunOf(t *testing.T, findings []Finding) any {
	t.Helper()
	text := written(t, func(b *bytes.Buffer) error { return WriteSARIF(b, findings, "1.2.3") })
	var log any
	if err := json.Unmarshal([]byte(text), &log); err != nil {
		t.Fatal(err)
	}
	if get(t, log, "version") != "2.1.0" || !strings.HasPrefix(get(t, log, "$schema").(string), "https://") || len(get(t, log, "runs").([]any)) != 1 {
		t.Errorf("log: %s", text)
	}
	return get(t, log, "runs", 0)
}

// TestWriteSARIF holds the log to what SARIF 2.1.0 requires of the objects in it, and to what GitHub's code scanning asks
// for beyond: rules with descriptions, relative URIs, regions and fingerprints.
func TestWriteSARIF(t *testing.T) {
	run := sarifRunOf(t, samples())
	driver := get(t, run, "tool", "driver")
	if get(t, driver, "name") != "comfyrun check" || get(t, driver, "version") != "1.2.3" || get(t, run, "columnKind") != "unicodeCodePoints" {
		t.Errorf("driver: %v", driver)
	}
	rules := get(t, driver, "rules").([]any)
	if len(rules) != 4 {
		t.Errorf("%d rules", len(rules))
	}
	for _, rule := range rules {
		if get(t, rule, "id") == "" || get(t, rule, "shortDescription", "text") == "" {
			t.Errorf("rule: %v", rule)
		}
	}
	results := get(t, run, "results").([]any)
	if len(results) != len(samples()) {
		t.Fatalf("%d results", len(results))
	}
	prints := map[any]bool{}
	for _, result := range results {
		index := int(get(t, result, "ruleIndex").(float64))
		if get(t, rules[index], "id") != get(t, result, "ruleId") || get(t, result, "message", "text") == "" {
			t.Errorf("result: %v", result)
		}
		if level := get(t, result, "level"); level != "error" && level != "warning" {
			t.Errorf("level: %v", level)
		}
		prints[get(t, result, "partialFingerprints", "comfyrun/v1")] = true
		uri := get(t, result, "locations", 0, "physicalLocation", "artifactLocation", "uri").(string)
		if !regexp.MustCompile(`^(file:///)?[A-Za-z0-9._~/%,-]+$`).MatchString(uri) {
			t.Errorf("uri %q", uri)
		}
	}
	if len(prints) != len(results) {
		t.Errorf("%d fingerprints of %d results", len(prints), len(results))
	}
}

func TestSARIFLocations(t *testing.T) {
	run := sarifRunOf(t, samples())
	want := map[string]any{
		"physicalLocation": map[string]any{
			"artifactLocation": map[string]any{"uri": "a%20b/w,1.json"},
			"region":           map[string]any{"startLine": 3.0, "startColumn": 5.0, "endLine": 3.0, "endColumn": 6.0},
		},
		"logicalLocations": []any{map[string]any{"name": "steps", "fullyQualifiedName": "12:3.steps", "kind": "property"}},
	}
	if diff := cmp.Diff(want, get(t, run, "results", 0, "locations", 0)); diff != "" {
		t.Error(diff)
	}
	want = map[string]any{"artifactLocation": map[string]any{"uri": "file:///x/p.png"}}
	if diff := cmp.Diff(want, get(t, run, "results", 2, "locations", 0, "physicalLocation")); diff != "" {
		t.Error(diff)
	}
}

// What a finding is known by does not change when other things move.
func TestFingerprintsStay(t *testing.T) {
	before, after := samples(), samples()
	after[0].Line, after[0].Column, after[0].Message = 70, 7, "8 is too big"
	a := get(t, sarifRunOf(t, before), "results", 0, "partialFingerprints")
	b := get(t, sarifRunOf(t, after[:1]), "results", 0, "partialFingerprints")
	if diff := cmp.Diff(a, b); diff != "" {
		t.Error(diff)
	}
}

// A log without findings is one too.
func TestWriteEmptySARIF(t *testing.T) {
	text := written(t, func(b *bytes.Buffer) error { return WriteSARIF(b, nil, "") })
	for _, want := range []string{`"results": []`, `"rules": []`} {
		if !strings.Contains(text, want) {
			t.Errorf("no %s in %s", want, text)
		}
	}
}
