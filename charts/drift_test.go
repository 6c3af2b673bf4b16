package charts_test

import (
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/comfyrun/comfyrun/charts"
)

// edited is a ConfigMap with a text in its data replaced; name and annotations stay.
func edited(m charts.ConfigMap, old, with string) charts.ConfigMap {
	m.Data = maps.Clone(m.Data)
	for key := range m.Data {
		m.Data[key] = strings.ReplaceAll(m.Data[key], old, with)
	}
	return m
}

func states(found []charts.Finding) (lines []string) {
	for _, f := range found {
		lines = append(lines, f.Subject+" "+string(f.State)+" "+f.Workload)
	}
	return lines
}

func TestDrift(t *testing.T) {
	options := charts.Options{Name: "shop", Lock: lock()}
	b := bundle(t, samples(t), options) // Land_scape.v2, portrait, models.lock
	old := samples(t)
	old[0].Graph = graph(t, 4, "a red house")
	before := bundle(t, old, options).Maps[1]
	stranger := bundle(t, []charts.Source{{Name: "gone", Graph: graph(t, 1, "x")}}, charts.Options{Name: "shop"}).Maps[0]
	mutable := b.Maps[0]
	mutable.Immutable = false
	prefixed := slices.Clone(b.Maps)
	for i := range prefixed {
		prefixed[i].Name = "dev-" + prefixed[i].Name
	}
	deployment := func(maps ...charts.ConfigMap) []charts.Workload {
		w := charts.Workload{Kind: "Deployment", Name: "server"}
		for _, m := range maps {
			w.Maps = append(w.Maps, m.Name)
		}
		return []charts.Workload{w, {Kind: "Deployment", Name: "stranger", Maps: []string{"kube-root-ca.crt"}}}
	}
	land, portrait, pins := b.Maps[0], b.Maps[1], b.Maps[2]
	foreign := bundle(t, []charts.Source{{Name: "x", Graph: graph(t, 1, "x")}}, charts.Options{Name: "shop-eu"}).Maps[0]
	bare := edited(portrait, "red", "blue")
	bare.Labels, bare.Annotations = nil, nil
	for _, tt := range []struct {
		name    string
		cluster charts.Cluster
		want    []string
	}{
		{"installed", charts.Cluster{Maps: b.Maps, Workloads: deployment(b.Maps...)},
			[]string{"Land_scape.v2 same deployment/server", "models.lock same deployment/server", "portrait same deployment/server"}},
		{"applied only", charts.Cluster{Maps: b.Maps}, []string{"Land_scape.v2 same ", "models.lock same ", "portrait same "}},
		{"prefixed by Kustomize", charts.Cluster{Maps: prefixed, Workloads: deployment(prefixed...)},
			[]string{"Land_scape.v2 same deployment/server", "models.lock same deployment/server", "portrait same deployment/server"}},
		{"nothing there", charts.Cluster{Workloads: deployment(land)},
			[]string{"Land_scape.v2 missing deployment/server", "models.lock missing ", "portrait missing "}},
		{"earlier version kept", charts.Cluster{Maps: append(slices.Clone(b.Maps), before), Workloads: deployment(b.Maps...)},
			[]string{"Land_scape.v2 same deployment/server", "models.lock same deployment/server", "portrait kept ", "portrait same deployment/server"}},
		{"rolled back", charts.Cluster{Maps: append(slices.Clone(b.Maps), before), Workloads: deployment(land, before, pins)},
			[]string{"Land_scape.v2 same deployment/server", "models.lock same deployment/server", "portrait other deployment/server", "portrait not mounted "}},
		{"edited by hand", charts.Cluster{Maps: []charts.ConfigMap{land, edited(portrait, "red", "blue"), pins}, Workloads: deployment(b.Maps...)},
			[]string{"Land_scape.v2 same deployment/server", "models.lock same deployment/server", "portrait edited deployment/server"}},
		{"mutable", charts.Cluster{Maps: []charts.ConfigMap{mutable, portrait, pins}, Workloads: deployment(b.Maps...)},
			[]string{"Land_scape.v2 mutable deployment/server", "models.lock same deployment/server", "portrait same deployment/server"}},
		{"one more mounted", charts.Cluster{Maps: append(slices.Clone(b.Maps), stranger), Workloads: deployment(append(slices.Clone(b.Maps), stranger)...)},
			[]string{"Land_scape.v2 same deployment/server", "gone extra deployment/server", "models.lock same deployment/server", "portrait same deployment/server"}},
		{"mounted versions are gone", charts.Cluster{Maps: b.Maps, Workloads: deployment(land, before, charts.ConfigMap{Name: "shop-eu-x-0123456789"}, charts.ConfigMap{Name: "shop-tokens"})},
			[]string{"Land_scape.v2 same deployment/server", "models.lock same ", "portrait not mounted ",
				before.Name + " missing deployment/server", "shop-eu-x-0123456789 missing deployment/server"}},
		{"another bundle's", charts.Cluster{Maps: append(slices.Clone(b.Maps), foreign), Workloads: deployment(land, portrait, pins, foreign)},
			[]string{"Land_scape.v2 same deployment/server", "models.lock same deployment/server", "portrait same deployment/server"}},
		{"made by hand, without labels", charts.Cluster{Maps: []charts.ConfigMap{land, bare, pins}, Workloads: deployment(b.Maps...)},
			[]string{"Land_scape.v2 same deployment/server", "models.lock same deployment/server", "portrait edited deployment/server"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := states(charts.Drift(b, tt.cluster))
			slices.Sort(got)
			slices.Sort(tt.want)
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestDriftNamesTheLine(t *testing.T) {
	b := bundle(t, samples(t), charts.Options{Name: "shop"})
	found := charts.Drift(b, charts.Cluster{Maps: []charts.ConfigMap{b.Maps[0], edited(b.Maps[1], `"seed": 5`, `"seed": 77`)}})
	want := `portrait.json line 6: "seed": 77 instead of "seed": 5`
	if got := found[1].Detail; got != want || !found[1].Drifted() || found[0].Drifted() {
		t.Errorf("detail is %q, want %q", got, want)
	}
}

func TestClusterReadsLists(t *testing.T) {
	const text = `{"items": [
		{"kind": "ConfigMap", "metadata": {"name": "a", "namespace": "n", "labels": {"l": "1"}}, "immutable": true, "data": {"k": "v"}, "binaryData": {"b": "AA=="}},
		{"kind": "Deployment", "metadata": {"name": "d"}, "spec": {"template": {"spec": {"volumes": [
			{"name": "x", "emptyDir": {}}, {"name": "y", "configMap": {"name": "b"}},
			{"name": "z", "projected": {"sources": [{"configMap": {"name": "a"}}, {"secret": {"name": "s"}}, {"configMap": {"name": "a"}}]}}]}}}},
		{"kind": "StatefulSet", "metadata": {"name": "nothing"}, "spec": {"template": {"spec": {}}}}]}`
	var got charts.Cluster
	if err := got.Add([]byte(text)); err != nil {
		t.Fatal(err)
	}
	want := charts.Cluster{
		Maps: []charts.ConfigMap{{Name: "a", Namespace: "n", Labels: map[string]string{"l": "1"}, Immutable: true,
			Data: map[string]string{"k": "v", "b": "base64:AA=="}}},
		Workloads: []charts.Workload{{Kind: "Deployment", Name: "d", Maps: []string{"a", "b"}}},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	var one charts.Cluster
	if err := one.Add([]byte(`{"kind": "ConfigMap", "metadata": {"name": "a"}}`)); err != nil || one.Add([]byte("\n")) != nil || len(one.Maps) != 1 {
		t.Errorf("one object gives %v, %v", one, err)
	}
	b := &charts.Bundle{Maps: []charts.ConfigMap{{Name: "a"}, {Name: "b"}}}
	if absent := one.Absent(b); len(absent) != 1 || absent[0] != "b" {
		t.Errorf("absent are %v", absent)
	}
	for _, wrong := range []string{"[]", `{"items": [3]}`, `{"items": [{"kind": "ConfigMap", "data": 3}]}`} {
		if err := new(charts.Cluster).Add([]byte(wrong)); err == nil {
			t.Errorf("list %q is taken", wrong)
		}
	}
	if _, err := json.Marshal(charts.Drift(&charts.Bundle{}, got)); err != nil {
		t.Error(err)
	}
}
