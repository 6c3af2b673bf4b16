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

// A real API server takes what bundle writes, the largest workflow too, and drift tells what is changed there.
func TestDriftOnCluster(t *testing.T) {
	t.Setenv("COMFYRUN_HOME", t.TempDir())
	server := startServer(t)
	dir := t.TempDir()
	flows, out := filepath.Join(dir, "flows"), filepath.Join(dir, "out")
	if err := os.Mkdir(flows, 0o755); err != nil {
		t.Fatal(err)
	}
	workflow := func(prompt string) string {
		return fmt.Sprintf(`{"6": {"class_type": "CLIPTextEncode", "inputs": {"text": %q, "clip": ["4", 1]}}}`, prompt)
	}
	writeText(t, filepath.Join(flows, "portrait.json"), workflow("a red house"))
	writeText(t, filepath.Join(flows, "large.json"), workflow(largest(t)))
	writeText(t, filepath.Join(dir, "huge.json"), workflow(strings.Repeat("house ", 3<<20/6)))
	runExpecting(t, 2, "bundle", filepath.Join(dir, "huge.json"))
	writeText(t, filepath.Join(dir, "server.yaml"), deployment)
	writeText(t, filepath.Join(dir, "kustomization.yaml"), "resources: [server.yaml]\ncomponents: [out]\n")
	writeText(t, filepath.Join(flows, "Grey.node.json"), fmt.Sprintf(greyNode, 0))
	writeText(t, filepath.Join(flows, "grey.json"), `{"1": {"class_type": "Grey", "inputs": {"size": 64}}}`)
	bundle := func() {
		runExpecting(t, 0, "bundle", flows, "--nodes", flows, "-o", out, "--name", "shop", "--with", "kustomize")
		runExpecting(t, 0, "bundle", "--check", out)
	}
	drift := func(code int) string {
		return runExpecting(t, code, "drift", out, "--kubectl", server.kubectl, "--kubeconfig", server.config)
	}
	expect := func(text, want string) {
		t.Helper()
		if !strings.Contains(strings.Join(strings.Fields(text), " "), want) {
			t.Errorf("drift says\n%s, want %q", text, want)
		}
	}

	bundle()
	drift(1)
	server.do(t, "apply", "--server-side", "-k", dir)
	expect(drift(0), "mounted by deployment/server")

	name := "configmap/" + nameOf(t, out, "portrait")
	object := strings.ReplaceAll(server.do(t, "get", name, "-o", "json"), "red", "blue")
	writeText(t, filepath.Join(dir, "edited.json"), object)
	if refused, err := exec.Command(server.kubectl, "--kubeconfig", server.config, "replace", "-f", filepath.Join(dir, "edited.json")).CombinedOutput(); err == nil {
		t.Errorf("an immutable ConfigMap is replaced: %s", refused)
	}
	server.do(t, "delete", name)
	expect(drift(1), "missing portrait")
	server.do(t, "create", "-f", filepath.Join(dir, "edited.json"))
	expect(drift(1), `"text": "a blue house" instead of "text": "a red house"`)
	server.do(t, "delete", name)
	server.do(t, "apply", "--server-side", "-k", dir)
	drift(0)

	server.do(t, "label", name, "comfyrun.github.io/bundle-")
	expect(drift(0), "same portrait")
	server.do(t, "delete", name)
	writeText(t, filepath.Join(dir, "portrait.json"), workflow("a blue house"))
	server.do(t, "create", "configmap", strings.TrimPrefix(name, "configmap/"), "--from-file", filepath.Join(dir, "portrait.json"))
	expect(drift(1), "edited portrait")
	server.do(t, "delete", name)
	server.do(t, "apply", "--server-side", "-k", dir)
	drift(0)

	before := nameOf(t, out, "Grey.node")
	writeText(t, filepath.Join(flows, "Grey.node.json"), fmt.Sprintf(greyNode, 255))
	bundle()
	expect(drift(1), "missing Grey.node")
	server.do(t, "apply", "--server-side", "-k", dir)
	expect(drift(0), "kept Grey.node")

	// Going back is the earlier name in the workload; then the bundle is not what runs.
	server.do(t, "patch", "deployment", "server", "--type=json", "-p",
		fmt.Sprintf(`[{"op": "replace", "path": "/spec/template/spec/volumes/0/projected/sources/3/configMap/name", "value": %q}]`, before))
	expect(drift(1), "other Grey.node "+nameOf(t, out, "Grey.node"))
	server.do(t, "delete", "configmap", before)
	expect(drift(1), "missing "+before+" "+before+" mounted by deployment/server; neither the bundle nor the cluster has it")
	server.do(t, "apply", "--server-side", "--force-conflicts", "-k", dir)
	drift(0)

	writeText(t, filepath.Join(flows, "portrait.json"), workflow("a green house"))
	bundle()
	text := drift(1)
	expect(text, "missing portrait")
	expect(text, "other portrait")
	server.do(t, "apply", "--server-side", "-k", dir)
	expect(drift(0), "kept portrait")
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
