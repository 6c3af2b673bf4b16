//go:build webgpu || nullcuda

package archtest

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// ranNode is a node that ran.
type ranNode struct {
	Op       string `json:"op_name"`
	Provider string `json:"provider"`
}

// profiled lists the nodes that ran, from a profile.
func profiled(t *testing.T, prefix string) (ran []ranNode) {
	t.Helper()
	files, err := filepath.Glob(prefix + "*")
	must(t, err)
	if len(files) != 1 {
		t.Fatalf("profiles %v, want one", files)
	}
	data, err := os.ReadFile(files[0])
	must(t, err)
	var events []struct {
		Cat  string
		Name string
		Args ranNode
	}
	must(t, json.Unmarshal(data, &events))
	for _, e := range events {
		if e.Cat == "Node" && strings.HasSuffix(e.Name, "_kernel_time") {
			ran = append(ran, e.Args)
		}
	}
	return ran
}
