package charts_test

import (
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/comfyrun/comfyrun/charts"
	"github.com/comfyrun/comfyrun/engine/models"
)

func definitionsOf(classes ...string) (all []charts.Definition) {
	for _, class := range classes {
		all = append(all, charts.Definition{Class: class, Text: []byte(`{"b": 1.0, "a": "é",` + "\r\n" + ` "inputs": {"z": {}, "y": []}}`)})
	}
	return all
}

// Definitions are bundled once each, in the order of their classes, for as many workflows as use them.
func TestDefinitions(t *testing.T) {
	o := charts.Options{Name: "shop", Definitions: definitionsOf("B", "A", "Unused")}
	sources := []charts.Source{
		{Name: "one", Graph: graph(t, 1, "x"), Written: graph(t, 2, "x"), Defined: []string{"B", "A", "B"}},
		{Name: "two", Graph: graph(t, 1, "x"), Defined: []string{"B"}},
	}
	b := bundle(t, sources, o)
	var subjects []string
	for _, m := range b.Maps {
		subjects = append(subjects, m.Subject())
	}
	if diff := cmp.Diff([]string{"one", "two", "A.node", "B.node"}, subjects); diff != "" {
		t.Error(diff)
	}
	want := "{\n  \"b\": 1.0,\n  \"a\": \"é\",\n  \"inputs\": {\n    \"z\": {},\n    \"y\": []\n  }\n}\n"
	if got := b.Maps[2].Data["A.node.json"]; got != want {
		t.Errorf("the definition is %q, want %q", got, want)
	}
	wantNodes := "A@sha256:" + b.Maps[2].Digest() + "\nB@sha256:" + b.Maps[3].Digest()
	if got := b.Maps[0].Annotations[charts.Domain+"/nodes"]; got != wantNodes {
		t.Errorf("the workflow needs %q, want %q", got, wantNodes)
	}
	if computes := charts.Domain + "/workflow-digest"; b.Maps[0].Annotations[computes] == b.Maps[1].Annotations[computes] {
		t.Error("the digest of what a workflow computes counts what its nodes stand for")
	}
	if name := b.Maps[2].Name; !regexp.MustCompile(`^shop-a-node-[0-9a-f]{10}$`).MatchString(name) {
		t.Errorf("the name is %s", name)
	}
	if manifest := b.Manifest(); !slices.Equal(manifest, bundle(t, []charts.Source{sources[1], sources[0]}, o).Manifest()) {
		t.Error("another order gives other bytes")
	}
}

// A class may have any name; names of objects and keys may not.
func TestNamesOfDefinitions(t *testing.T) {
	name := regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,251}[a-z0-9])?$`)
	key := regexp.MustCompile(`^[-._a-zA-Z0-9]{1,253}$`)
	classes := []string{"Sampler (fast)", "Sampler [fast]", "🏠", "a/b", "..", "日本", strings.Repeat("X", 300), "x\ny", "-", "yes"}
	b := bundle(t, []charts.Source{{Name: "w", Graph: graph(t, 1, "x"), Defined: classes}}, charts.Options{Name: "s", Definitions: definitionsOf(classes...)})
	if len(b.Maps) != 1+len(classes) {
		t.Fatalf("%d classes give %d ConfigMaps", len(classes), len(b.Maps)-1)
	}
	files, err := b.Files(charts.Record{})
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for _, f := range files {
		if seen[f.Path] || strings.Count(f.Path, "/") > 1 || strings.Contains(f.Path, "..") {
			t.Errorf("file %q", f.Path)
		}
		seen[f.Path] = true
	}
	for _, m := range b.Maps {
		for k := range m.Data {
			if !name.MatchString(m.Name) || !key.MatchString(k) {
				t.Errorf("%q has the key %q", m.Name, k)
			}
		}
		checkRead(t, m)
	}
}

func checkRead(t *testing.T, want charts.ConfigMap) {
	t.Helper()
	got, err := charts.ReadConfigMaps(want.YAML())
	if err != nil || len(got) != 1 || got[0].Digest() != want.Digest() || !cmp.Equal(got[0].Annotations, want.Annotations) {
		t.Errorf("%s reads back as %v, %v", want.Name, got, err)
	}
}

func TestMistakesOfDefinitions(t *testing.T) {
	w := charts.Source{Name: "w", Graph: graph(t, 1, "x"), Defined: []string{"A"}}
	capitals := charts.Source{Name: "v", Graph: w.Graph, Defined: []string{"a", "A"}}
	for _, tt := range []struct {
		want        string
		source      charts.Source
		definitions []charts.Definition
	}{
		{`workflow "w": there is no definition of class "A"`, w, nil},
		{`definition of class "A": invalid character`, w, []charts.Definition{{Class: "A", Text: []byte("<")}}},
		{`definition of class "A": its text is not UTF-8`, w, []charts.Definition{{Class: "A", Text: []byte("\"\xff\"")}}},
		{`"a.node": its name differs from "A.node" only in capitals`, capitals, definitionsOf("a", "A")},
		{`"x.node": files that end in .node.json are definitions`, charts.Source{Name: "x.node", Graph: w.Graph}, nil},
	} {
		_, err := charts.New([]charts.Source{tt.source}, charts.Options{Name: "x", Definitions: tt.definitions})
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%v, want %q", err, tt.want)
		}
	}
}

func TestLabelsAndNamespaces(t *testing.T) {
	for _, tt := range []struct {
		key, value string
		ok         bool
	}{
		{"team", "marketing", true}, {"team", "", true}, {"example.com/team", "a_b.c-1", true}, {"a", strings.Repeat("x", 63), true},
		{"a", strings.Repeat("x", 64), false}, {strings.Repeat("x", 64), "", false}, {"", "x", false}, {"/a", "x", false}, {"a/", "x", false},
		{"a/b/c", "x", false}, {"Example.com/a", "x", false}, {strings.Repeat("a.", 127) + "a/b", "x", false}, {"a", "-x", false}, {"a", "x y", false}, {"a", "é", false},
		{"app.kubernetes.io/name", "x", false}, {"comfyrun.github.io/bundle", "x", false}, {"a", "x\n", false},
	} {
		_, err := charts.New(nil, charts.Options{Name: "x", Labels: map[string]string{tt.key: tt.value}})
		if (err == nil) != tt.ok {
			t.Errorf("label %q=%q: %v", tt.key, tt.value, err)
		}
	}
	for namespace, ok := range map[string]bool{"": true, "ai": true, "123": true, "a-b": true, "-a": false, "A": false, "a.b": false, "a\n": false,
		strings.Repeat("x", 63): true, strings.Repeat("x", 64): false} {
		if _, err := charts.New(nil, charts.Options{Name: "x", Namespace: namespace}); (err == nil) != ok {
			t.Errorf("namespace %q: %v", namespace, err)
		}
	}
}

// A workflow that names a model by a label gets what the label leads to, and the label with it.
func TestLabelsOfModels(t *testing.T) {
	all := lock()
	for i, label := range []string{"stable", "canary"} {
		e := all.Models[0]
		e.Name, e.Labels, e.SHA256 = "checkpoints/portrait/"+label+".safetensors", []string{label}, strings.Repeat(string('c'+rune(i)), 64)
		all.Set(e)
	}
	sources := []charts.Source{{Name: "w", Graph: graph(t, 1, "x"), Models: []string{"checkpoints/portrait@canary", "checkpoints/portrait/canary.safetensors"}}}
	b := bundle(t, sources, charts.Options{Name: "x", Lock: all})
	want := "checkpoints/portrait/canary.safetensors@sha256:" + strings.Repeat("d", 64)
	if got := b.Maps[0].Annotations[charts.Domain+"/models"]; got != want {
		t.Errorf("the workflow needs %q, want %q", got, want)
	}
	part, err := models.ParseLock([]byte(b.Maps[1].Data[charts.LockKey]))
	if err != nil || len(part.Models) != 1 {
		t.Fatalf("the part of the lock: %v, %v", part, err)
	}
	if e, ok := part.Find("checkpoints/portrait@canary"); !ok || e.SHA256 != strings.Repeat("d", 64) {
		t.Errorf("the label leads to %+v", e)
	}
}
