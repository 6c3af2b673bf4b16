package charts_test

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/comfyrun/comfyrun/charts"
	"github.com/comfyrun/comfyrun/engine/models"
	"github.com/comfyrun/comfyrun/workflows"
)

var update = flag.Bool("update", false, "write golden files")

// graph is a workflow of two nodes with a seed and a text.
func graph(t testing.TB, seed int, text string) *workflows.Graph {
	t.Helper()
	g, err := workflows.Parse(fmt.Appendf(nil, `{"6":{"class_type":"CLIPTextEncode","inputs":{"text":%q,"clip":["4",1]},"_meta":{"title":"prompt: What to draw"}},
		"3":{"class_type":"KSampler","inputs":{"seed":%d,"cfg":7.0,"positive":["6",0]}},
		"4":{"class_type":"CheckpointLoaderSimple","inputs":{"ckpt_name":"base.safetensors"}}}`, text, seed))
	if err != nil {
		t.Fatal(err)
	}
	return g
}

func lock() *models.Lock {
	entry := func(name, digit string) models.Entry {
		return models.Entry{
			Name: name, Size: 10, SHA256: strings.Repeat(digit, 64), License: "MIT",
			Sources: []string{"s3://models/" + name},
		}
	}
	return &models.Lock{Models: []models.Entry{entry("checkpoints/base.safetensors", "a"), entry("vae/other.safetensors", "b")}}
}

func samples(t testing.TB) []charts.Source {
	return []charts.Source{
		{Name: "portrait", Graph: graph(t, 5, "a red house"), Sidecar: []byte("title = \"Portrait\"\r\n"), Models: []string{"checkpoints/base.safetensors"}},
		{Name: "Land_scape.v2", Graph: graph(t, 6, "hills\nand\u2028more"), Models: []string{"checkpoints/base.safetensors"}},
	}
}

func bundle(t testing.TB, sources []charts.Source, o charts.Options) *charts.Bundle {
	t.Helper()
	b, err := charts.New(sources, o)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func record() charts.Record {
	return charts.Record{
		Sources: []string{"../workflows"}, Lock: "../models.lock", Labels: map[string]string{"team": "marketing"},
		Targets: charts.Targets{With: charts.TargetNames(), Chart: "../../charts/comfyrun", Repo: "https://git.example.com/ai/deploy.git", Path: "deploy/bundle", Revision: "main"},
	}
}

func TestGolden(t *testing.T) {
	options := charts.Options{Name: "shop", Namespace: "ai", Labels: map[string]string{"team": "marketing"}, Lock: lock()}
	files, err := bundle(t, samples(t), options).Files(record())
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, f := range files {
		golden := filepath.Join("testdata", "bundle", filepath.FromSlash(f.Path))
		names = append(names, golden)
		if *update {
			if err := os.MkdirAll(filepath.Dir(golden), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(golden, f.Data, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(golden)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(string(want), string(f.Data)); diff != "" {
			t.Errorf("%s:\n%s", f.Path, diff)
		}
	}
	top, err := filepath.Glob("testdata/bundle/*.*")
	maps, err2 := filepath.Glob("testdata/bundle/configmaps/*")
	if there := append(top, maps...); err != nil || err2 != nil || len(there) != len(names) {
		t.Errorf("golden files are %v, written were %v", there, names)
	}
}

// The order of sources, and of what maps are iterated in, leaves no trace.
func TestSameBytes(t *testing.T) {
	many := many(t, 50)
	options := charts.Options{Name: "shop", Lock: lock()}
	want := bundle(t, many, options).Manifest()
	random := rand.New(rand.NewPCG(1, 2))
	for range 5 {
		random.Shuffle(len(many), func(i, j int) { many[i], many[j] = many[j], many[i] })
		if !bytes.Equal(bundle(t, many, options).Manifest(), want) {
			t.Fatal("the same workflows in another order give other bytes")
		}
	}
}

func many(t testing.TB, n int) (sources []charts.Source) {
	for i := range n {
		sources = append(sources, charts.Source{Name: fmt.Sprintf("w%03d", i), Graph: graph(t, i, "a house"), Models: []string{"checkpoints/base.safetensors"}})
	}
	return sources
}

func mapNames(b *charts.Bundle) (names []string) {
	for _, m := range b.Maps {
		names = append(names, m.Name)
	}
	return names
}

func TestOneLiteralOneName(t *testing.T) {
	sources := many(t, 30)
	options := charts.Options{Name: "shop", Lock: lock()}
	before := mapNames(bundle(t, sources, options))
	for i, change := range []func(*charts.Source){
		func(s *charts.Source) { s.Graph.Node("3").Inputs.Set("seed", value(t, "99999")) },
		func(s *charts.Source) { s.Graph.Node("6").Inputs.Set("text", value(t, `"another house"`)) },
		func(s *charts.Source) { s.Graph.Node("6").Title = "prompt: Else" },
		func(s *charts.Source) { s.Sidecar = []byte("title = \"W\"\n") },
	} {
		changed := slices.Clone(sources)
		changed[i].Graph = changed[i].Graph.Clone()
		change(&changed[i])
		after := mapNames(bundle(t, changed, options))
		for k := range before {
			if (before[k] != after[k]) != (k == i) {
				t.Errorf("change %d: name %d was %s and is %s", i, k, before[k], after[k])
			}
		}
	}
	options.Lock.Models[0].SHA256 = strings.Repeat("c", 64)
	after := mapNames(bundle(t, sources, options))
	if !slices.Equal(after[:30], before[:30]) || after[30] == before[30] {
		t.Error("another pin must change the name of the lock, and no other")
	}
}

func value(t *testing.T, text string) workflows.Value {
	t.Helper()
	v, err := workflows.ParseValue([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func TestMistakes(t *testing.T) {
	ok := samples(t)[0]
	for _, tt := range []struct {
		name, want string
		sources    []charts.Source
		options    charts.Options
	}{
		{"bundle name", `name of bundle "Shop"`, nil, charts.Options{Name: "Shop"}},
		{"workflow name", `workflow "-x": a workflow's name`, []charts.Source{{Name: "-x", Graph: ok.Graph}}, charts.Options{Name: "x"}},
		{"lock's name", `the name is taken`, []charts.Source{{Name: "models.lock", Graph: ok.Graph}}, charts.Options{Name: "x"}},
		{"twice", `workflow "portrait": two workflows`, []charts.Source{ok, ok}, charts.Options{Name: "x"}},
		{"sidecar", `portrait.params.toml is not UTF-8`, []charts.Source{{Name: "portrait", Graph: ok.Graph, Sidecar: []byte{0xff}}}, charts.Options{Name: "x"}},
		{"unpinned", `the lock does not pin "checkpoints/base.safetensors"`, []charts.Source{ok}, charts.Options{Name: "x", Lock: &models.Lock{}}},
	} {
		_, err := charts.New(tt.sources, tt.options)
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v, want %q", tt.name, err, tt.want)
		}
		if got := errors.Is(err, models.ErrMissing); got != (tt.name == "unpinned") {
			t.Errorf("%s: is ErrMissing: %v", tt.name, got)
		}
	}
}

func TestTargetMistakes(t *testing.T) {
	for _, tt := range []struct {
		targets charts.Targets
		ok      bool
	}{
		{charts.Targets{}, true},
		{charts.Targets{With: []string{"helm"}}, true},
		{charts.Targets{With: []string{"pulumi"}}, false},
		{charts.Targets{With: []string{"argocd"}}, false},
		{charts.Targets{With: []string{"argocd"}, Repo: "r", Path: "p"}, true},
		{charts.Targets{With: []string{"argocd"}, Repo: "r", Path: "p", Chart: "oci://host/chart"}, false},
		{charts.Targets{With: []string{"helmfile"}, Chart: "oci://host/chart"}, true},
		{charts.Targets{With: []string{"argocd"}, Repo: "r", Path: "../p"}, false},
		{charts.Targets{With: []string{"argocd"}, Repo: "r", Path: "/p"}, false},
		{charts.Targets{With: []string{"argocd"}, Repo: "r", Path: "."}, true},
		{charts.Targets{With: []string{"applicationset"}, Repo: "r", Path: "."}, false}, // no folder around it
		{charts.Targets{With: []string{"applicationset"}, Repo: "r", Path: ".", Environments: []string{"dev"}}, true},
		{charts.Targets{With: []string{"argocd"}, Repo: "r", Path: "p", Environments: []string{"dev"}}, false},
		{charts.Targets{With: []string{"applicationset"}, Repo: "r", Path: "p", Environments: []string{"Dev"}}, false},
		{charts.Targets{With: []string{"applicationset"}, Repo: "r", Path: "p", Environments: []string{"dev="}}, false},
		{charts.Targets{With: []string{"applicationset"}, Repo: "r", Path: "p", Environments: []string{"dev", "dev=x"}}, false},
		{charts.Targets{With: []string{"applicationset"}, Repo: "r", Path: "p", Environments: []string{"dev"}, Manual: []string{"prod"}}, false},
	} {
		if err := tt.targets.Check(); (err == nil) != tt.ok {
			t.Errorf("%+v: %v", tt.targets, err)
		}
	}
}

func TestReadBundle(t *testing.T) {
	want := bundle(t, samples(t), charts.Options{Name: "shop", Namespace: "ai", Lock: lock()})
	list, err := want.Files(record())
	if err != nil {
		t.Fatal(err)
	}
	files := map[string][]byte{}
	for _, f := range list {
		files[f.Path] = f.Data
	}
	got, err := charts.ReadBundle(files[charts.RecordFile], files)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	files["configmaps/portrait.yaml"] = bytes.Replace(files["configmaps/portrait.yaml"], []byte("a red house"), []byte("a blue house"), 1)
	if _, err := charts.ReadBundle(files[charts.RecordFile], files); err == nil || !strings.Contains(err.Error(), "portrait.yaml does not hold") {
		t.Errorf("an edited manifest gives %v", err)
	}
	for _, text := range []string{`{`, `{"version": 1} {`, `{"version": 2}`, `{"version": 1, "unknown": 1}`} {
		if _, err := charts.ParseRecord([]byte(text)); err == nil {
			t.Errorf("record %s is taken", text)
		}
	}
}

func BenchmarkBundle200(b *testing.B) {
	sources := many(b, 200)
	for b.Loop() {
		bundle(b, sources, charts.Options{Name: "shop", Lock: lock()}).Manifest()
	}
}
