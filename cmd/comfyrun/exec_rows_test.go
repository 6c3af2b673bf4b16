package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/comfyrun/comfyrun/workflows"
)

const toyWorkflow = `{
	"1": {"class_type": "Number", "inputs": {"value": 3, "seed": 18446744073709551615}, "_meta": {"title": "First"}},
	"2": {"class_type": "Number", "inputs": {"value": 4, "noise_seed": ["1", 0]}, "_meta": {"title": "Second"}},
	"3": {"class_type": "Write", "inputs": {"prefix": "sum", "a": ["1", 0], "b": ["2", 0]}}}`

func toyGraph(t *testing.T) *workflows.Graph {
	t.Helper()
	g, err := workflows.Parse([]byte(toyWorkflow))
	if err != nil {
		t.Fatal(err)
	}
	return g
}

func writeTemp(t *testing.T, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

func rowTexts(rows []row) []string {
	var texts []string
	for _, r := range rows {
		texts = append(texts, r.object().Raw())
	}
	return texts
}

func TestRows(t *testing.T) {
	csv := writeTemp(t, "b.csv", "\ufeffFirst.value,Write.prefix\n1,\"a,b\"\n2,\n")
	jsonl := writeTemp(t, "b.jsonl", "{\"First.value\": 1.50, \"Write.prefix\": null}\n\n{\"1.seed\": 18446744073709551615}")
	for _, c := range []struct {
		name  string
		flags rowFlags
		want  []string
	}{
		{"nothing", rowFlags{}, []string{`{}`}},
		{"set", rowFlags{sets: []string{"a.b=c=d", "e.f="}}, []string{`{"a.b":"c=d","e.f":""}`}},
		{"later set wins", rowFlags{sets: []string{"a.b=1", "a.b=2"}}, []string{`{"a.b":"2"}`}},
		{"sweep", rowFlags{sets: []string{"a.b=1"}, sweeps: []string{`x.y=5,"p, q"`, "a.b=7,8"}},
			[]string{`{"a.b":"7","x.y":"5"}`, `{"a.b":"8","x.y":"5"}`, `{"a.b":"7","x.y":"p, q"}`, `{"a.b":"8","x.y":"p, q"}`}},
		{"csv", rowFlags{batch: csv}, []string{`{"First.value":"1","Write.prefix":"a,b"}`, `{"First.value":"2"}`}},
		{"jsonl and sweep", rowFlags{batch: jsonl, sweeps: []string{"x.y=1,2"}}, []string{
			`{"First.value":1.50,"x.y":"1"}`, `{"First.value":1.50,"x.y":"2"}`,
			`{"1.seed":18446744073709551615,"x.y":"1"}`, `{"1.seed":18446744073709551615,"x.y":"2"}`}},
	} {
		rows, err := c.flags.rows()
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
		}
		if diff := cmp.Diff(c.want, rowTexts(rows)); diff != "" {
			t.Errorf("%s: %s", c.name, diff)
		}
	}
}

func TestRowsErrors(t *testing.T) {
	long := "x.y=" + strings.TrimSuffix(strings.Repeat("1,", 1001), ",")
	for _, c := range []struct {
		flags rowFlags
		want  string
	}{
		{rowFlags{sets: []string{"a.b"}}, "not of the form NODE.INPUT=VALUE"},
		{rowFlags{sweeps: []string{"a.b"}}, "not of the form"},
		{rowFlags{sweeps: []string{"a.b="}}, "no values"},
		{rowFlags{sweeps: []string{`a.b="x`}}, "--sweep"},
		{rowFlags{sweeps: []string{"a.b=1\n2"}}, "a line break"},
		{rowFlags{sweeps: []string{long, long}}, "more than 1000000 runs"},
		{rowFlags{batch: "x.txt"}, "must end in .csv or .jsonl"},
		{rowFlags{batch: filepath.Join(t.TempDir(), "absent.csv")}, "absent.csv"},
		{rowFlags{batch: writeTemp(t, "a.csv", "a.b\n")}, "no rows"},
		{rowFlags{batch: writeTemp(t, "a.csv", "a.b,a.b\n1,2\n")}, `column 2: name "a.b"`},
		{rowFlags{batch: writeTemp(t, "a.csv", "a.b\n1,2\n")}, "line 2"},
		{rowFlags{batch: writeTemp(t, "a.jsonl", "{}\n[]\n")}, "line 2: a list where an object"},
		{rowFlags{batch: writeTemp(t, "a.jsonl", "{}\n{\"a\": }\n")}, "row on line 2: line 1, column 7"},
	} {
		if _, err := c.flags.rows(); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%+v: %v, want %s", c.flags, err, c.want)
		}
	}
}

func TestApply(t *testing.T) {
	g := toyGraph(t)
	exact, err := workflows.ParseValue([]byte("7.0"))
	if err != nil {
		t.Fatal(err)
	}
	flags := rowFlags{seed: 9, seeded: true}
	h, err := flags.apply(g, row{
		{Target: "Second.value", Value: &exact}, {Target: "Write.prefix", Text: "12"}, {Target: "1.value", Text: "5"},
	})
	if err != nil {
		t.Fatal(err)
	}
	want := `{"1":{"class_type":"Number","inputs":{"seed":9,"value":5}},` +
		`"2":{"class_type":"Number","inputs":{"noise_seed":["1",0],"value":7.0}},` +
		`"3":{"class_type":"Write","inputs":{"a":["1",0],"b":["2",0],"prefix":"12"}}}`
	if got := string(workflows.Canonical(h)); got != want {
		t.Errorf("workflow = %s\nwant %s", got, want)
	}
	if !g.Equal(toyGraph(t)) {
		t.Error("apply changed the workflow it was given")
	}
	for target, want := range map[string]string{"Number.value": "2 nodes have this class", "First.x": "no input", "x": "NODE.INPUT"} {
		if _, err := flags.apply(g, row{{Target: target, Text: "1"}}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %s", target, err, want)
		}
	}
}

func TestShards(t *testing.T) {
	seen := map[string]int{}
	for i := range 8 {
		part, err := parseShard(fmt.Sprintf("%d/8", i+1))
		if err != nil {
			t.Fatal(err)
		}
		jobs := makeJobs([]*source{{name: "a"}, {name: "b"}}, make([]row, 10), part)
		for k, j := range jobs {
			seen[fmt.Sprint(j.source.name, j.rowNumber)]++
			if j.number != k+1 || j.of != len(jobs) {
				t.Errorf("shard %d: run %d of %d is numbered %d of %d", i+1, k+1, len(jobs), j.number, j.of)
			}
		}
		if len(jobs) < 2 || len(jobs) > 3 {
			t.Errorf("shard %d has %d runs of 20", i+1, len(jobs))
		}
	}
	for name, n := range seen {
		if n != 1 {
			t.Errorf("run %s is in %d shards", name, n)
		}
	}
	if len(seen) != 20 {
		t.Errorf("the shards have %d runs, want 20", len(seen))
	}
	if part, err := parseShard("0/8"); err != nil || part != (shard{8, 8}) {
		t.Errorf("0/8 is %v, %v, want the same as 8/8", part, err)
	}
	for _, text := range []string{"0/0", "9/8", "2", "/", "a/b", "1/2/3", "-1/2"} {
		if part, err := parseShard(text); err == nil {
			t.Errorf("%q is taken for %v", text, part)
		}
	}
}
