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

// pipeline is an example of charts/ci in a folder of its own, with a copy of the chart, as a job's checkout has it.
type pipeline struct {
	folder    string
	variables map[string]string
	jobs      map[string]pipelineJob
}

type pipelineJob struct {
	script []string
	keeps  []string
	manual bool   // a person lets it run
	after  string // the job or stage before
}

// pipelines are the examples: the same jobs for two systems.
var pipelines = map[string]func(*testing.T) *pipeline{"gitlab-ci.yml": gitlabPipeline, "github-actions.yml": githubPipeline}

// digest is an image of the pipeline, a letter over and over.
func digest(letter string) string { return "sha256:" + strings.Repeat(letter, 64) }

func readPipeline(t *testing.T, name string, into any) *pipeline {
	t.Helper()
	text, err := os.ReadFile("../ci/" + name)
	if err == nil {
		err = yaml.Unmarshal(text, into)
	}
	p := &pipeline{folder: t.TempDir(), jobs: map[string]pipelineJob{}}
	if err == nil {
		err = os.CopyFS(filepath.Join(p.folder, "charts/comfyrun"), os.DirFS(chart))
	}
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func gitlabPipeline(t *testing.T) *pipeline {
	t.Helper()
	var file struct {
		Stages    []string
		Variables map[string]string
		Jobs      map[string]struct {
			Stage, When string
			Script      []string
			Artifacts   struct{ Paths []string }
		} `yaml:",inline"`
	}
	p := readPipeline(t, "gitlab-ci.yml", &file)
	p.variables = file.Variables
	for name, job := range file.Jobs {
		j := pipelineJob{script: job.Script, keeps: job.Artifacts.Paths, manual: job.When == "manual"}
		if i := slices.Index(file.Stages, job.Stage); i > 0 && name != "rollback" {
			j.after = file.Stages[i-1]
		}
		p.jobs[name] = j
	}
	return p
}

func githubPipeline(t *testing.T) *pipeline {
	t.Helper()
	var file struct {
		Env  map[string]string
		Jobs map[string]struct {
			Needs, Environment string
			Steps              []struct {
				Run, Uses string
				With      map[string]string
			}
		}
	}
	p := readPipeline(t, "github-actions.yml", &file)
	if p.variables = file.Env; p.variables["IMAGE_DIGEST"] != "${{ vars.IMAGE_DIGEST }}" {
		t.Errorf("IMAGE_DIGEST is %s", p.variables["IMAGE_DIGEST"])
	}
	for name, job := range file.Jobs {
		j := pipelineJob{after: job.Needs, manual: job.Environment == "production"}
		for _, step := range job.Steps {
			if strings.Contains(step.Run, "${{") {
				t.Errorf("%s has an expression in a script: %s", name, step.Run)
			}
			if step.Run != "" {
				j.script = append(j.script, step.Run)
			}
			if strings.HasPrefix(step.Uses, "actions/upload-artifact@") {
				j.keeps = append(j.keeps, step.With["path"])
			}
		}
		p.jobs[name] = j
	}
	return p
}

// programs makes a folder with the tools by the names that the pipeline has for them.
func programs(t *testing.T, helm string) string {
	t.Helper()
	folder := t.TempDir()
	for name, tool := range map[string]string{"helm": helm, "helm-unittest": "helm-unittest", "kubeconform": "kubeconform", "kubectl": "kubectl"} {
		if err := os.Symlink(absolute(t, tools+"/"+tool), filepath.Join(folder, name)); err != nil {
			t.Fatal(err)
		}
	}
	return folder
}

// run runs a job command by command, as the CI system does, and returns the line that failed and what was printed.
func (p *pipeline) run(t *testing.T, helm, name string, more map[string]string) (failed, log string) {
	t.Helper()
	job, ok := p.jobs[name]
	if !ok || len(job.script) == 0 {
		t.Fatalf("the pipeline has no job %s", name)
	}
	schemas := absolute(t, "../../.cache/schemas")
	env := append(os.Environ(), "PATH="+programs(t, helm)+":"+os.Getenv("PATH"))
	for _, given := range []map[string]string{p.variables, {"SCHEMAS": schemas}, more} {
		for key, value := range given {
			env = append(env, key+"="+value)
		}
	}
	for _, line := range job.script {
		cmd := exec.CommandContext(t.Context(), "bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", line)
		cmd.Dir, cmd.Env = p.folder, env
		out, err := cmd.CombinedOutput()
		log += fmt.Sprintf("$ %s\n%s", line, out)
		if err != nil {
			return line, log
		}
	}
	for _, path := range job.keeps {
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
	text := readFile(t, path)
	if !strings.Contains(text, old) {
		t.Fatalf("%s has no %q", file, old)
	}
	writeFile(t, path, strings.Replace(text, old, new, 1))
}

// The examples' jobs that need no cluster pass for the chart as it is, and fail where they should when it is broken.
func TestPipelines(t *testing.T) {
	for name, open := range pipelines {
		for _, helm := range helms {
			p := open(t)
			for _, job := range []string{"lint", "render", "validate"} {
				p.mustRun(t, helm, job, map[string]string{"IMAGE_DIGEST": digest("a")})
			}
			text := readFile(t, filepath.Join(p.folder, "rendered/prod.yaml"))
			if !strings.Contains(text, "comfyrun@"+digest("a")) || strings.Contains(text, "helm.sh/hook") {
				t.Errorf("%s, %s: rendered/prod.yaml lacks the digest or has tests", name, helm)
			}
		}
		for _, b := range broken {
			t.Run(name+"/"+b.name, func(t *testing.T) { b.check(t, open(t)) })
		}
	}
}

// breakage is a change of the chart, and the first job that fails by it.
type breakage struct{ name, file, old, new, job, digest string }

var broken = []breakage{
	{"value", "values-staging.yaml", "enabled: true", "enable: true", "lint", digest("a")},
	{"tag", "values-prod.yaml", "server:\n", "image: {tag: latest}\nserver:\n", "render", digest("a")}, // lint tells, and passes
	{"template", "templates/_pod.tpl", "enableServiceLinks:", "enableServicesLinks:", "validate", digest("a")},
	{"meaning", "templates/server.yaml", "- --no-worker", "- --worker", "lint", digest("a")},
	{"no image", "values-prod.yaml", "queue:", "queue:", "render", ""},
}

func (b breakage) check(t *testing.T, p *pipeline) {
	t.Helper()
	p.replace(t, b.file, b.old, b.new)
	for _, job := range []string{"lint", "render", "validate"} {
		failed, log := p.run(t, helms[0], job, map[string]string{"IMAGE_DIGEST": b.digest})
		if (failed != "") != (job == b.job) {
			t.Errorf("job %s: failed command %q, want that %s fails\n%s", job, failed, b.job, log)
		}
		if failed != "" {
			return
		}
	}
}

// Production is changed and taken back only when a person says so, and changed only after everything else.
func TestPipelinesAskForProduction(t *testing.T) {
	for name, open := range pipelines {
		p := open(t)
		after := ""
		for _, job := range []string{"lint", "render", "validate", "dry-run", "staging", "production"} {
			if p.jobs[job].after != after {
				t.Errorf("%s: %s comes after %q, want %q", name, job, p.jobs[job].after, after)
			}
			after = job
		}
		for job, j := range p.jobs {
			if j.manual != (job == "production" || job == "rollback") {
				t.Errorf("%s: job %s waits for a person: %v", name, job, j.manual)
			}
		}
		if len(p.jobs) != 7 {
			t.Errorf("%s has %d jobs, want 7", name, len(p.jobs))
		}
	}
}
