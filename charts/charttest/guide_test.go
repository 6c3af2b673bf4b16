//go:build charts || render

package charttest

import (
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// The values of docs/kubernetes.md's way to GPUs, with a bundle's, make workers that compute on the image and the models named there.
func TestGuide(t *testing.T) {
	text := readFile(t, "../../docs/kubernetes.md")
	step := regexp.MustCompile(`(?s)6\. \*\*Values.*?\n\n(.*?)\n\n7\. `).FindStringSubmatch(text)
	if step == nil {
		t.Fatal("docs/kubernetes.md has no step 6 with values")
	}
	folder := t.TempDir()
	values, workflow := filepath.Join(folder, "values.yaml"), filepath.Join(folder, "portrait.json")
	lines := strings.ReplaceAll(step[1], "\n       ", "\n")
	writeFile(t, values, strings.ReplaceAll(strings.TrimSpace(lines), "sha256:…", digest("a")))
	writeFile(t, workflow, readFile(t, "../../workflows/default.json"))
	bundled := bundle(t, program(t), workflow, "--lock", "../../models.lock", "--with", "helm", "--name", "shop")
	render := mustTemplate(t, helms[0], "ai", "--skip-tests", "-f", chart+"/values-prod.yaml", "-f", values, "-f", bundled+"/values.yaml")
	conform(t, render)
	for _, want := range []string{"image: \"registry.example.com/ai/comfyrun@" + digest("a"), "- --device=cuda", "nvidia.com/gpu: 1", "- --warmup=/workflows/portrait.json",
		"configMap: {name: shop-portrait-", "configMap: {name: shop-models-", "storageClassName: shared"} {
		if !strings.Contains(render, want) {
			t.Errorf("the render lacks %q", want)
		}
	}
}
