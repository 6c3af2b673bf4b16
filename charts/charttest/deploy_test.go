//go:build cluster

package charttest

import (
	"path/filepath"
	"strings"
	"testing"
)

// Whatever switches are on together, the server takes what comes out.
func testCombinations(t *testing.T) {
	for number := range uint64(30) {
		render, what := combine(t, helms[number%uint64(len(helms))], "ai", number)
		if checkDryRun(t, "ai", "render", render); t.Failed() {
			t.Fatal(what)
		}
	}
}

// volume makes a volume for a claim of the chart, as there is nothing that provides them.
func volume(t *testing.T, ns, claim, size, mode string) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "volume.yaml")
	writeYAML(t, file, object{
		"apiVersion": "v1", "kind": "PersistentVolume", "metadata": object{"name": ns + "-" + claim},
		"spec": object{
			"capacity": object{"storage": size}, "accessModes": []string{mode}, "hostPath": object{"path": "/" + claim},
			"claimRef": object{"namespace": ns, "name": claim}, "persistentVolumeReclaimPolicy": "Retain",
		},
	})
	kubectl(t, "create", "-f", file)
}

// The examples' pipelines run to their end: their own commands install in staging, then in production, change it, and take that back.
func testPipeline(t *testing.T) {
	namespace(t, "comfyrun-staging") // production's is there
	volume(t, "comfyrun-staging", "comfyrun-models", "100Gi", "ReadWriteMany")
	volume(t, "comfyrun-prod", "comfyrun-models", "500Gi", "ReadWriteMany")
	for name, open := range pipelines {
		t.Run(name, func(t *testing.T) { runPipeline(t, open(t)) })
	}
}

func runPipeline(t *testing.T, p *pipeline) {
	t.Helper()
	image := func() string {
		return text(containers(podSpec(get(t, "comfyrun-prod", "deployment", "comfyrun-worker")))[0], "image")
	}
	variables := map[string]string{"STAGING_CONTEXT": "local", "PRODUCTION_CONTEXT": "local"}
	for _, letter := range []string{"a", "b"} {
		variables["IMAGE_DIGEST"] = digest(letter)
		for _, job := range []string{"lint", "render", "validate", "dry-run", "staging", "production"} {
			log := p.mustRun(t, helms[0], job, variables)
			if job == "production" && letter == "b" && !strings.Contains(log, "+        image: comfyrun/comfyrun@"+digest("b")) {
				t.Errorf("the log of production does not show the change of the image:\n%s", log)
			}
		}
		if got := image(); !strings.HasSuffix(got, digest(letter)) {
			t.Errorf("production has %s, want %s", got, digest(letter))
		}
	}
	p.mustRun(t, helms[0], "rollback", variables)
	if got := image(); !strings.HasSuffix(got, digest("a")) {
		t.Errorf("rolled back to %s, want %s", got, digest("a"))
	}
	// What the server refuses goes no further than the dry run.
	p.replace(t, "templates/service.yaml", "type: {{ .Values.service.type }}", "type: Bogus")
	for _, job := range []string{"render", "validate"} {
		p.mustRun(t, helms[0], job, variables)
	}
	if failed, log := p.run(t, helms[0], "dry-run", variables); failed == "" || !strings.Contains(log, "Bogus") {
		t.Errorf("the dry run of a service of type Bogus: failed line %q\n%s", failed, log)
	}
	for _, ns := range []string{"comfyrun-staging", "comfyrun-prod"} {
		mustRun(t, helms[0], "uninstall", "comfyrun", "-n", ns, "--wait")
	}
}

// Two releases live in one namespace, each with pods of its own, and the longest name is not too long for any object.
func testNames(t *testing.T) {
	namespace(t, "names")
	for _, release := range difficultReleases {
		mustRun(t, helms[0], "install", release, chart, "-n", "names", "-f", chart+"/values-test.yaml", "--wait", "--timeout", "60s", "--set", queue, "--set",
			"jobs.batch[0].name=twelve-chars,jobs.batch[0].workflow=default,jobs.batch[0].shards=1000,jobs.batch[0].outputClaim=o,metrics.rules.enabled=true,networkPolicy.enabled=true")
		mustRun(t, helms[0], "test", release, "-n", "names")
		for _, component := range []string{"server", "worker"} {
			pods := kubectl(t, "get", "pods", "-n", "names", "-l", "app.kubernetes.io/instance="+release+",app.kubernetes.io/component="+component, "-o", "name")
			if len(strings.Fields(pods)) != 1 {
				t.Errorf("%s has the pods %q of %s, want one", release, pods, component)
			}
		}
	}
	slices := kubectl(t, "get", "endpointslices", "-n", "names", "-l", "kubernetes.io/service-name=shop-v2-comfyrun", "-o", "jsonpath={.items[*].endpoints[*].targetRef.name}")
	if len(strings.Fields(slices)) != 1 || !strings.HasPrefix(slices, "shop-v2-comfyrun-") {
		t.Errorf("the Service of one release leads to %q", slices)
	}
	for _, release := range difficultReleases {
		mustRun(t, helms[0], "uninstall", release, "-n", "names", "--wait")
	}
}

// A changed image is a new Job: an upgrade does not fail because Jobs cannot be changed.
func testJobs(t *testing.T) {
	job := "jobs.batch[0].name=nightly,jobs.batch[0].workflow=default,jobs.batch[0].shards=2,jobs.batch[0].outputClaim=o"
	install(t, "jobs", "--set", job)
	first := kubectl(t, "get", "jobs", "-n", "jobs", "-o", "name")
	upgrade(t, "jobs", "--set", job, "--set", "image.digest="+digest("a"))
	second := kubectl(t, "get", "jobs", "-n", "jobs", "-o", "name")
	if first == second || len(strings.Fields(second)) != 1 {
		t.Errorf("Jobs %q, then %q, want one each", first, second)
	}
	upgrade(t, "jobs", "--set", job, "--set", "image.digest="+digest("a"), "--set", "server.extraArgs[0]=--compress")
	if third := kubectl(t, "get", "jobs", "-n", "jobs", "-o", "name"); third != second {
		t.Errorf("Job %q after an upgrade that does not concern it, want %q", third, second)
	}
}

// A changed workflow of a bundle is a new ConfigMap beside the old one, and new pods, which mount it; back is back.
func testChangedWorkflow(t *testing.T) {
	comfyrun := program(t)
	namespace(t, "changed")
	source := filepath.Join(t.TempDir(), "banner.json")
	workflow := readFile(t, "../helmfile/scenes/comfyui-marketing/banner.json")
	deploy := func(content string) (configMap, pod string) {
		writeFile(t, source, content)
		folder := bundle(t, comfyrun, source, "--with", "helm", "--namespace", "changed")
		kubectl(t, "apply", "--server-side", "-f", folder+"/configmaps")
		upgrade(t, "changed", "-f", folder+"/values.yaml")
		return mountedWorkflow(t, "changed"), podName(t, "changed")
	}
	first, firstPod := deploy(workflow)
	second, secondPod := deploy(strings.Replace(workflow, "sunset", "sunrise", 1))
	if first == second || firstPod == secondPod || !strings.HasPrefix(second, "comfyrun-banner-") {
		t.Errorf("a changed workflow: ConfigMaps %s, then %s; pods %s, then %s", first, second, firstPod, secondPod)
	}
	kubectl(t, "get", "configmap", "-n", "changed", first, second)
	mustRun(t, helms[0], "rollback", "comfyrun", "1", "-n", "changed", "--wait", "--timeout", "60s")
	if now := mountedWorkflow(t, "changed"); now != first {
		t.Errorf("rolled back to %s, want %s", now, first)
	}
}

// mountedWorkflow returns the ConfigMap that the running pod of a namespace has as its workflows.
func mountedWorkflow(t *testing.T, ns string) string {
	t.Helper()
	pod := get(t, ns, "pod", podName(t, ns))
	for _, v := range list(pod, "spec", "volumes") {
		if text(v, "name") == "workflows" {
			return text(list(v, "projected", "sources")[0], "configMap", "name")
		}
	}
	t.Fatalf("%s has no workflows", podName(t, ns))
	return ""
}

// Every environment of the Helmfile makes objects that the server takes.
func testHelmfileEnvironments(t *testing.T) {
	t.Setenv("SOPS_AGE_KEY_FILE", absolute(t, "testdata/example-age.key"))
	namespace(t, "comfyrun-scenes")
	for _, environment := range []string{"staging", "scenes"} {
		checkDryRun(t, "comfyrun-"+environment, "helmfile -e "+environment, helmfile(t, environment))
	}
}
