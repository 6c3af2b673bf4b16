package main

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v2"
)

const ciExamples = "../../examples/ci/"

// ciResult is how a job of a CI system ended: the command that failed, if one did, and what all of them printed.
type ciResult struct{ failed, log string }

// ciChange is a pull request, and what jobs make of it: how each log goes, and whether the job fails.
type ciChange struct {
	name, old, new string // a replacement in a.json
	lint           string // what the failing command of the job has; "" for a job that passes
	pictures       string
	logs           map[string]string
}

var ciChanges = []ciChange{
	{"close", `"cfg": 5.0`, `"cfg": 5.0001`, "", "", map[string]string{
		"pictures": `(?s)passed +workflows/a.json: because of a.json.*untouched +workflows/b.json`, "words": `KSampler 3: cfg 5.0 → 5.0001`,
	}},
	{"another picture", `"cfg": 5.0`, `"cfg": 6.5`, "", "comfyrun test", map[string]string{
		"pictures": `failed +workflows/a.json: because of a.json, max \d+`, "words": `KSampler 3: cfg 5.0 → 6.5`,
	}},
	{"broken", `"cfg": 5.0`, `"cfg": 500.0`, "comfyrun check", "comfyrun test", map[string]string{
		"lint": `workflows/a.json.*500.0 is above the maximum`, "pictures": `error +workflows/a.json`, "words": `cfg 5.0 → 500.0`,
	}},
	{"no JSON", `"cfg": 5.0`, `"cfg" 5.0`, "fmt --check", "comfyrun test", map[string]string{"words": `"cfg" 5.0`}},
	{"layout", `"cfg": 5.0`, `"cfg":  5.0`, "fmt --check", "", map[string]string{"lint": `workflows/a.json`}},
}

// The CI examples do what they say: their own commands run in clones of a repository, as the CI system runs them.
func TestCIExamples(t *testing.T) {
	for _, system := range []struct {
		name string
		run  func(*testing.T, *ciRepository) map[string]ciResult
	}{{"GitHub Actions", runGitHub}, {"GitLab", runGitLab}} {
		t.Run(system.name, func(t *testing.T) {
			r := newCIRepository(t)
			for _, change := range ciChanges {
				t.Run(change.name, func(t *testing.T) {
					r.change(t, change)
					change.check(t, system.run(t, r))
				})
			}
		})
	}
}

func (c ciChange) check(t *testing.T, results map[string]ciResult) {
	t.Helper()
	for job, want := range map[string]string{"lint": c.lint, "pictures": c.pictures, "words": ""} {
		got, ran := results[job]
		if !ran || (want == "") != (got.failed == "") || !strings.Contains(got.failed, want) {
			t.Errorf("job %s: failed command %q, want %q\n%s", job, got.failed, want, got.log)
		}
		if !regexp.MustCompile(c.logs[job]).MatchString(got.log) {
			t.Errorf("job %s: the log has no %s:\n%s", job, c.logs[job], got.log)
		}
	}
}

// ciRepository is the repository that jobs clone: two workflows with goldens on main, a change on another branch.
type ciRepository struct{ dir, base string }

func newCIRepository(t *testing.T) *ciRepository {
	t.Helper()
	home, dir := t.TempDir(), t.TempDir()
	for key, value := range map[string]string{
		"HOME": home, "XDG_CONFIG_HOME": home, "GIT_CONFIG_NOSYSTEM": "1", "GIT_AUTHOR_NAME": "A", "GIT_AUTHOR_EMAIL": "a@example.com",
		"GIT_COMMITTER_NAME": "A", "GIT_COMMITTER_EMAIL": "a@example.com", "COMFYRUN_HOME": filepath.Join(home, ".local/share/comfyrun"),
	} {
		t.Setenv(key, value)
	}
	text, err := os.ReadFile("../../workflows/default.json")
	if err != nil {
		t.Fatal(err)
	}
	text = bytes.Replace(text, []byte(`"steps": 20`), []byte(`"steps": 1`), 1)
	mustWrite(t, filepath.Join(dir, "workflows/a.json"), text)
	mustWrite(t, filepath.Join(dir, "workflows/b.json"), bytes.Replace(text, []byte("sunset"), []byte("night"), 1))
	linkLibrary(t, os.Getenv("COMFYRUN_HOME"))
	r := &ciRepository{dir: dir}
	r.shell(t, "git init -q -b main . && comfyrun fmt -w workflows/*.json && comfyrun test workflows --update && comfyrun models lock workflows/*.json")
	r.shell(t, "git add . && git commit -q -m first")
	r.base = strings.TrimSpace(r.shell(t, "git rev-parse HEAD"))
	return r
}

// linkLibrary puts ONNX Runtime where `comfyrun runtime install` looks for it, so that it has nothing to fetch.
func linkLibrary(t *testing.T, home string) {
	t.Helper()
	files, err := filepath.Glob("../../lib/*onnxruntime*")
	if err != nil || len(files) == 0 {
		t.Fatalf("lib holds no ONNX Runtime: %v", err)
	}
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		mustWrite(t, filepath.Join(home, "lib", filepath.Base(file)), data)
	}
}

func mustWrite(t *testing.T, file string, data []byte) {
	t.Helper()
	err := os.MkdirAll(filepath.Dir(file), 0o755)
	if err == nil {
		err = os.WriteFile(file, data, 0o644)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func (r *ciRepository) shell(t *testing.T, script string) string {
	t.Helper()
	out, err := ciShell(r.dir, script, nil)
	if err != nil {
		t.Fatalf("%s: %v\n%s", script, err, out)
	}
	return out
}

// change makes the branch of the pull request.
func (r *ciRepository) change(t *testing.T, c ciChange) {
	t.Helper()
	r.shell(t, "git checkout -q -B change main")
	file := filepath.Join(r.dir, "workflows/a.json")
	text, err := os.ReadFile(file)
	if err != nil || bytes.Count(text, []byte(c.old)) != 1 {
		t.Fatalf("%s is not once in %s: %v", c.old, file, err)
	}
	mustWrite(t, file, bytes.Replace(text, []byte(c.old), []byte(c.new), 1))
	r.shell(t, "git commit -q -a -m change")
}

// clone gives a job its checkout, which is of a commit and no branch.
func (r *ciRepository) clone(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "checkout")
	r.shell(t, "git clone -q --branch change . '"+dir+"' && git -C '"+dir+"' checkout -q --detach")
	return dir
}

func ciShell(dir, script string, env []string) (string, error) {
	cmd := exec.Command("bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", script)
	cmd.Dir, cmd.Env = dir, append(os.Environ(), env...)
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// readYAML reads an example.
func readYAML(t *testing.T, name string, into any) {
	t.Helper()
	text, err := os.ReadFile(ciExamples + name)
	if err == nil {
		err = yaml.Unmarshal(text, into)
	}
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
}

// githubStep is a step of a job.
type githubStep struct {
	Name, Uses, Run, If string
	With                map[string]string
}

// githubExpressions are all the expressions that the example has outside of run, with their values in a pull request.
func githubExpressions(r *ciRepository) map[string]string {
	return map[string]string{"${{ github.event.pull_request.base.sha || github.event.before }}": r.base}
}

func runGitHub(t *testing.T, r *ciRepository) map[string]ciResult {
	t.Helper()
	var file struct {
		Env  map[string]string
		Jobs map[string]struct{ Steps []githubStep }
	}
	readYAML(t, "github-actions.yml", &file)
	results := map[string]ciResult{}
	for name, job := range file.Jobs {
		g := &githubJob{t: t, repository: r, summary: filepath.Join(t.TempDir(), "summary.md")}
		mustWrite(t, g.summary, nil)
		g.env = []string{"CI=true", "GITHUB_ACTIONS=true", "GITHUB_STEP_SUMMARY=" + g.summary}
		for key, value := range file.Env {
			known, ok := githubExpressions(r)[value]
			if !ok {
				t.Fatalf("env %s: the test has no value for %s", key, value)
			}
			g.env = append(g.env, key+"="+known)
		}
		for _, step := range job.Steps {
			g.step(step)
		}
		summary, err := os.ReadFile(g.summary)
		if err != nil || name != "lint" && len(summary) == 0 && g.result.failed == "" {
			t.Errorf("job %s: its summary has %d bytes, %v", name, len(summary), err)
		}
		g.result.log += string(summary)
		results[name] = g.result
	}
	return results
}

// githubJob runs the steps of a job.
type githubJob struct {
	t            *testing.T
	repository   *ciRepository
	dir, summary string
	env          []string
	result       ciResult
}

var hashFiles = regexp.MustCompile(`^always\(\) && hashFiles\('([^']+)'\) != ''$`)

// runs decides on the condition of a step.
func (g *githubJob) runs(condition string) bool {
	match := hashFiles.FindStringSubmatch(condition)
	switch {
	case condition == "":
		return g.result.failed == ""
	case match != nil:
		_, err := os.Stat(filepath.Join(g.dir, match[1]))
		return err == nil
	case condition != "always()":
		g.t.Fatalf("the test does not know the condition %s", condition)
	}
	return true
}

func (g *githubJob) step(s githubStep) {
	g.t.Helper()
	if !g.runs(s.If) {
		return
	}
	if s.Run == "" {
		g.action(s)
		return
	}
	if strings.Contains(s.Run, "${{") {
		g.t.Errorf("step %q has an expression in its script, through which a branch's name could run commands", s.Name)
	}
	out, err := ciShell(g.dir, s.Run, g.env)
	g.result.log += out
	if err != nil && g.result.failed == "" {
		g.result.failed = s.Run
	}
}

// action does what of an action matters here.
func (g *githubJob) action(s githubStep) {
	g.t.Helper()
	name, _, _ := strings.Cut(s.Uses, "@")
	switch name {
	case "actions/checkout":
		g.dir = g.repository.clone(g.t)
	case "actions/setup-go", "actions/cache":
	case "actions/upload-artifact":
		mustHave(g.t, g.dir, strings.Fields(s.With["path"]))
	case "github/codeql-action/upload-sarif":
		mustHave(g.t, g.dir, []string{s.With["sarif_file"]})
	default:
		g.t.Fatalf("the test does not know the action %q", s.Uses)
	}
}

// mustHave checks that a job made the files that it keeps.
func mustHave(t *testing.T, dir string, files []string) {
	t.Helper()
	for _, file := range files {
		if _, err := os.Stat(filepath.Join(dir, file)); err != nil {
			t.Errorf("kept file: %v", err)
		}
	}
}

// gitlabJob is a job of GitLab's file.
type gitlabJob struct {
	Script    []string
	Artifacts struct {
		When    string
		Paths   []string
		Reports map[string]string
	}
}

func runGitLab(t *testing.T, r *ciRepository) map[string]ciResult {
	t.Helper()
	var file struct {
		Workflow struct {
			Rules []struct {
				If        string
				Variables map[string]string
			}
		}
		Variables map[string]string
		Jobs      map[string]gitlabJob `yaml:",inline"`
	}
	readYAML(t, "gitlab-ci.yml", &file)
	if len(file.Workflow.Rules) == 0 || file.Workflow.Rules[0].If != `$CI_PIPELINE_SOURCE == "merge_request_event"` {
		t.Fatal("the first rule is not the one of merge requests")
	}
	results := map[string]ciResult{}
	for name, job := range file.Jobs {
		if name == "default" {
			continue
		}
		dir := r.clone(t)
		env := gitlabEnv(t, map[string]string{
			"CI": "true", "GITLAB_CI": "true", "CI_MERGE_REQUEST_DIFF_BASE_SHA": r.base, "CI_PROJECT_DIR": dir,
		}, file.Variables, file.Workflow.Rules[0].Variables)
		linkLibrary(t, filepath.Join(dir, ".comfyrun"))
		results[name] = job.run(t, dir, env)
	}
	return results
}

func (job gitlabJob) run(t *testing.T, dir string, env []string) (result ciResult) {
	t.Helper()
	for _, line := range job.Script {
		text, err := ciShell(dir, line, env)
		result.log += text
		if err != nil {
			result.failed = line
			break
		}
	}
	kept := slices.Clone(job.Artifacts.Paths)
	for _, report := range job.Artifacts.Reports {
		kept = append(kept, report)
	}
	switch {
	case result.failed == "":
		mustHave(t, dir, kept)
	case job.Artifacts.When != "always":
		t.Errorf("a job failed at %s and keeps nothing", result.failed)
	case strings.HasPrefix(result.failed, "comfyrun"):
		mustHave(t, dir, kept)
	}
	return result
}

// gitlabEnv is the environment of a job: what GitLab gives, and the variables of the file, in which others may stand.
func gitlabEnv(t *testing.T, given map[string]string, more ...map[string]string) (env []string) {
	t.Helper()
	for key, value := range given {
		env = append(env, key+"="+value)
	}
	for _, variables := range more {
		for key, value := range variables {
			env = append(env, key+"="+os.Expand(value, func(name string) string {
				if given[name] == "" {
					t.Fatalf("variable %s: the test has no value for $%s", key, name)
				}
				return given[name]
			}))
		}
	}
	return env
}
