//go:build charts || render

package charttest

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// The values of docs/kubernetes.md's way to GPUs, with a bundle's, make workers that compute on the image and the models named there.
func TestGuide(t *testing.T) {
	text, err := os.ReadFile("../../docs/kubernetes.md")
	if err != nil {
		t.Fatal(err)
	}
	step := regexp.MustCompile(`(?s)6\. \*\*Values.*?\n\n(.*?)\n\n7\. `).FindSubmatch(text)
	if step == nil {
		t.Fatal("docs/kubernetes.md has no step 6 with values")
	}
	folder := t.TempDir()
	values, bundled := filepath.Join(folder, "values.yaml"), filepath.Join(folder, "bundle")
	lines := strings.ReplaceAll(string(step[1]), "\n       ", "\n")
	if err := os.WriteFile(values, []byte(strings.ReplaceAll(strings.TrimSpace(lines), "sha256:…", digest("a"))), 0o644); err != nil {
		t.Fatal(err)
	}
	workflow, err := os.ReadFile("../../workflows/default.json")
	if err == nil {
		err = os.WriteFile(filepath.Join(folder, "portrait.json"), workflow, 0o644)
	}
	if err != nil {
		t.Fatal(err)
	}
	if out, err := exec.CommandContext(t.Context(), program(t), "bundle", filepath.Join(folder, "portrait.json"), "--lock", "../../models.lock", "-o", bundled,
		"--with", "helm", "--name", "shop").CombinedOutput(); err != nil {
		t.Fatalf("bundle: %v\n%s", err, out)
	}
	render, err := template(t, helms[0], "ai", "--skip-tests", "-f", chart+"/values-prod.yaml", "-f", values, "-f", bundled+"/values.yaml")
	if err != nil {
		t.Fatal(err)
	}
	conform(t, render)
	for _, want := range []string{"image: \"registry.example.com/ai/comfyrun@" + digest("a"), "- --device=cuda", "nvidia.com/gpu: 1", "- --warmup=/workflows/portrait.json",
		"configMap: {name: shop-portrait-", "configMap: {name: shop-models-", "storageClassName: shared"} {
		if !strings.Contains(render, want) {
			t.Errorf("the render lacks %q", want)
		}
	}
}
