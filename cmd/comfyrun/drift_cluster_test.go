//go:build cluster

package main

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/comfyrun/comfyrun/charts"
	"github.com/comfyrun/comfyrun/workflows"
)

// The test needs openssl and, in bin/tools, etcd, kube-apiserver and kubectl: make test-drift builds the tools.

// apiServer is a Kubernetes API server on its own, with no one to act on what it holds.
type apiServer struct{ kubectl, config string }

// startServer starts etcd and kube-apiserver on free ports; both end with the test.
func startServer(t *testing.T) apiServer {
	t.Helper()
	tools, err := filepath.Abs("../../bin/tools")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	path := func(name string) string { return filepath.Join(dir, name) }
	shell(t, "openssl", "genrsa", "-out", path("sa.key"), "2048")
	shell(t, "openssl", "rsa", "-in", path("sa.key"), "-pubout", "-out", path("sa.pub"))
	server := apiServer{filepath.Join(tools, "kubectl"), path("kubeconfig")}
	client, peer, port := address(t), address(t), strings.TrimPrefix(address(t), "127.0.0.1:")
	writeText(t, path("tokens.csv"), "token,admin,admin,system:masters\n")
	writeText(t, server.config, fmt.Sprintf(`apiVersion: v1
kind: Config
clusters: [{name: local, cluster: {server: "https://127.0.0.1:%s", insecure-skip-tls-verify: true}}]
users: [{name: admin, user: {token: token}}]
contexts: [{name: local, context: {cluster: local, user: admin, namespace: default}}]
current-context: local
`, port))
	spawn(t, filepath.Join(tools, "etcd"), "--data-dir", path("etcd"), "--listen-client-urls", "http://"+client, "--advertise-client-urls", "http://"+client,
		"--listen-peer-urls", "http://"+peer, "--initial-advertise-peer-urls", "http://"+peer, "--initial-cluster", "default=http://"+peer,
		"--unsafe-no-fsync", "--log-level", "error")
	spawn(t, filepath.Join(tools, "kube-apiserver"), "--etcd-servers=http://"+client, "--cert-dir="+path("certs"), "--bind-address=127.0.0.1",
		"--secure-port="+port, "--advertise-address=127.0.0.1", "--endpoint-reconciler-type=none",
		"--service-account-issuer=https://kubernetes.default.svc", "--service-account-key-file="+path("sa.pub"),
		"--service-account-signing-key-file="+path("sa.key"), "--service-cluster-ip-range=10.96.0.0/16", "--token-auth-file="+path("tokens.csv"),
		"--authorization-mode=RBAC")
	for range 120 {
		if exec.Command(server.kubectl, "--kubeconfig", server.config, "get", "--raw", "/readyz").Run() == nil {
			return server
		}
		time.Sleep(500 * time.Millisecond)
	}
	t.Fatal("the API server does not get ready")
	return server
}

// address is a free address of this machine.
func address(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

func spawn(t *testing.T, program string, args ...string) {
	t.Helper()
	cmd := exec.Command(program, args...)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := cmd.Process.Kill(); err != nil {
			t.Error(err)
		}
		_ = cmd.Wait() // it was killed
	})
}

func shell(t *testing.T, program string, args ...string) string {
	t.Helper()
	out, err := exec.Command(program, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %v: %v\n%s", program, args, err, out)
	}
	return string(out)
}

func writeText(t *testing.T, file, text string) {
	t.Helper()
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

func (s apiServer) do(t *testing.T, args ...string) string {
	t.Helper()
	return shell(t, s.kubectl, append([]string{"--kubeconfig", s.config}, args...)...)
}

// runExpecting runs a command line and checks its exit code.
func runExpecting(t *testing.T, code int, args ...string) string {
	t.Helper()
	var out, problems bytes.Buffer
	if got := Run(t.Context(), args, Stdio{In: strings.NewReader(""), Out: &out, Err: &problems}); got != code {
		t.Fatalf("comfyrun %v: exit code %d, want %d\n%s%s", args, got, code, out.String(), problems.String())
	}
	return out.String()
}

const deployment = `apiVersion: apps/v1
kind: Deployment
metadata: {name: server, labels: {app.kubernetes.io/name: comfyrun}}
spec:
  selector: {matchLabels: {app: server}}
  template:
    metadata: {labels: {app: server}}
    spec:
      containers: [{name: server, image: "x:1", volumeMounts: [{name: workflows, mountPath: /workflows}]}]
      volumes: [{name: workflows, emptyDir: {}}]
`

// bundled is a bundle, the workflows that it is made of, and a cluster that gets it by Kustomize.
type bundled struct {
	server          apiServer
	dir, flows, out string
}

func (b *bundled) bundle(t *testing.T) {
	t.Helper()
	runExpecting(t, 0, "bundle", b.flows, "--nodes", b.flows, "-o", b.out, "--name", "shop", "--with", "kustomize")
	runExpecting(t, 0, "bundle", "--check", b.out)
}

func (b *bundled) apply(t *testing.T) {
	t.Helper()
	b.server.do(t, "apply", "--server-side", "--force-conflicts", "-k", b.dir)
}

// drift wants an exit code and texts in what drift says.
func (b *bundled) drift(t *testing.T, code int, want ...string) {
	t.Helper()
	said := runExpecting(t, code, "drift", b.out, "--kubectl", b.server.kubectl, "--kubeconfig", b.server.config)
	for _, text := range want {
		if !strings.Contains(strings.Join(strings.Fields(said), " "), text) {
			t.Errorf("drift says\n%s, want %q", said, text)
		}
	}
}

func promptText(prompt string) string {
	return fmt.Sprintf(`{"6": {"class_type": "CLIPTextEncode", "inputs": {"text": %q, "clip": ["4", 1]}}}`, prompt)
}

// A real API server takes what bundle writes, the largest workflow too, and drift tells what is changed there.
func TestDriftOnCluster(t *testing.T) {
	t.Setenv("COMFYRUN_HOME", t.TempDir())
	dir := t.TempDir()
	b := &bundled{startServer(t), dir, filepath.Join(dir, "flows"), filepath.Join(dir, "out")}
	if err := os.Mkdir(b.flows, 0o755); err != nil {
		t.Fatal(err)
	}
	writeText(t, filepath.Join(dir, "huge.json"), promptText(strings.Repeat("house ", 3<<20/6)))
	runExpecting(t, 2, "bundle", filepath.Join(dir, "huge.json"))
	writeText(t, filepath.Join(b.flows, "portrait.json"), promptText("a red house"))
	writeText(t, filepath.Join(b.flows, "large.json"), promptText(largest(t)))
	writeText(t, filepath.Join(b.flows, "Grey.node.json"), fmt.Sprintf(greyNode, 0))
	writeText(t, filepath.Join(b.flows, "grey.json"), `{"1": {"class_type": "Grey", "inputs": {"size": 64}}}`)
	writeText(t, filepath.Join(dir, "server.yaml"), deployment)
	writeText(t, filepath.Join(dir, "kustomization.yaml"), "resources: [server.yaml]\ncomponents: [out]\n")

	b.bundle(t)
	b.drift(t, 1)
	b.apply(t)
	b.drift(t, 0, "mounted by deployment/server")
	b.edits(t)
	b.goesBack(t)

	writeText(t, filepath.Join(b.flows, "portrait.json"), promptText("a green house"))
	b.bundle(t)
	b.drift(t, 1, "missing portrait", "other portrait")
	b.apply(t)
	b.drift(t, 0, "kept portrait")
}

// edits changes a ConfigMap by hand, in each way that Kubernetes lets people do it.
func (b *bundled) edits(t *testing.T) {
	s, name := b.server, nameOf(t, b.out, "portrait")
	edited := filepath.Join(b.dir, "edited.json")
	writeText(t, edited, strings.ReplaceAll(s.do(t, "get", "configmap", name, "-o", "json"), "red", "blue"))
	if refused, err := exec.Command(s.kubectl, "--kubeconfig", s.config, "replace", "-f", edited).CombinedOutput(); err == nil {
		t.Errorf("an immutable ConfigMap is replaced: %s", refused)
	}
	s.do(t, "delete", "configmap", name)
	b.drift(t, 1, "missing portrait")
	s.do(t, "create", "-f", edited)
	b.drift(t, 1, `"text": "a blue house" instead of "text": "a red house"`)
	s.do(t, "delete", "configmap", name)
	b.apply(t)
	b.drift(t, 0)

	s.do(t, "label", "configmap", name, "comfyrun.github.io/bundle-")
	b.drift(t, 0, "same portrait")
	s.do(t, "delete", "configmap", name)
	writeText(t, filepath.Join(b.dir, "portrait.json"), promptText("a blue house"))
	s.do(t, "create", "configmap", name, "--from-file", filepath.Join(b.dir, "portrait.json"))
	b.drift(t, 1, "edited portrait")
	s.do(t, "delete", "configmap", name)
	b.apply(t)
	b.drift(t, 0)
}

// goesBack changes a definition, and has the workload name the one before it: then the bundle is not what runs.
func (b *bundled) goesBack(t *testing.T) {
	before := nameOf(t, b.out, "Grey.node")
	writeText(t, filepath.Join(b.flows, "Grey.node.json"), fmt.Sprintf(greyNode, 255))
	b.bundle(t)
	b.drift(t, 1, "missing Grey.node")
	b.apply(t)
	b.drift(t, 0, "kept Grey.node")

	b.server.do(t, "patch", "deployment", "server", "--type=json", "-p",
		fmt.Sprintf(`[{"op": "replace", "path": "/spec/template/spec/volumes/0/projected/sources/3/configMap/name", "value": %q}]`, before))
	b.drift(t, 1, "other Grey.node "+nameOf(t, b.out, "Grey.node"))
	b.server.do(t, "delete", "configmap", before)
	b.drift(t, 1, "missing "+before+" "+before+" mounted by deployment/server; neither the bundle nor the cluster has it")
	b.apply(t)
	b.drift(t, 0)
}

const greyNode = `{"class_type": "Grey", "inputs": {"size": {"to": ["1.width", "1.height"]}}, "outputs": {"image": {"from": ["1", 0]}},
	"workflow": {"1": {"class_type": "EmptyImage", "inputs": {"width": 64, "height": 64, "batch_size": 1, "color": %d}}}}`

// largest is a prompt that fills a ConfigMap to the last byte.
func largest(t *testing.T) string {
	t.Helper()
	graph, err := workflows.Parse([]byte(`{"6": {"class_type": "CLIPTextEncode", "inputs": {"text": "", "clip": ["4", 1]}}}`))
	if err != nil {
		t.Fatal(err)
	}
	text, err := workflows.Format(workflows.Encode(graph))
	if err != nil {
		t.Fatal(err)
	}
	return strings.Repeat("x", charts.MaxData-len(text)-len("large.json"))
}

// nameOf reads the name of a ConfigMap out of its manifest.
func nameOf(t *testing.T, out, workflow string) string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(out, "configmaps", workflow+".yaml"))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(data), "\n  name: ")
	name, _, _ := strings.Cut(rest, "\n")
	return name
}
