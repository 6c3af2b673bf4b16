package charts_test

import (
	"bytes"
	"encoding/json"
	"os"
	"strings"
	"testing"
	"text/template"

	"github.com/google/go-cmp/cmp"

	"github.com/comfyrun/comfyrun/charts"
)

// file is a file of a bundle's folder.
func file(t *testing.T, b *charts.Bundle, r charts.Record, name string) string {
	t.Helper()
	files, err := b.Files(r)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		if f.Path == name {
			return string(f.Data)
		}
	}
	t.Fatalf("there is no %s", name)
	return ""
}

// expand fills in a template as the ApplicationSet controller does with goTemplate and missingkey=error.
func expand(t *testing.T, text string, params any) string {
	t.Helper()
	functions := template.FuncMap{"default": func(other, given any) any {
		if given == nil || given == "" {
			return other
		}
		return given
	}}
	parsed, err := template.New("").Funcs(functions).Option("missingkey=error").Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if err := parsed.Execute(&out, params); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

// The set of environments is a golden file.
func TestEnvironments(t *testing.T) {
	r := record()
	r.Targets.With = []string{"applicationset"}
	r.Targets.Environments = []string{"dev", "prod=ai"}
	b := bundle(t, samples(t), charts.Options{Name: "shop"})
	automated := file(t, b, r, "applicationset.yaml")
	if strings.Contains(automated, "templatePatch") || !strings.Contains(automated, "selfHeal: true") {
		t.Errorf("without environments that people sync:\n%s", automated)
	}
	r.Targets.Manual = []string{"prod"}
	got := file(t, b, r, "applicationset.yaml")
	const golden = "testdata/environments.yaml"
	if *update {
		if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Error(diff)
	}
	b.Namespace = "ai"
	if _, err := b.Files(r); err == nil || !strings.Contains(err.Error(), "leave --namespace out") {
		t.Errorf("a bundle with a namespace gives %v", err)
	}
}

// The set over bundles is filled in from a bundle's record, which is what the git generator reads.
func TestSetOfBundles(t *testing.T) {
	r := record()
	for _, namespace := range []string{"", "ai"} {
		b := bundle(t, samples(t), charts.Options{Name: "shop", Namespace: namespace, Lock: lock()})
		var params map[string]any
		if err := json.Unmarshal([]byte(file(t, b, r, charts.RecordFile)), &params); err != nil {
			t.Fatal(err)
		}
		params["path"] = map[string]any{"path": "deploy/shop", "basename": "shop"}
		text := expand(t, strings.ReplaceAll(file(t, b, r, "applicationset.yaml"), `\"`, `"`), params)
		if namespace == "" {
			namespace = "shop"
		}
		for _, want := range []string{
			`namespace: "` + namespace + `"`, `path: "deploy/shop/configmaps"`, `- "$bundle/deploy/shop/values.yaml"`, `releaseName: "shop"`, "path: charts/comfyrun",
		} {
			if !strings.Contains(text, want) {
				t.Errorf("the set has no %s:\n%s", want, text)
			}
		}
	}
}

// The chart must be in the repository that Argo CD follows.
func TestChartOutside(t *testing.T) {
	r := record()
	r.Targets.Path = "bundle"
	if _, err := bundle(t, samples(t), charts.Options{Name: "shop"}).Files(r); err == nil || !strings.Contains(err.Error(), "outside of the repository") {
		t.Errorf("a chart outside gives %v", err)
	}
}
