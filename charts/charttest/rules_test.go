//go:build render

package charttest

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"
)

// The alerts are rules of Prometheus, and fire when they should.
func TestRules(t *testing.T) {
	render := mustTemplate(t, helms[0], "ai", "-f", chart+"/values-prod.yaml", "-s", "templates/monitoring.yaml")
	folder := t.TempDir()
	for _, o := range objects(t, render) {
		if o["kind"] == "PrometheusRule" {
			writeYAML(t, filepath.Join(folder, "rules.yaml"), o["spec"])
		}
	}
	mustRun(t, "promtool", "check", "rules", filepath.Join(folder, "rules.yaml"))
	writeFile(t, filepath.Join(folder, "test.yaml"), readFile(t, "testdata/rules_test.yaml"))
	mustRun(t, "promtool", "test", "rules", filepath.Join(folder, "test.yaml"))
}

// Every query of the dashboard is one of Prometheus.
func TestDashboardQueries(t *testing.T) {
	var rules []object
	values := strings.NewReplacer("$namespace", "ai", "$job", "comfyrun-metrics", "$__rate_interval", "5m")
	for _, p := range readDashboard(t).Panels {
		for i, target := range p.Targets {
			rules = append(rules, object{"record": fmt.Sprintf("panel:%d:%d", p.ID, i), "expr": values.Replace(target.Expr)})
		}
	}
	file := filepath.Join(t.TempDir(), "rules.yaml")
	writeYAML(t, file, object{"groups": []object{{"name": "dashboard", "rules": rules}}})
	if out := mustRun(t, "promtool", "check", "rules", file); !strings.Contains(out, fmt.Sprintf("%d rules found", len(rules))) {
		t.Errorf("%d queries:\n%s", len(rules), out)
	}
}
