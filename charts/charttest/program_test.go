//go:build charts || render

package charttest

import (
	"encoding/json"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// Every argument of every container is a flag that the program has.
func TestArgumentsExist(t *testing.T) {
	program := program(t)
	help := map[string]string{}
	for _, file := range valuesFiles(t) {
		render := mustTemplate(t, helms[0], "ai", "-f", file)
		for _, o := range objects(t, render) {
			for _, c := range containers(podSpec(o)) {
				if text(c, "name") != "wget" {
					checkArguments(t, program, help, filepath.Base(file), list(c, "args"))
				}
			}
		}
	}
	if len(help) != 5 {
		t.Errorf("checked the commands %v, want serve, worker, exec, models fetch, check", help)
	}
}

func checkArguments(t *testing.T, program string, help map[string]string, file string, args []any) {
	t.Helper()
	var words []string
	for _, a := range args {
		if s := a.(string); !strings.HasPrefix(s, "-") && !strings.HasPrefix(s, "/") {
			words = append(words, s)
		}
	}
	command := strings.Join(words, " ")
	if help[command] == "" {
		out, err := exec.CommandContext(t.Context(), program, append(words, "--help")...).CombinedOutput()
		if err != nil {
			t.Fatalf("%s: comfyrun %s --help: %v\n%s", file, command, err, out)
		}
		help[command] = string(out)
	}
	for _, a := range args {
		name, isFlag := strings.CutPrefix(a.(string), "--")
		name, _, _ = strings.Cut(name, "=")
		if isFlag && !regexp.MustCompile(`(?m)^ +(-\w, )?--`+name+` `).MatchString(help[command]) {
			t.Errorf("%s: comfyrun %s has no flag --%s", file, command, name)
		}
	}
}

// The program's own models.lock and workflow are those that the values and the chart carry.
func TestChartFiles(t *testing.T) {
	for copied, origin := range map[string]string{
		chart + "/workflows/default.json":          "../../workflows/default.json",
		"../kustomize/base/default.json":           "../../workflows/default.json",
		"../kustomize/overlays/prod/comfyrun.json": chart + "/files/dashboard.json",
	} {
		if readFile(t, copied) != readFile(t, origin) {
			t.Errorf("%s is not %s: copy it", copied, origin)
		}
	}
}

type dashboard struct {
	Panels []struct {
		ID      int
		Title   string
		GridPos struct{ X, Y, W, H int }
		Targets []struct{ Expr string }
	}
}

func readDashboard(t *testing.T) (d dashboard) {
	t.Helper()
	err := json.Unmarshal([]byte(readFile(t, chart+"/files/dashboard.json")), &d)
	if err != nil || len(d.Panels) == 0 {
		t.Fatalf("the dashboard has %d panels: %v", len(d.Panels), err)
	}
	return d
}

// The dashboard's panels have numbers of their own, queries, and places that no other has.
func TestDashboard(t *testing.T) {
	ids, places := map[int]bool{}, map[[2]int]string{}
	for _, p := range readDashboard(t).Panels {
		if ids[p.ID] || p.Title == "" || len(p.Targets) == 0 {
			t.Errorf("panel %d %q has %d queries, or a number twice", p.ID, p.Title, len(p.Targets))
		}
		ids[p.ID] = true
		for i := range p.GridPos.W * p.GridPos.H {
			place := [2]int{p.GridPos.X + i%p.GridPos.W, p.GridPos.Y + i/p.GridPos.W}
			if places[place] != "" || place[0] >= 24 {
				t.Errorf("panels %q and %q are both at %v, or outside", p.Title, places[place], place)
			}
			places[place] = p.Title
		}
	}
}

var metricName = regexp.MustCompile(`\b(comfyrun|process)_[a-z_]+`)

// Rules and dashboard ask for figures that there are.
func TestMetricsExist(t *testing.T) {
	doc := readFile(t, "../../docs/metrics.md")
	known := []string{"process_resident_memory_bytes"}
	for _, row := range regexp.MustCompile("(?m)^\\| `(comfyrun_[a-z_]+)` \\| (\\w+)").FindAllStringSubmatch(doc, -1) {
		if known = append(known, row[1]); row[2] == "histogram" {
			known = append(known, row[1]+"_bucket", row[1]+"_sum", row[1]+"_count")
		}
	}
	for _, file := range []string{chart + "/files/dashboard.json", chart + "/templates/monitoring.yaml", chart + "/templates/autoscaling.yaml", chart + "/templates/tests/ready.yaml"} {
		data := readFile(t, file)
		names := metricName.FindAllString(data, -1)
		if len(names) == 0 && !strings.Contains(file, "dashboard") {
			t.Errorf("%s names no figure", file)
		}
		for _, name := range names {
			if !slices.Contains(known, name) {
				t.Errorf("%s: docs/metrics.md has no %s", file, name)
			}
		}
	}
}
