package archtest

import (
	"bytes"
	"crypto/sha256"
	"flag"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/comfyrun/comfyrun/engine/nn"
	"github.com/comfyrun/comfyrun/engine/onnx"
)

var update = flag.Bool("update", false, "write testdata/cpu-graphs.txt")

// TestCPUGraphs compares the graphs for the CPU with those that there were
// before graphs were built for other devices.
func TestCPUGraphs(t *testing.T) {
	const path = "testdata/cpu-graphs.txt"
	var lines []string
	all := Networks(t)
	for _, name := range slices.Sorted(maps.Keys(all)) {
		g, err := nn.Build(name, all[name].Weights, all[name].Build)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		var b bytes.Buffer
		if err := onnx.Dump(&b, &onnx.Model{Graph: g.ONNX}); err != nil {
			t.Fatal(err)
		}
		for _, p := range g.Params {
			fmt.Fprintln(&b, p.Name, p.Shape, p.Source.From, p.Source.Make != nil, p.Offset)
		}
		lines = append(lines, fmt.Sprintf("%x %d %s", sha256.Sum256(b.Bytes()), len(g.ONNX.Nodes), name))
	}
	got := strings.Join(lines, "\n") + "\n"
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o666); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
