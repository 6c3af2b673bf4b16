//go:build charts || render || cluster

package charttest

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	yaml "go.yaml.in/yaml/v2"
)

// pipeline is charts/ci/gitlab-ci.yml in a folder of its own, with a copy of the chart, as a job's checkout has it.
type pipeline struct {
	folder    string
	variables map[string]string
	stages    []string
	jobs      map[string]pipelineJob
}

type pipelineJob struct {
	Stage, When string
	Script      []string
	Artifacts   struct{ Paths []string }
}

// digest is an image of the pipeline, a letter over and over.
func digest(letter string) string { return "sha256:" + strings.Repeat(letter, 64) }

func newPipeline(t *testing.T) *pipeline {
	t.Helper()
	text, err := os.ReadFile("../ci/gitlab-ci.yml")
	if err != nil {
		t.Fatal(err)
	}
	var file struct {
		Stages    []string
		Variables map[string]string
		Jobs      map[string]pipelineJob `yaml:",inline"`
	}
	if err := yaml.UnmarshalStrict(text, &file); err != nil && !strings.Contains(err.Error(), "not found in type") {
		t.Fatal(err)
	}
	p := &pipeline{folder: t.TempDir(), variables: file.Variables, stages: file.Stages, jobs: file.Jobs}
	if err := os.CopyFS(filepath.Join(p.folder, "charts/comfyrun"), os.DirFS(chart)); err != nil {
		t.Fatal(err)
	}
	return p
}

// programs makes a folder with the tools by the names that the pipeline has for them.
func programs(t *testing.T, helm string) string {
	t.Helper()
	folder := t.TempDir()
	for name, tool := range map[string]string{"helm": helm, "helm-unittest": "helm-unittest", "kubeconform": "kubeconform", "kubectl": "kubectl"} {
		path, err := filepath.Abs(filepath.Join(tools, tool))
		if err == nil {
			err = os.Symlink(path, filepath.Join(folder, name))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return folder
}

// run runs a job line by line, as GitLab does, and returns the line that failed and what was printed.
func (p *pipeline) run(t *testing.T, helm, name string, more map[string]string) (failed, log string) {
	t.Helper()
	job, ok := p.jobs[name]
	if !ok || len(job.Script) == 0 || !slices.Contains(p.stages, job.Stage) {
		t.Fatalf("the pipeline has no job %s", name)
	}
	schemas, err := filepath.Abs("../../.cache/schemas")
	if err != nil {
		t.Fatal(err)
	}
	env := append(os.Environ(), "PATH="+programs(t, helm)+":"+os.Getenv("PATH"))
	for _, given := range []map[string]string{p.variables, {"SCHEMAS": schemas}, more} {
		for key, value := range given {
			env = append(env, key+"="+value)
		}
	}
	for _, line := range job.Script {
		cmd := exec.CommandContext(t.Context(), "bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", line)
		cmd.Dir, cmd.Env = p.folder, env
		out, err := cmd.CombinedOutput()
		log += fmt.Sprintf("$ %s\n%s", line, out)
		if err != nil {
			return line, log
		}
	}
	for _, path := range job.Artifacts.Paths {
		if _, err := os.Stat(filepath.Join(p.folder, path)); err != nil {
			t.Errorf("job %s keeps %s: %v", name, path, err)
		}
	}
	return "", log
}

func (p *pipeline) mustRun(t *testing.T, helm, name string, more map[string]string) string {
	t.Helper()
	failed, log := p.run(t, helm, name, more)
	if failed != "" {
		t.Fatalf("job %s fails at %s\n%s", name, failed, log)
	}
	return log
}

// replace changes a file of the pipeline's chart.
func (p *pipeline) replace(t *testing.T, file, old, new string) {
	t.Helper()
	path := filepath.Join(p.folder, "charts/comfyrun", file)
	text, err := os.ReadFile(path)
	if err != nil || !strings.Contains(string(text), old) {
		t.Fatalf("%s has no %q: %v", file, old, err)
	}
	if err := os.WriteFile(path, []byte(strings.Replace(string(text), old, new, 1)), 0o644); err != nil {
		t.Fatal(err)
	}
}

// The example's jobs that need no cluster pass for the chart as it is, and fail where they should when it is broken.
func TestPipeline(t *testing.T) {
	image := map[string]string{"IMAGE_DIGEST": digest("a")}
	for _, helm := range helms {
		p := newPipeline(t)
		for _, job := range []string{"lint", "render", "validate"} {
			p.mustRun(t, helm, job, image)
		}
		text, err := os.ReadFile(filepath.Join(p.folder, "rendered/prod.yaml"))
		if err != nil || !strings.Contains(string(text), "comfyrun@"+digest("a")) || strings.Contains(string(text), "helm.sh/hook") {
			t.Errorf("%s: rendered/prod.yaml lacks the digest or has tests: %v", helm, err)
		}
	}
	for name, broken := range map[string]struct{ file, old, new, job, digest string }{
		"value":    {"values-staging.yaml", "enabled: true", "enable: true", "lint", digest("a")},
		"tag":      {"values-prod.yaml", "server:\n", "image: {tag: latest}\nserver:\n", "render", digest("a")}, // lint tells, and passes
		"template": {"templates/_pod.tpl", "enableServiceLinks:", "enableServicesLinks:", "validate", digest("a")},
		"meaning":  {"templates/server.yaml", "- --no-worker", "- --worker", "lint", digest("a")},
		"no image": {"values-prod.yaml", "queue:", "queue:", "render", ""},
	} {
		t.Run(name, func(t *testing.T) {
			p := newPipeline(t)
			p.replace(t, broken.file, broken.old, broken.new)
			for _, job := range []string{"lint", "render", "validate"} {
				failed, log := p.run(t, helms[0], job, map[string]string{"IMAGE_DIGEST": broken.digest})
				if (failed != "") != (job == broken.job) {
					t.Errorf("job %s: failed line %q, want that %s fails\n%s", job, failed, broken.job, log)
				}
				if failed != "" {
					return
				}
			}
		})
	}
}

// Production is changed and taken back by hand only, after everything else.
func TestPipelineAsksForProduction(t *testing.T) {
	p := newPipeline(t)
	want := []string{"lint", "render", "validate", "dry-run", "staging", "production"}
	if !slices.Equal(p.stages, want) {
		t.Errorf("stages %v, want %v", p.stages, want)
	}
	for name, job := range p.jobs {
		if (job.When == "manual") != (job.Stage == "production") {
			t.Errorf("job %s of stage %s is run %q", name, job.Stage, job.When)
		}
	}
}
