//go:build render || cluster

package charttest

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// Helmfile's releases are the chart with the values of the environment.
func TestHelmfileIsTheChart(t *testing.T) {
	for environment, tag := range map[string]string{"dev": "0.1.0", "prod": "0.1.0-cuda"} {
		t.Run(environment, func(t *testing.T) {
			t.Setenv("COMFYRUN_TAG", tag)
			want := mustTemplate(t, helms[0], "comfyrun-"+environment, "--no-hooks", "-f", chart+"/values-"+environment+".yaml")
			got := helmfile(t, environment)
			if diff := cmp.Diff(comparable(t, want), comparable(t, got)); diff != "" {
				t.Errorf("chart (-), helmfile (+):\n%s", diff)
			}
		})
	}
}

func helmfile(t *testing.T, environment string) string {
	t.Helper()
	return mustRun(t, "helmfile", "-q", "-b", absolute(t, tools+"/"+helms[0]), "-f", "../helmfile/helmfile.yaml.gotmpl", "-e", environment,
		"template", "--skip-tests", "--kube-version", version)
}

// The scenes are two releases that differ by their workflows, hosts and queues only.
func TestScenes(t *testing.T) {
	t.Setenv("COMFYRUN_TAG", "0.1.0")
	render := helmfile(t, "scenes")
	conform(t, render)
	all := comparable(t, render)
	for name, workflow := range map[string]string{"comfyui-marketing": "banner.json", "comfyui-product": "packshot.json"} {
		maps := all["ConfigMap comfyrun-scenes/"+name+"-comfyrun-workflows"]
		if text(maps, "data", workflow) == "" || len(at(maps, "data").(object)) != 1 {
			t.Errorf("%s has the workflows %v", name, maps["data"])
		}
		if all["Deployment comfyrun-scenes/"+name+"-comfyrun-worker"] == nil {
			t.Errorf("%s has no workers", name)
		}
	}
}

// Secrets come out of the encrypted file with the key, and without it nothing is rendered.
func TestSecrets(t *testing.T) {
	t.Setenv("COMFYRUN_TAG", "0.1.0")
	t.Setenv("SOPS_AGE_KEY_FILE", absolute(t, "testdata/example-age.key"))
	render := helmfile(t, "staging")
	conform(t, render)
	for _, scene := range []string{"comfyui-marketing", "comfyui-product"} {
		found := false
		for _, o := range objects(t, render) {
			found = found || o["kind"] == "Secret" && text(o, "metadata", "name") == scene+"-s3" &&
				text(o, "stringData", "AWS_SECRET_ACCESS_KEY") == "example-of-a-secret"
		}
		if !found {
			t.Errorf("%s has no Secret with the decrypted key", scene)
		}
	}
	t.Setenv("SOPS_AGE_KEY_FILE", "/dev/null")
	if out, err := run(t, "helmfile", "-q", "-f", "../helmfile/helmfile.yaml.gotmpl", "-e", "staging", "template"); err == nil {
		t.Errorf("without the key:\n%s", out)
	}
}

// A missing tag is an error, not an empty one.
func TestHelmfileAsksForTheTag(t *testing.T) {
	t.Setenv("COMFYRUN_TAG", "")
	_, err := run(t, "helmfile", "-q", "-f", "../helmfile/helmfile.yaml.gotmpl", "-e", "dev", "template")
	if err == nil || !strings.Contains(err.Error(), "COMFYRUN_TAG") {
		t.Errorf("without COMFYRUN_TAG: %v", err)
	}
}
