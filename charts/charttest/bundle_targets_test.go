//go:build charts || render

package charttest

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const defined = `{"class_type": "TeamGrey", "inputs": {"size": {"to": ["1.width", "1.height"], "default": 64}}, "outputs": {"image": {"from": ["1", 0]}},
 "workflow": {"1": {"class_type": "EmptyImage", "inputs": {"width": 64, "height": 64, "batch_size": 1, "color": 0}}}}`

// Argo CD's objects of a bundle fit its schemas and find the chart, the ConfigMaps and the values.
func TestBundleOfArgoCD(t *testing.T) {
	comfyrun := program(t)
	top := t.TempDir()
	if err := os.Symlink(absolute(t, ".."), filepath.Join(top, "charts")); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{"--with=argocd,applicationset", "--namespace=ai"}, {"--with=applicationset", "--environment=dev", "--environment=prod=ai", "--manual=prod"}} {
		cmd := exec.CommandContext(t.Context(), comfyrun, append([]string{"bundle", "charts/helmfile/scenes/comfyui-marketing", "-o", "deploy/shop",
			"--repo=https://git.example.com/ai/deploy.git", "--repo-path=deploy/shop"}, args...)...)
		cmd.Dir = top
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		files, err := filepath.Glob(top + "/deploy/shop/application*.yaml")
		if err != nil || len(files) == 0 {
			t.Fatalf("%v, %v", files, err)
		}
		for _, file := range files {
			data := readFile(t, file)
			conform(t, data)
			spec := at(objects(t, data)[0], "spec")
			if template, ok := at(spec, "template", "spec").(object); ok {
				spec = template
			}
			checkSources(t, top, spec)
		}
	}
}

// checkSources looks for what an Application's sources name in a copy of the repository.
func checkSources(t *testing.T, top string, spec any) {
	t.Helper()
	fill := strings.NewReplacer("{{ .path.path }}", "deploy/shop", "{{ .environment }}", "dev", "$bundle", top)
	sources := list(spec, "sources")
	if len(sources) != 3 {
		t.Fatalf("sources are %v", sources)
	}
	chart := filepath.Join(top, text(sources[2], "path"))
	paths := []string{filepath.Join(top, fill.Replace(text(sources[0], "path"))), filepath.Join(chart, "Chart.yaml")}
	for _, value := range list(sources[2], "helm", "valueFiles") {
		name := fill.Replace(value.(string))
		if !filepath.IsAbs(name) {
			name = filepath.Join(chart, name)
		}
		paths = append(paths, name)
	}
	for _, path := range paths {
		if _, err := os.Stat(path); err != nil {
			t.Error(err)
		}
	}
}

// Definitions of nodes are mounted beside the workflows, and everything that reads workflows reads them.
func TestBundleOfNodes(t *testing.T) {
	top := t.TempDir()
	write := func(name, text string) string {
		file := filepath.Join(top, name)
		writeFile(t, file, text)
		return file
	}
	write("grey.node.json", defined)
	workflow := write("grey.json", `{"1": {"class_type": "TeamGrey", "inputs": {"size": 64}}}`)
	folder := bundleScenes(t, program(t), workflow, "--nodes", top, "--with", "helm,kustomize")
	job := "jobs.batch[0].name=night,jobs.batch[0].workflow=grey,jobs.batch[0].shards=2,jobs.batch[0].outputClaim=pictures"
	render := mustTemplate(t, helms[0], "ai", "-f", chart+"/values-prod.yaml", "-f", folder+"/values.yaml", "--set", job, "--set", "model.for={grey}")
	for tool, render := range map[string]string{"helm": render, "kustomize": mustRun(t, "kustomize", "build", overlay(t, folder))} {
		maps, _ := mounted(t, render)
		if !slices.ContainsFunc(maps, func(name string) bool { return strings.HasPrefix(name, "comfyrun-teamgrey-node-") }) {
			t.Errorf("%s mounts %v", tool, maps)
		}
		checkNodes(t, tool, render)
	}
}

// checkNodes wants --nodes wherever a container's arguments name a workflow or the server offers them.
func checkNodes(t *testing.T, tool, render string) {
	t.Helper()
	read := 0
	for _, o := range objects(t, render) {
		for _, c := range containers(podSpec(o)) {
			var args []string
			for _, a := range list(c, "args") {
				args = append(args, a.(string))
			}
			if !strings.Contains(strings.Join(args, " "), "/workflows") {
				continue
			}
			read++
			if !slices.Contains(args, "--nodes=/workflows") {
				t.Errorf("%s: %s/%s, container %s: %v", tool, o["kind"], text(o, "metadata", "name"), text(c, "name"), args)
			}
		}
	}
	if read < 2 {
		t.Errorf("%s: %d containers read workflows", tool, read)
	}
}
