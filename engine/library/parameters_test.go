package library

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/comfyrun/comfyrun/workflows"
)

// What binds is returned, also of a workflow that does not check; what does not is told.
func TestParametersOfBrokenWorkflow(t *testing.T) {
	text := graph(map[string]string{"1": "picture: a picture", "2": "x: which?", "3": "prefix: a name"})
	g, err := workflows.Parse([]byte(strings.Replace(text, `"euler"`, `"none"`, 1)))
	if err != nil {
		t.Fatal(err)
	}
	params, err := Parameters(g, []byte("[[param]]\nname = \"steps\"\nnode = \"Draw\"\ninput = \"steps\"\n"), toys()())
	if err == nil || !strings.Contains(err.Error(), `title "x: which?" of node 2 (Draw): parameter x: which input is meant?`) {
		t.Errorf("error = %v", err)
	}
	var names []string
	for _, p := range params {
		names = append(names, p.Name)
	}
	if diff := cmp.Diff([]string{"picture", "prefix", "steps"}, names); diff != "" {
		t.Error(diff)
	}
	if _, err := Parameters(g, []byte("nonsense = 1"), toys()()); err == nil || !strings.Contains(err.Error(), "read sidecar: line 1") {
		t.Errorf("error = %v", err)
	}
	if got := SidecarOf("a/b.json"); got != "a/b.params.toml" {
		t.Error(got)
	}
}
