//go:build charts || render || cluster || keda

package charttest

import (
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// program builds comfyrun, in a place where the next test finds it built.
func program(t *testing.T) string {
	t.Helper()
	file := absolute(t, "../../.cache/charttest/comfyrun")
	if out, err := exec.CommandContext(t.Context(), "go", "build", "-o", file, "../../cmd/comfyrun").CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	return file
}

// bundle makes a bundle with further arguments of comfyrun bundle, and returns its folder.
func bundle(t *testing.T, comfyrun string, args ...string) string {
	t.Helper()
	folder := t.TempDir()
	args = append([]string{"bundle", "-o", folder}, args...)
	if out, err := exec.CommandContext(t.Context(), comfyrun, args...).CombinedOutput(); err != nil {
		t.Fatalf("comfyrun %v: %v\n%s", args, err, out)
	}
	return folder
}

// bundleScenes makes a bundle of the two scenes' workflows and the project's lock.
func bundleScenes(t *testing.T, comfyrun string, args ...string) string {
	t.Helper()
	scenes := []string{"../helmfile/scenes/comfyui-marketing", "../helmfile/scenes/comfyui-product/packshot.json", "--lock", "../../models.lock"}
	return bundle(t, comfyrun, append(scenes, args...)...)
}

// mounted returns the ConfigMaps of the volumes workflows and lock of the Deployment comfyrun.
func mounted(t *testing.T, render string) (workflows []string, lock string) {
	t.Helper()
	for _, o := range objects(t, render) {
		if o["kind"] != "Deployment" || text(o, "metadata", "name") != "comfyrun" {
			continue
		}
		for _, v := range list(podSpec(o), "volumes") {
			switch text(v, "name") {
			case "workflows":
				for _, source := range list(v, "projected", "sources") {
					workflows = append(workflows, text(source, "configMap", "name"))
				}
			case "lock":
				lock = text(v, "configMap", "name")
			}
		}
	}
	slices.Sort(workflows)
	return workflows, lock
}

// A bundle's values and its component mount the bundle's ConfigMaps, and nothing else.
func TestBundle(t *testing.T) {
	folder := bundleScenes(t, program(t), "--with", "helm,kustomize")
	var workflows []string
	var lock string
	files, err := filepath.Glob(folder + "/configmaps/*.yaml")
	if err != nil || len(files) != 3 {
		t.Fatalf("the bundle has %v, %v", files, err)
	}
	for _, file := range files {
		data := readFile(t, file)
		conform(t, data)
		name := text(objects(t, data)[0], "metadata", "name")
		if strings.Contains(file, "models.lock") {
			lock = name
		} else {
			workflows = append(workflows, name)
		}
	}
	slices.Sort(workflows)
	check := func(tool, render string) {
		if w, l := mounted(t, render); !slices.Equal(w, workflows) || l != lock {
			t.Errorf("%s mounts %v and %q, want %v and %q", tool, w, l, workflows, lock)
		}
	}
	for _, helm := range helms {
		render := mustTemplate(t, helm, "ai", "-f", chart+"/values-test.yaml", "-f", folder+"/values.yaml", "--set", "model.source=huggingface")
		conform(t, render)
		check(helm, render)
	}
	check("kustomize", mustRun(t, "kustomize", "build", overlay(t, folder)))
}

// overlay makes a kustomization of the production overlay with a bundle's component.
func overlay(t *testing.T, component string) string {
	t.Helper()
	folder := t.TempDir()
	relative := func(target string) string {
		path, err := filepath.Rel(folder, absolute(t, target))
		if err != nil {
			t.Fatal(err)
		}
		return path
	}
	writeYAML(t, filepath.Join(folder, "kustomization.yaml"), object{
		"resources": []string{relative("../kustomize/overlays/prod")}, "components": []string{relative(component)}})
	return folder
}
