//go:build cluster || keda

package charttest

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// controlPlane starts a real control plane, whose nodes only pretend to run pods, with the definitions of the operators' objects;
// it ends with the test. Its folder is returned.
func controlPlane(t *testing.T) string {
	t.Helper()
	folder := t.TempDir()
	script(t, "cluster.sh", "up", folder)
	t.Cleanup(func() { script(t, "cluster.sh", "down", folder) })
	t.Setenv("KUBECONFIG", filepath.Join(folder, "kubeconfig"))
	t.Setenv("PATH", absolute(t, tools)+":"+os.Getenv("PATH"))
	installDefinitions(t)
	return folder
}

func script(t *testing.T, name, action, folder string) {
	t.Helper()
	cmd := exec.Command("cluster/"+name, action, folder)
	output, err := os.Create(filepath.Join(folder, "script.log")) // a file: the servers keep what they inherit open
	if err != nil {
		t.Fatal(err)
	}
	defer output.Close()
	cmd.Stdout, cmd.Stderr = output, output
	if err := cmd.Run(); err != nil {
		log, _ := os.ReadFile(output.Name())
		t.Fatalf("%s %s: %v\n%s", name, action, err, log)
	}
}

func kubectl(t *testing.T, args ...string) string { t.Helper(); return mustRun(t, "kubectl", args...) }

func installDefinitions(t *testing.T) {
	t.Helper()
	for _, folder := range strings.Fields(os.Getenv("CRDS")) {
		files, err := filepath.Glob(folder + "/*.yaml")
		if err != nil || len(files) == 0 {
			t.Fatalf("CRDS: %s: %v", folder, err)
		}
		for _, file := range files {
			if filepath.Base(file) != "kustomization.yaml" {
				kubectl(t, "apply", "--server-side", "-f", file)
			}
		}
	}
	kubectl(t, "wait", "--for=condition=Established", "crd", "--all", "--timeout=60s")
	kubectl(t, "create", "-f", "cluster/runtimeclass.yaml")
}

// namespace makes a namespace that enforces Pod Security's level restricted.
func namespace(t *testing.T, name string) {
	t.Helper()
	kubectl(t, "create", "namespace", name)
	kubectl(t, "label", "namespace", name, "pod-security.kubernetes.io/enforce=restricted", "pod-security.kubernetes.io/warn=restricted")
}

func get(t *testing.T, ns string, what ...string) object {
	t.Helper()
	var o object
	if err := json.Unmarshal([]byte(kubectl(t, append([]string{"get", "-n", ns, "-o", "json"}, what...)...)), &o); err != nil {
		t.Fatal(err)
	}
	return o
}

func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	within(t, 30*time.Second, what, holds)
}

func within(t *testing.T, limit time.Duration, what string, holds func() bool) {
	t.Helper()
	for end := time.Now().Add(limit); !holds(); time.Sleep(200 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("no %s within %v", what, limit)
		}
	}
}
