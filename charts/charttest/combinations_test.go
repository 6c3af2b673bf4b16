//go:build charts || render || cluster

package charttest

import (
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"strings"
	"testing"
)

// option is what a switch of the chart can be set to: arguments of --set.
type option struct {
	set  string
	with string // only where this is in what was chosen before
	not  string // only where this is not in it
}

func always(sets ...string) []option {
	options := []option{{}}
	for _, set := range sets {
		options = append(options, option{set: set})
	}
	return options
}

const batchJob = "jobs.batch[0].name=a,jobs.batch[0].workflow=default,jobs.batch[0].shards=4,jobs.batch[0].outputClaim=o,jobs.batch[0].resources.limits.memory=1Gi"

// switches are those of the chart, in an order in which none depends on a later one.
var switches = [][]option{
	always(nats,
		"queue.mode=nats,queue.nats.url=tls://n:4222,queue.nats.credentialsSecret=nats,outputs.url=s3://b/p,outputs.existingSecret=keys,server.replicaCount=3"),
	always("auth.mode=none"),
	always("model.source=s3,model.lock=s3://m/x,model.s3.bucket=m", "model.source=s3,model.lockConfigMap=lock,model.s3.bucket=m,model.s3.existingSecret=keys,model.cache.type=pvc",
		"model.source=oss,model.lockConfigMap=lock,model.s3.bucket=m,model.cache.type=pvc,model.cache.existingClaim=c",
		"model.source=huggingface,model.lock=x,model.huggingface.existingSecret=hf,model.cache.type=hostPath",
		"model.source=local,model.cache.type=pvc,model.cache.existingClaim=c,model.path=a/b", "model.source=local,model.cache.type=hostPath",
		"model.source=local,model.cache.type=image,model.cache.image=m@"+digest("b")),
	{{}, {set: "autoscaling.enabled=true,queue.nats.monitoringEndpoint=n:8222,autoscaling.minReplicas=0", with: "mode=nats"},
		{set: "autoscaling.enabled=true,autoscaling.kind=hpa", with: "mode=nats"}, {set: "worker.replicaCount=0", with: "mode=nats"}},
	always("httpRoute.enabled=true,httpRoute.parentRefs[0].name=g", "httpRoute.enabled=true,httpRoute.parentRefs[0].name=g,httpRoute.canary.service=c,httpRoute.hostnames[0]=a.example.com",
		"ingress.enabled=true,ingress.hosts[0]=a.example.com", "ingress.enabled=true,ingress.hosts[0]=a.example.com,ingress.className=nginx,ingress.tls[0].secretName=tls"),
	always("workflows.chartFiles=false", "workflows.chartFiles=false,workflows.configMaps[0]=a-0123456789,workflows.warmup[0]=a", `workflows.inline.a\.json=\{\}`),
	{{}, {set: "jobs.prefetch.enabled=true", with: "cache.type=pvc", not: "source=local"}},
	{{}, {set: batchJob, not: "chartFiles=false"}},
	always("metrics.serviceMonitor.enabled=true", "metrics.serviceMonitor.enabled=true,metrics.rules.enabled=true,metrics.dashboard.enabled=true"),
	always("networkPolicy.enabled=true", "networkPolicy.enabled=true,networkPolicy.egressPorts=null,networkPolicy.ingressFrom[0].podSelector.matchLabels.a=b"),
	always("gpu.enabled=true", "gpu.enabled=true,gpu.count=2,gpu.resourceName=nvidia.com/mig-1g.10gb,gpu.products[0]=A100,gpu.runtimeClassName=nvidia,gpu.toleration=false,device=auto"),
	always("data.persistent=false", "data.existingClaim=d,data.storageClassName=fast"),
	always("fullnameOverride=studio", "nameOverride=studio"),
	always("serviceAccount.create=false", "serviceAccount.name=a,rbac.rules[0].apiGroups[0]=,rbac.rules[0].resources[0]=pods,rbac.rules[0].verbs[0]=get"),
	always("podDisruptionBudget.enabled=false", "podDisruptionBudget.maxUnavailable=50%,podLabels.team=art,podAnnotations.a=b,policy=a = 1,service.type=NodePort"),
	always("extraEnv[0].name=A,extraEnv[0].value=b,extraVolumes[0].name=x,extraVolumes[0].emptyDir.sizeLimit=1Gi,extraVolumeMounts[0].name=x,extraVolumeMounts[0].mountPath=/x"),
}

func (o option) fits(chosen string) bool {
	return strings.Contains(chosen, o.with) && (o.not == "" || !strings.Contains(chosen, o.not))
}

// combination picks an option of each switch; the same number gives the same.
func combination(number uint64) []string {
	random := rand.New(rand.NewPCG(number, 0))
	var chosen []string
	for _, options := range switches {
		o := options[random.IntN(len(options))]
		if o.set != "" && o.fits(strings.Join(chosen, ",")) {
			chosen = append(chosen, o.set)
		}
	}
	return chosen
}

// difficultReleases have names with a dot, which Services may not have, and as long as Helm takes them.
var difficultReleases = []string{"shop.v2", "a-release-whose-name-is-as-long-as-helm-lets-it-be-53"}

// combine renders a combination under a name of a release that may be one of the difficult ones.
func combine(t *testing.T, helm, ns string, number uint64) (render, what string) {
	t.Helper()
	release := append([]string{"comfyrun"}, difficultReleases...)[number%3]
	args := []string{"template", release, chart, "-n", ns, "--kube-version", version}
	chosen := combination(number)
	for _, value := range chosen {
		args = append(args, "--set", value)
	}
	render, err := run(t, helm, args...)
	if err != nil {
		t.Fatal(err)
	}
	return render, fmt.Sprintf("combination %d, release %s: %s", number, release, strings.Join(chosen, " "))
}

// Whatever switches are on together, what comes out is valid.
func TestCombinations(t *testing.T) {
	folder := t.TempDir()
	for number := range uint64(80) {
		render, what := combine(t, helms[number%uint64(len(helms))], "ai", number)
		writeFile(t, filepath.Join(folder, fmt.Sprintf("%d.yaml", number)), render)
		seen := map[string]bool{}
		for _, o := range objects(t, render) {
			checkRestricted(t, o)
			checkMounts(t, o)
			name := title(o)
			if seen[name] || len(text(o, "metadata", "name")) > 63 {
				t.Errorf("%s is there twice, or too long a name", name)
			}
			seen[name] = true
		}
		if t.Failed() {
			t.Fatal(what)
		}
	}
	mustRun(t, "kubeconform", "-strict", "-schema-location", schemas, folder)
}
