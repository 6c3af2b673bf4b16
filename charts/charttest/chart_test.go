//go:build charts || render || cluster || keda

package charttest

import (
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// Every set of values passes the linter, and renders objects that the schemas of Kubernetes and of the operators take.
func TestRenders(t *testing.T) {
	for _, helm := range helms {
		for _, file := range valuesFiles(t) {
			t.Run(helm+"/"+filepath.Base(file), func(t *testing.T) {
				mustRun(t, helm, "lint", "--strict", chart, "-f", file, "--kube-version", version)
				render := mustTemplate(t, helm, "ai", "-f", file)
				conform(t, render)
				for _, o := range objects(t, render) {
					checkRestricted(t, o)
					checkMounts(t, o)
				}
			})
		}
	}
}

// Both programs render the same bytes but for the order of documents.
func TestHelmsAgree(t *testing.T) {
	for _, file := range valuesFiles(t) {
		var documents [][]string
		for _, helm := range helms {
			render := mustTemplate(t, helm, "ai", "-f", file)
			parts := strings.Split(render, "\n---\n")
			for i := range parts {
				parts[i] = strings.TrimSpace(strings.TrimPrefix(parts[i], "---"))
			}
			slices.Sort(parts)
			documents = append(documents, parts)
		}
		for i, d := range documents[1:] {
			if !slices.Equal(documents[0], d) {
				t.Errorf("%s: %s and %s render different documents", file, helms[0], helms[i+1])
			}
		}
	}
}

func conform(t *testing.T, render string) {
	t.Helper()
	if err := kubeconform(t, render); err != nil {
		t.Fatal(err)
	}
}

// kubeconform says what the schemas do not take of a render.
func kubeconform(t *testing.T, render string) error {
	t.Helper()
	file := filepath.Join(t.TempDir(), "render.yaml")
	writeFile(t, file, render)
	_, err := run(t, "kubeconform", "-strict", "-schema-location", schemas, file)
	return err
}

// Whatever selects pods finds some, also the rules that spread them.
func TestSelectors(t *testing.T) {
	for _, file := range valuesFiles(t) {
		render := mustTemplate(t, helms[0], "ai", "-f", file)
		var pods []object
		for _, o := range objects(t, render) {
			if podSpec(o) != nil {
				labels, _ := at(o, "spec", "template", "metadata", "labels").(object)
				pods = append(pods, labels)
			}
		}
		for _, o := range objects(t, render) {
			name := title(o)
			for _, selector := range selectors(o) {
				if !slices.ContainsFunc(pods, func(labels object) bool { return matches(selector, labels) }) {
					t.Errorf("%s: %s selects %v, which no pod has", file, name, selector)
				}
			}
			for _, spread := range list(podSpec(o), "topologySpreadConstraints") {
				labels, _ := at(o, "spec", "template", "metadata", "labels").(object)
				if selector, _ := at(spread, "labelSelector", "matchLabels").(object); !matches(selector, labels) {
					t.Errorf("%s: %s is spread by %v, which its pods do not have", file, name, selector)
				}
			}
		}
	}
}

func selectors(o object) (all []object) {
	for _, path := range [][]string{{"spec", "selector", "matchLabels"}, {"spec", "podSelector", "matchLabels"}, {"spec", "selector"}} {
		selector, _ := at(o, path...).(object)
		if _, nested := selector["matchLabels"]; len(selector) > 0 && !nested && o["kind"] != "ServiceMonitor" {
			all = append(all, selector)
		}
	}
	return all
}

func matches(selector, labels object) bool {
	for key, value := range selector {
		if labels[key] != value {
			return false
		}
	}
	return true
}

// The schemas are strict: what they let pass says something.
func TestSchemasRefuse(t *testing.T) {
	render := mustTemplate(t, helms[0], "ai")
	for _, change := range [][2]string{
		{"replicas: 1", "replicas: one"}, {"strategy:", "strategie:"}, {"apiVersion: apps/v1\n", "apiVersion: apps/v1beta2\n"},
		{"automountServiceAccountToken: false", "automountServiceAccountToken: \"no\""},
	} {
		broken := strings.Replace(render, change[0], change[1], 1)
		if broken == render {
			t.Errorf("%q is not in the render", change[0])
		}
		if kubeconform(t, broken) == nil {
			t.Errorf("%q is taken", change[1])
		}
	}
}

// checkRestricted checks what Pod Security's level restricted asks of pods, hostPath aside, which is asked for by name.
func checkRestricted(t *testing.T, o object) {
	t.Helper()
	pod := podSpec(o)
	if pod == nil {
		return
	}
	name := title(o)
	if at(pod, "securityContext", "runAsNonRoot") != true || text(pod, "securityContext", "seccompProfile", "type") != "RuntimeDefault" {
		t.Errorf("%s: security context of the pod: %v", name, pod["securityContext"])
	}
	if pod["automountServiceAccountToken"] != false {
		t.Errorf("%s mounts a token", name)
	}
	for _, c := range containers(pod) {
		if at(c, "securityContext", "allowPrivilegeEscalation") != false || at(c, "securityContext", "readOnlyRootFilesystem") != true ||
			!slices.Equal(list(c, "securityContext", "capabilities", "drop"), []any{"ALL"}) {
			t.Errorf("%s: security context of %s: %v", name, text(c, "name"), at(c, "securityContext"))
		}
		if at(c, "resources", "limits", "memory") == nil {
			t.Errorf("%s: %s has no memory limit", name, text(c, "name"))
		}
	}
}

// checkMounts finds mounts without a volume, which only a server refuses.
func checkMounts(t *testing.T, o object) {
	t.Helper()
	pod := podSpec(o)
	var volumes []string
	for _, v := range list(pod, "volumes") {
		volumes = append(volumes, text(v, "name"))
	}
	used := map[string]bool{}
	for _, c := range containers(pod) {
		for _, m := range list(c, "volumeMounts") {
			used[text(m, "name")] = true
			if !slices.Contains(volumes, text(m, "name")) {
				t.Errorf("%s: %s mounts %q, which is none of %v", title(o), text(c, "name"), text(m, "name"), volumes)
			}
		}
	}
	for _, v := range volumes {
		if !used[v] {
			t.Errorf("%s: nothing mounts volume %s", title(o), v)
		}
	}
}

const nats = "queue.mode=nats,queue.nats.url=nats://n:4222,outputs.url=s3://b/p"

func TestRefused(t *testing.T) {
	for _, test := range []struct{ set, want string }{
		{"image.tag=latest", "image.tag latest"},
		{"image.repository=comfyrun/comfyrun:latest", "/image/repository"},
		{"nameOverride=Studio", "/nameOverride"},
		{"podLabels.app\\.kubernetes\\.io/name=x", "podLabels: app.kubernetes.io/name is the chart's own"},
		{"device=gpu", "/device"},
		{"device=cuda:0\\,gpu", "/device"},
		{"device=cpu,gpu.enabled=true", "device cpu leaves the GPUs idle"},
		{"device=cuda:2,gpu.enabled=true,gpu.count=2", "device cuda:2 is not one of the pod's GPUs"},
		{"image.digest=sha256:12", "digest"},
		{"server.replicaCount=2", "server.replicaCount is 2, but queue.mode embedded takes exactly 1"},
		{"server.replicaCount=0", "server.replicaCount is 0, but queue.mode embedded takes exactly 1"},
		{"autoscaling.enabled=true", "autoscaling.enabled needs queue.mode nats"},
		{"queue.mode=redis", "mode"},
		{"queue.mode=nats", "queue.nats.url is empty"},
		{"queue.mode=nats,queue.nats.url=nats://n:4222", "outputs.url is empty"},
		{"queue.mode=nats,queue.nats.url=n:4222,outputs.url=s3://b/p", "url"},
		{nats + ",autoscaling.enabled=true", "queue.nats.monitoringEndpoint is empty"},
		{nats + ",autoscaling.enabled=true,autoscaling.kind=hpa,autoscaling.minReplicas=0", "autoscaling.minReplicas 0 needs autoscaling.kind keda"},
		{nats + ",autoscaling.enabled=true,autoscaling.kind=hpa,autoscaling.minReplicas=5", "autoscaling.minReplicas 5 is more than autoscaling.maxReplicas 4"},
		{"model.source=s3,model.lock=x", "model.s3.bucket is empty, but model.source is s3"},
		{"model.source=s3,model.s3.bucket=models,model.lock=sources: s3://other/x", "model.s3.bucket: no source in model.lock begins with s3://models/"},
		{"model.source=huggingface", "model.lock and model.lockConfigMap are empty"},
		{"model.source=local", "model.cache.type emptyDir has no models"},
		{"model.source=local,model.cache.type=pvc", "model.cache.existingClaim is empty"},
		{"model.source=local,model.cache.type=image", "image"},
		{"model.source=local,model.cache.type=image,model.cache.image=models:v1", "image"},
		{"model.source=ftp", "source"},
		{"jobs.prefetch.enabled=true", "jobs.prefetch.enabled needs model.source"},
		{"jobs.prefetch.enabled=true,model.source=huggingface,model.lock=x", "jobs.prefetch.enabled needs model.cache.type pvc, not emptyDir"},
		{"jobs.batch[0].name=a,jobs.batch[0].workflow=default,jobs.batch[0].shards=2,jobs.batch[0].outputClaim=c,jobs.batch[0].parallelism=3",
			`jobs.batch "a": parallelism 3 is more than shards 2`},
		{"workflows.chartFiles=false,jobs.batch[0].name=a,jobs.batch[0].workflow=x,jobs.batch[0].shards=2,jobs.batch[0].outputClaim=c", `jobs.batch "a": workflow "x" is named`},
		{"workflows.chartFiles=false,workflows.warmup[0]=x", `workflow "x" is named`},
		{"auth.existingSecret=", "existingSecret"},
		{"model.cache.accessMode=ReadOnlyMany", "/model/cache/accessMode"},
		{"extraEnv[0].name=DEBUG,extraEnv[0].value=true", "/extraEnv/0/value"},
		{"service.type=Bogus", "type"},
		{"ingress.enabled=true", "hosts"},
		{"podDisruptionBudget.maxUnavailable=0", "/podDisruptionBudget/maxUnavailable"},
		{"httpRoute.enabled=true", "parentRefs"},
		{"replicas=2", "additional properties 'replicas' not allowed"},
		{"server.replicas=2", "'/server': additional properties 'replicas' not allowed"},
		{"gpu.count=0", "count"},
		{"queue.lease=30", "lease"},
	} {
		for _, helm := range helms {
			t.Run(helm+"/"+test.set, func(t *testing.T) {
				_, err := template(t, helm, "ai", "--set", test.set)
				if err == nil || !strings.Contains(err.Error(), test.want) {
					t.Errorf("refused with %v, want %q", err, test.want)
				}
			})
		}
	}
}

func TestUnit(t *testing.T) {
	mustRun(t, "helm-unittest", "--strict", chart)
}
