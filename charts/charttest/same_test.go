//go:build charts || render || cluster || keda

package charttest

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	yaml "go.yaml.in/yaml/v2"
)

func writeYAML(t *testing.T, file string, value any) {
	t.Helper()
	data, err := yaml.Marshal(value)
	if err != nil {
		t.Fatal(err)
	}
	writeFile(t, file, string(data))
}

// Kustomize and Helm make the same objects.
func TestKustomizeIsTheChart(t *testing.T) {
	for _, environment := range []string{"dev", "prod"} {
		t.Run(environment, func(t *testing.T) {
			want := mustTemplate(t, helms[0], "comfyrun-"+environment, "--no-hooks", "-f", chart+"/values-"+environment+".yaml")
			got := mustRun(t, "kustomize", "build", "../kustomize/overlays/"+environment)
			conform(t, got)
			if diff := cmp.Diff(comparable(t, want), comparable(t, got)); diff != "" {
				t.Errorf("chart (-), kustomize (+):\n%s", diff)
			}
		})
	}
}

var generated = regexp.MustCompile(`^(comfyrun-(?:config|workflows))-[a-z0-9]{10}$`)

// comparable gives the objects of a render by kind and name, without what only says who rendered them: labels and annotations
// of Helm, checksums, the hashes in the names of generated ConfigMaps, spaces at the end of texts.
func comparable(t *testing.T, render string) map[string]object {
	t.Helper()
	all := map[string]object{}
	for _, o := range objects(t, render) {
		o = normal(o).(object)
		key := fmt.Sprintf("%s %s/%s", text(o, "kind"), text(o, "metadata", "namespace"), text(o, "metadata", "name"))
		if all[key] != nil {
			t.Errorf("%s is there twice", key)
		}
		all[key] = o
	}
	return all
}

func normal(value any) any {
	switch v := value.(type) {
	case object:
		out := object{}
		for key, e := range v {
			switch {
			case strings.HasPrefix(key, "helm.sh/"), strings.HasPrefix(key, "checksum/"),
				key == "app.kubernetes.io/managed-by", key == "app.kubernetes.io/version":
			default:
				if n := normal(e); !empty(n) || empty(e) && key != "annotations" {
					out[key] = sorted(key, n)
				}
			}
		}
		return out
	case []any:
		out := make([]any, len(v))
		for i, e := range v {
			out[i] = normal(e)
		}
		return out
	case string:
		if match := generated.FindStringSubmatch(v); match != nil {
			return match[1]
		}
		return strings.TrimRight(v, "\n")
	}
	return value
}

// sorted puts lists whose members have names, and whose order says nothing, into the order of the names.
func sorted(key string, value any) any {
	members, ok := value.([]any)
	if ok && (key == "env" || key == "volumes" || key == "volumeMounts") {
		slices.SortFunc(members, func(a, b any) int {
			return strings.Compare(text(a, "name")+text(a, "mountPath"), text(b, "name")+text(b, "mountPath"))
		})
	}
	return value
}

func empty(value any) bool { o, ok := value.(object); return ok && len(o) == 0 }

// The comparison sees what differs, and passes over what may.
func TestComparableSees(t *testing.T) {
	const a = "kind: Deployment\nmetadata: {name: x, labels: {helm.sh/chart: c}}\nspec: {volumes: [{configMap: {name: comfyrun-config}}], replicas: 1}"
	same := strings.ReplaceAll(strings.ReplaceAll(a, "comfyrun-config", "comfyrun-config-0a1b2c3d4e"), "chart: c", "chart: d")
	if diff := cmp.Diff(comparable(t, a), comparable(t, same)); diff != "" {
		t.Errorf("the same render differs:\n%s", diff)
	}
	for _, other := range []string{strings.ReplaceAll(a, "replicas: 1", "replicas: 2"), strings.ReplaceAll(a, "comfyrun-config", "comfyrun-configs")} {
		if cmp.Equal(comparable(t, a), comparable(t, other)) {
			t.Errorf("no difference seen to %s", other)
		}
	}
}
