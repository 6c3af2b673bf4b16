package charts_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/comfyrun/comfyrun/charts"
	"github.com/comfyrun/comfyrun/workflows"
)

func TestLargeWorkflows(t *testing.T) {
	text := func(n int) *workflows.Graph {
		var b strings.Builder
		b.WriteString("{")
		for i := range n {
			fmt.Fprintf(&b, `%q: {"class_type": "X", "inputs": {"a": 1, "b": ["1", 0], "c": %d}},`, fmt.Sprint(i), i)
		}
		g, err := workflows.Parse([]byte(strings.TrimSuffix(b.String(), ",") + "}"))
		if err != nil {
			t.Fatal(err)
		}
		return g
	}
	b := bundle(t, []charts.Source{{Name: "big", Graph: text(9000)}}, charts.Options{Name: "x"})
	data := b.Maps[0].Data["big.json"]
	if strings.Count(data, "\n") != 1 || len(data) > charts.MaxData {
		t.Errorf("a workflow that only fits without blanks has %d bytes in %d lines", len(data), strings.Count(data, "\n"))
	}
	if g, err := workflows.Parse([]byte(data)); err != nil || workflows.Digest(g) != workflows.Digest(text(9000)) {
		t.Errorf("the workflow without blanks is another one (%v)", err)
	}
	_, err := charts.New([]charts.Source{{Name: "huge", Graph: text(40000)}}, charts.Options{Name: "x"})
	if err == nil || !strings.Contains(err.Error(), `workflow "huge": has `) || !strings.Contains(err.Error(), "cannot be divided") {
		t.Errorf("a workflow that does not fit gives %v", err)
	}
}

// promptOf is a workflow with a prompt of a length.
func promptOf(t *testing.T, length int) *workflows.Graph {
	t.Helper()
	return graph(t, 1, strings.Repeat("x", length))
}

// dataBytes is what Kubernetes counts of a ConfigMap.
func dataBytes(m charts.ConfigMap) (n int) {
	for key, text := range m.Data {
		n += len(key) + len(text)
	}
	return n
}

// A workflow may fill a ConfigMap to the last byte; a byte more first costs the blanks, then the bundle. So it is with a sidecar
// and the longest name.
func TestLimitOfSize(t *testing.T) {
	for _, tt := range []struct {
		name    string
		sidecar []byte
	}{
		{"w", nil}, {strings.Repeat("n", 100), nil}, {strings.Repeat("n", 100), []byte(strings.Repeat("# remark\n", 1000))},
	} {
		made := func(length int) (charts.ConfigMap, error) {
			b, err := charts.New([]charts.Source{{Name: tt.name, Graph: promptOf(t, length), Sidecar: tt.sidecar}}, charts.Options{Name: "x"})
			if err != nil {
				return charts.ConfigMap{}, err
			}
			return b.Maps[0], nil
		}
		const base = 800 << 10
		m, err := made(base)
		if err != nil {
			t.Fatal(err)
		}
		fits := base + charts.MaxData - dataBytes(m)
		m, err = made(fits)
		if err != nil || dataBytes(m) != charts.MaxData || strings.Count(m.Data[tt.name+".json"], "\n") == 1 {
			t.Errorf("%.9s: a workflow that just fits: %v, %d bytes", tt.name, err, dataBytes(m))
		}
		m, err = made(fits + 1)
		if err != nil || dataBytes(m) > charts.MaxData || strings.Count(m.Data[tt.name+".json"], "\n") != 1 {
			t.Errorf("%.9s: a workflow that just does not fit with blanks: %v, %d bytes", tt.name, err, dataBytes(m))
		}
		last := fits + 1 + charts.MaxData - dataBytes(m)
		if m, err = made(last); err != nil || dataBytes(m) != charts.MaxData {
			t.Errorf("%.9s: a workflow that just fits without blanks: %v, %d bytes", tt.name, err, dataBytes(m))
		}
		if _, err = made(last + 1); err == nil || !strings.Contains(err.Error(), "has 901 KiB, more than the limit of a ConfigMap's data of 900 KiB") {
			t.Errorf("%.9s: a workflow a byte too large: %v", tt.name, err)
		}
	}
}

// What else may be too large says so, each in its own words.
func TestOtherLimits(t *testing.T) {
	source := charts.Source{Name: "w", Graph: graph(t, 1, "x"), Defined: []string{"Big"}}
	big := charts.Definition{Class: "Big", Text: fmt.Appendf(nil, `{"doc": %q}`, strings.Repeat("x", charts.MaxData))}
	_, err := charts.New([]charts.Source{source}, charts.Options{Name: "x", Definitions: []charts.Definition{big}})
	if err == nil || !strings.Contains(err.Error(), `definition of class "Big": has 901 KiB`) {
		t.Errorf("a definition that is too large gives %v", err)
	}
	lock := lock()
	many := charts.Source{Name: "w", Graph: graph(t, 1, "x")}
	for i := range 2500 {
		e := lock.Models[0]
		e.Name = fmt.Sprintf("loras/%04d.safetensors", i)
		lock.Set(e)
		many.Models = append(many.Models, e.Name)
	}
	_, err = charts.New([]charts.Source{many}, charts.Options{Name: "x", Lock: lock})
	if err == nil || !strings.Contains(err.Error(), "KiB of annotations, of which a ConfigMap holds 200 KiB") {
		t.Errorf("a workflow with too many models gives %v", err)
	}
	var sources []charts.Source
	for i, name := range many.Models {
		e, _ := lock.Find(name)
		e.Sources = []string{"https://models.example.com/" + strings.Repeat("x", 500)}
		lock.Set(e)
		sources = append(sources, charts.Source{Name: fmt.Sprintf("w%04d", i), Graph: many.Graph, Models: []string{name}})
	}
	_, err = charts.New(sources, charts.Options{Name: "x", Lock: lock})
	if err == nil || !strings.Contains(err.Error(), "models.lock: has ") || !strings.Contains(err.Error(), "make several bundles") || strings.Contains(err.Error(), "pictures") {
		t.Errorf("a lock that is too large gives %v", err)
	}
}
