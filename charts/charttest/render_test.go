//go:build charts || render || cluster || keda

package charttest

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	yaml "go.yaml.in/yaml/v2"
)

const (
	tools   = "../../bin/tools"
	schemas = "../../.cache/schemas/{{.ResourceKind}}{{.KindSuffix}}.json"
	chart   = "../comfyrun"
	version = "1.36.3" // of the Kubernetes whose schemas are used
)

type object = map[string]any

// run runs a tool and returns its standard output; errors carry what it said.
func run(t *testing.T, name string, args ...string) (string, error) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), absolute(t, tools+"/"+name), args...)
	home := t.TempDir()
	for _, kind := range []string{"HELM_CACHE_HOME", "HELM_CONFIG_HOME", "HELM_DATA_HOME"} {
		cmd.Env = append(cmd.Env, kind+"="+home)
	}
	cmd.Env = append(os.Environ(), cmd.Env...)
	var out, problem bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &problem
	if err := cmd.Run(); err != nil {
		return out.String(), fmt.Errorf("%s %s: %w\n%s%s", name, strings.Join(args, " "), err, problem.String(), out.String())
	}
	return out.String(), nil
}

func mustRun(t *testing.T, name string, args ...string) string {
	t.Helper()
	out, err := run(t, name, args...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// template renders the chart for a namespace with further arguments of helm template.
func template(t *testing.T, helm, namespace string, args ...string) (string, error) {
	t.Helper()
	return run(t, helm, append([]string{"template", "comfyrun", chart, "-n", namespace, "--kube-version", version}, args...)...)
}

func mustTemplate(t *testing.T, helm, namespace string, args ...string) string {
	t.Helper()
	render, err := template(t, helm, namespace, args...)
	if err != nil {
		t.Fatal(err)
	}
	return render
}

// objects reads the documents of a render.
func objects(t *testing.T, render string) []object {
	t.Helper()
	var list []object
	for i, document := range strings.Split("\n"+render, "\n---") {
		var value any
		if err := yaml.Unmarshal([]byte(document), &value); err != nil {
			t.Fatalf("document %d: %v", i, err)
		}
		if o, ok := plain(value).(object); ok {
			list = append(list, o)
		}
	}
	if len(list) == 0 {
		t.Fatal("the render has no objects")
	}
	return list
}

// plain gives maps the keys that JSON has.
func plain(value any) any {
	switch v := value.(type) {
	case map[any]any:
		out := object{}
		for key, e := range v {
			out[fmt.Sprint(key)] = plain(e)
		}
		return out
	case []any:
		for i := range v {
			v[i] = plain(v[i])
		}
	}
	return value
}

// at follows keys into an object; nil when one is missing.
func at(value any, keys ...string) any {
	for _, key := range keys {
		o, _ := value.(object)
		value = o[key]
	}
	return value
}

func text(value any, keys ...string) string { s, _ := at(value, keys...).(string); return s }

func list(value any, keys ...string) []any { l, _ := at(value, keys...).([]any); return l }

// title is an object's kind and name.
func title(o object) string { return text(o, "kind") + " " + text(o, "metadata", "name") }

// podSpec returns the pod of an object, nil for one that has none.
func podSpec(o object) object {
	if o["kind"] == "Pod" {
		spec, _ := o["spec"].(object)
		return spec
	}
	spec, _ := at(o, "spec", "template", "spec").(object)
	return spec
}

// containers returns the init containers and containers of a pod.
func containers(pod object) []any {
	return append(list(pod, "initContainers"), list(pod, "containers")...)
}

func valuesFiles(t *testing.T) []string {
	t.Helper()
	var files []string
	for _, pattern := range []string{chart + "/values*.yaml", "../testdata/values/*.yaml"} {
		found, err := filepath.Glob(pattern)
		if err != nil || len(found) == 0 {
			t.Fatalf("%s: %v, %v", pattern, found, err)
		}
		files = append(files, found...)
	}
	return files
}

func absolute(t *testing.T, path string) string {
	t.Helper()
	whole, err := filepath.Abs(path)
	if err != nil {
		t.Fatal(err)
	}
	return whole
}

func readFile(t *testing.T, file string) string {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func writeFile(t *testing.T, file, text string) {
	t.Helper()
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}
