//go:build render

package charttest

import (
	"os"
	"path/filepath"
	"testing"
)

// The alerts are rules of Prometheus, and fire when they should.
func TestRules(t *testing.T) {
	render, err := template(t, helms[0], "ai", "-f", chart+"/values-prod.yaml", "-s", "templates/monitoring.yaml")
	if err != nil {
		t.Fatal(err)
	}
	folder := t.TempDir()
	for _, o := range objects(t, render) {
		if o["kind"] == "PrometheusRule" {
			writeYAML(t, filepath.Join(folder, "rules.yaml"), o["spec"])
		}
	}
	mustRun(t, "promtool", "check", "rules", filepath.Join(folder, "rules.yaml"))
	tests, err := os.ReadFile("testdata/rules_test.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(folder, "test.yaml"), tests, 0o644); err != nil {
		t.Fatal(err)
	}
	mustRun(t, "promtool", "test", "rules", filepath.Join(folder, "test.yaml"))
}
