//go:build charts || render

package charttest

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Argo CD's objects fit its schemas, and name values and Deployments that there are.
func TestArgoCD(t *testing.T) {
	for _, file := range []string{"application.yaml", "applicationset.yaml"} {
		data := readFile(t, "../argocd/"+file)
		conform(t, data)
		for _, o := range objects(t, data) {
			source, _ := at(o, "spec", "source").(object)
			if source == nil {
				source, _ = at(o, "spec", "template", "spec", "source").(object)
			}
			if text(source, "path") != "charts/comfyrun" {
				t.Errorf("%s: path %q", file, text(source, "path"))
			}
			for _, ignored := range append(list(o, "spec", "ignoreDifferences"), list(o, "spec", "template", "spec", "ignoreDifferences")...) {
				if text(ignored, "name") != "comfyrun-worker" || text(source, "helm", "releaseName") != "comfyrun" {
					t.Errorf("%s: the worker's replicas are not what is ignored: %v", file, ignored)
				}
			}
			for _, value := range list(source, "helm", "valueFiles") {
				for _, environment := range []string{"dev", "staging", "prod"} {
					name := strings.ReplaceAll(value.(string), "{{ .environment }}", environment)
					if _, err := os.Stat(filepath.Join(chart, name)); err != nil {
						t.Errorf("%s: %v", file, err)
					}
				}
			}
		}
	}
}
