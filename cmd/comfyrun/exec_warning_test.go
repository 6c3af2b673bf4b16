package main

import (
	"bytes"
	"strings"
	"testing"

	"github.com/comfyrun/comfyrun/engine"
	"github.com/comfyrun/comfyrun/nodes"
)

// TestWarningsAreShown wants what a node has to say in the lines for people and
// in those of --json.
func TestWarningsAreShown(t *testing.T) {
	j := toyJobs(t, rowFlags{})[0]
	e := engine.Event{Kind: engine.EventWarning, Meta: engine.Meta{Node: "7"}, Class: "LoraLoader", Text: "nothing fits"}
	var text, out bytes.Buffer
	reporters{plainLines{&text}, jsonEvents{&out, nodes.Dirs{}}}.event(j, e)
	if got := text.String(); got != "  LoraLoader 7: warning: nothing fits\n" {
		t.Errorf("for people: %q", got)
	}
	told := events(t, &out, "warning")
	if len(told) != 1 || told[0]["text"] != "nothing fits" || told[0]["node"] != "7" || strings.Count(out.String(), "\n") != 1 {
		t.Errorf("--json: %s", out.String())
	}
}
