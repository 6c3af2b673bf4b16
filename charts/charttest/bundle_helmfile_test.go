//go:build render

package charttest

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// The ConfigMaps of a bundle go where Helmfile sends the release: to its namespace, in its context. There is no cluster here, so
// that Helm fails after the hook.
func TestBundleOfHelmfile(t *testing.T) {
	folder := bundleScenes(t, program(t), "--with", "helmfile", "--chart", chart)
	fake := t.TempDir()
	asked := filepath.Join(fake, "asked")
	if err := os.WriteFile(filepath.Join(fake, "kubectl"), []byte("#!/bin/sh\necho \"$@ in $PWD\" > "+asked+"\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", fake+string(os.PathListSeparator)+os.Getenv("PATH"))
	t.Setenv("KUBECONFIG", filepath.Join(fake, "none"))
	for _, tt := range []struct {
		args []string
		want string
	}{
		{nil, "--namespace= --context="}, {[]string{"-n", "ai"}, "--namespace=ai --context="},
		{[]string{"-n", "ai", "--kube-context", "prod"}, "--namespace=ai --context=prod"},
	} {
		args := append([]string{"-q", "-b", absolute(t, tools+"/"+helms[0]), "-f", folder + "/helmfile.yaml"}, tt.args...)
		if _, err := run(t, "helmfile", append(args, "sync")...); err == nil {
			t.Fatal("Helm installs without a cluster")
		}
		data, err := os.ReadFile(asked)
		if want := "apply --server-side -f configmaps " + tt.want + " in " + folder; err != nil || strings.TrimSpace(string(data)) != want {
			t.Errorf("%v: kubectl is asked %q, %v, want %q", tt.args, data, err, want)
		}
	}
}
