//go:build cluster

package charttest

import (
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestCluster starts a real control plane, whose nodes only pretend to run pods, and does with the chart what one does with it.
func TestCluster(t *testing.T) {
	controlPlane(t)
	t.Setenv("COMFYRUN_TAG", "0.1.0")
	t.Run("dry run", testDryRun)
	t.Run("combinations", testCombinations)
	t.Run("pipeline", testPipeline)
	t.Run("names", testNames)
	t.Run("jobs", testJobs)
	t.Run("life of a release", testLife)
	t.Run("changed workflow", testChangedWorkflow)
	t.Run("roll back", testRollBack)
	t.Run("GPUs", testGPUs)
	t.Run("drain", testDrain)
	t.Run("canary", testCanary)
	t.Run("replicas", testReplicas)
	t.Run("batch", testBatch)
	t.Run("drift", testDrift)
	t.Run("helmfile", testHelmfile)
	t.Run("environments of the helmfile", testHelmfileEnvironments)
}

// Helm, Kustomize and Helmfile make objects that the server takes, without a warning of Pod Security.
func testDryRun(t *testing.T) {
	namespace(t, "ai")
	for _, file := range valuesFiles(t) {
		render := mustTemplate(t, helms[0], "ai", "-f", file)
		checkDryRun(t, "ai", file, render)
	}
	for _, environment := range []string{"dev", "prod"} {
		ns := "comfyrun-" + environment
		namespace(t, ns)
		chartRender := mustTemplate(t, helms[0], ns, "--no-hooks", "-f", chart+"/values-"+environment+".yaml")
		for name, render := range map[string]string{
			"helm": chartRender, "kustomize": mustRun(t, "kustomize", "build", "../kustomize/overlays/"+environment), "helmfile": helmfile(t, environment),
		} {
			checkDryRun(t, ns, name, render)
		}
	}
}

// checkDryRun lets the server check a render. Only what mounts a folder of the node may break Pod Security's rules.
func checkDryRun(t *testing.T, ns, name, render string) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "render.yaml")
	writeFile(t, file, render)
	out, err := exec.Command(absolute(t, tools+"/kubectl"), "apply", "--server-side", "--dry-run=server", "-n", ns, "-f", file).CombinedOutput()
	if err != nil || strings.Contains(string(out), "PodSecurity") != strings.Contains(render, "hostPath:") {
		t.Errorf("%s in %s: %v\n%s", name, ns, err, out)
	}
}

// install makes the namespace and a release that has no claims, which no provisioner would bind.
func install(t *testing.T, ns string, args ...string) {
	t.Helper()
	namespace(t, ns)
	upgrade(t, ns, args...)
}

func upgrade(t *testing.T, ns string, args ...string) {
	t.Helper()
	mustRun(t, helms[0], append([]string{"upgrade", "--install", "comfyrun", chart, "-n", ns, "-f", chart + "/values-test.yaml", "--wait", "--timeout", "60s"}, args...)...)
}

func podName(t *testing.T, ns string) string {
	t.Helper()
	return kubectl(t, "get", "pods", "-n", ns, "-l", "app.kubernetes.io/component=server", "--field-selector=status.phase=Running", "-o", "jsonpath={.items[*].metadata.name}")
}

func testLife(t *testing.T) {
	install(t, "life")
	mustRun(t, helms[0], "test", "comfyrun", "-n", "life")
	before := podName(t, "life")
	upgrade(t, "life", "--set-file", `workflows.inline.portrait\.json=../helmfile/scenes/comfyui-product/packshot.json`)
	if after := podName(t, "life"); after == before {
		t.Errorf("a changed workflow leaves pod %s as it is", before)
	}
	if text(get(t, "life", "configmap", "comfyrun-workflows"), "data", "portrait.json") == "" {
		t.Error("the ConfigMap lacks the new workflow")
	}
	// Helm 4 goes on with what Helm 3 began.
	mustRun(t, "helm4", "upgrade", "comfyrun", chart, "-n", "life", "-f", chart+"/values-test.yaml", "--wait", "--timeout", "60s", "--rollback-on-failure")
	mustRun(t, "helm4", "test", "comfyrun", "-n", "life")
	mustRun(t, "helm4", "uninstall", "comfyrun", "-n", "life", "--wait")
	mustRun(t, "helm4", "install", "comfyrun", chart, "-n", "life", "-f", chart+"/values-test.yaml", "--wait", "--timeout", "60s")
	mustRun(t, "helm4", "upgrade", "comfyrun", chart, "-n", "life", "-f", chart+"/values-test.yaml", "--wait", "--timeout", "60s", "--set", "server.extraArgs[0]=--compress")
}

// An upgrade that cannot work is undone by itself, and a good one by hand.
func testRollBack(t *testing.T) {
	install(t, "rollback")
	_, err := run(t, helms[0], "upgrade", "comfyrun", chart, "-n", "rollback", "-f", chart+"/values-test.yaml",
		"--set", "gpu.enabled=true,gpu.count=8", "--atomic", "--timeout", "15s")
	if err == nil {
		t.Fatal("8 GPUs for one pod are there on nodes with 4")
	}
	if history := mustRun(t, helms[0], "history", "comfyrun", "-n", "rollback"); !strings.Contains(history, "Rollback to 1") {
		t.Errorf("history:\n%s", history)
	}
	upgrade(t, "rollback", "--set", "server.extraArgs[0]=--compress")
	mustRun(t, helms[0], "rollback", "comfyrun", "1", "-n", "rollback", "--wait", "--timeout", "60s")
	if args := list(podSpec(get(t, "rollback", "deployment", "comfyrun"))["containers"].([]any)[0], "args"); strings.Contains(strings.Join(strs(args), " "), "--compress") {
		t.Errorf("rolled back to the arguments %v", args)
	}
}

func strs(values []any) []string {
	var out []string
	for _, v := range values {
		s, _ := v.(string)
		out = append(out, s)
	}
	return out
}

const queue = nats + ",queue.nats.monitoringEndpoint=n:8222"

// As many workers run as there are GPUs; the others wait, and say for what.
func testGPUs(t *testing.T) {
	namespace(t, "gpus")
	mustRun(t, helms[0], "install", "comfyrun", chart, "-n", "gpus", "-f", chart+"/values-test.yaml", "--set", queue+",gpu.enabled=true,gpu.products={NVIDIA-H200},worker.replicaCount=10")
	eventually(t, "8 running workers and 2 that wait", func() bool {
		phases := kubectl(t, "get", "pods", "-n", "gpus", "-l", "app.kubernetes.io/component=worker", "-o", "jsonpath={.items[*].status.phase}")
		return strings.Count(phases, "Running") == 8 && strings.Count(phases, "Pending") == 2
	})
	eventually(t, "an event that names the GPUs", func() bool {
		return strings.Contains(kubectl(t, "get", "events", "-n", "gpus", "--field-selector=reason=FailedScheduling", "-o", "jsonpath={.items[*].message}"), "Insufficient nvidia.com/gpu")
	})
	mustRun(t, helms[0], "uninstall", "comfyrun", "-n", "gpus", "--wait")
}

// A node can be drained: the disruption budget lets one pod go at a time.
func testDrain(t *testing.T) {
	install(t, "drain", "--set", queue+",gpu.enabled=true,worker.replicaCount=4,podDisruptionBudget.enabled=true")
	kubectl(t, "drain", "gpu-0", "--ignore-daemonsets", "--delete-emptydir-data", "--timeout=60s")
	if left := kubectl(t, "get", "pods", "-n", "drain", "--field-selector=spec.nodeName=gpu-0", "-o", "name"); left != "" {
		t.Errorf("left on the drained node: %s", left)
	}
	kubectl(t, "uncordon", "gpu-0")
	eventually(t, "4 workers elsewhere", func() bool {
		return at(get(t, "drain", "deployment", "comfyrun-worker"), "status", "readyReplicas") == 4.0
	})
	mustRun(t, helms[0], "uninstall", "comfyrun", "-n", "drain", "--wait")
}

// A canary gets its part of the requests, then all of them.
func testCanary(t *testing.T) {
	route := []string{"--set", "httpRoute.enabled=true,httpRoute.parentRefs[0].name=public,httpRoute.canary.service=canary-comfyrun,httpRoute.canary.weight="}
	weights := func() []any {
		var out []any
		for _, ref := range list(list(get(t, "canary", "httproute", "comfyrun"), "spec", "rules")[0], "backendRefs") {
			out = append(out, at(ref, "weight"))
		}
		return out
	}
	install(t, "canary", route[0], route[1]+"10")
	mustRun(t, helms[0], "install", "canary", chart, "-n", "canary", "-f", chart+"/values-test.yaml", "--wait", "--timeout", "60s")
	if w := weights(); len(w) != 2 || w[0] != 90.0 || w[1] != 10.0 {
		t.Errorf("weights %v, want 90 and 10", w)
	}
	kubectl(t, "get", "service", "-n", "canary", "canary-comfyrun")
	upgrade(t, "canary", route[0], route[1]+"100")
	if w := weights(); len(w) != 2 || w[0] != 0.0 || w[1] != 100.0 {
		t.Errorf("weights %v, want 0 and 100", w)
	}
}

// Workers that an autoscaler has added survive an upgrade, also the one that turns the autoscaler on.
func testReplicas(t *testing.T) {
	scaled := queue + ",autoscaling.enabled=true"
	install(t, "replicas", "--set", queue+",worker.replicaCount=4")
	upgrade(t, "replicas", "--set", scaled)
	if n := at(get(t, "replicas", "deployment", "comfyrun-worker"), "spec", "replicas"); n != 4.0 {
		t.Errorf("%v workers after autoscaling was turned on, want 4", n)
	}
	kubectl(t, "scale", "-n", "replicas", "deployment/comfyrun-worker", "--replicas=6")
	upgrade(t, "replicas", "--set", scaled+",device=cpu")
	if n := at(get(t, "replicas", "deployment", "comfyrun-worker"), "spec", "replicas"); n != 6.0 {
		t.Errorf("%v workers after an upgrade, want the autoscaler's 6", n)
	}
	mustRun(t, helms[0], "uninstall", "comfyrun", "-n", "replicas", "--wait")
}

// The Job has a pod for each index, with the index in it.
func testBatch(t *testing.T) {
	install(t, "batch", "--set", "jobs.batch[0].name=nightly,jobs.batch[0].workflow=default,jobs.batch[0].shards=3,jobs.batch[0].parallelism=3,jobs.batch[0].outputClaim=pictures")
	eventually(t, "3 pods with an index each", func() bool {
		indexes := kubectl(t, "get", "pods", "-n", "batch", "-l", "app.kubernetes.io/component=batch", "--sort-by=.metadata.annotations.batch\\.kubernetes\\.io/job-completion-index",
			"-o", `jsonpath={.items[*].metadata.annotations.batch\.kubernetes\.io/job-completion-index}`)
		return indexes == "0 1 2"
	})
}

// What a bundle made and the chart mounts is what the cluster has, until somebody changes it by hand.
func testDrift(t *testing.T) {
	comfyrun := program(t)
	folder := bundleScenes(t, comfyrun, "--with", "helm", "--namespace", "drift")
	namespace(t, "drift")
	kubectl(t, "apply", "--server-side", "-f", folder+"/configmaps")
	upgrade(t, "drift", "-f", folder+"/values.yaml", "--set", "model.source=huggingface")
	drift := func() (string, error) {
		out, err := exec.Command(comfyrun, "drift", folder).CombinedOutput()
		return string(out), err
	}
	if out, err := drift(); err != nil {
		t.Errorf("drift after the installation: %v\n%s", err, out)
	}
	name := strings.Fields(kubectl(t, "get", "configmap", "-n", "drift", "-l", "comfyrun.github.io/bundle", "-o", "name"))[0]
	edited := strings.Replace(kubectl(t, "get", "-n", "drift", name, "-o", "yaml"), "sunset", "sunrise", 1)
	file := filepath.Join(t.TempDir(), "edited.yaml")
	writeFile(t, file, edited)
	if _, err := run(t, "kubectl", "replace", "-f", file); err == nil || !strings.Contains(err.Error(), "immutable") {
		t.Errorf("an edit of %s: %v, want that it is immutable", name, err)
	}
	kubectl(t, "replace", "--force", "-f", file)
	if out, err := drift(); err == nil || !strings.Contains(out, "edited") || !strings.Contains(out, "banner") {
		t.Errorf("drift after an edit of banner: %v\n%s", err, out)
	}
}

// Helmfile installs with each of the Helms, and runs its hooks before and after.
func testHelmfile(t *testing.T) {
	for _, helm := range helms {
		// Helmfile tells what hooks say on its standard error.
		data, err := exec.Command("helmfile", "-b", helm, "-f", "../helmfile/helmfile.yaml.gotmpl", "-e", "test", "sync").CombinedOutput()
		if out := string(data); err != nil || !strings.Contains(out, "comfyrun: image 0.1.0") || !strings.Contains(out, "successfully rolled out") {
			t.Errorf("%s: %v, or hooks that said nothing:\n%s", helm, err, out)
		}
	}
	mustRun(t, "helmfile", "-b", helms[0], "-f", "../helmfile/helmfile.yaml.gotmpl", "-e", "test", "destroy")
}
