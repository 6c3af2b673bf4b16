{{/* Combinations of values that cannot work; each message names the value. */}}
{{- define "comfyrun.validate" -}}
{{- $v := .Values -}}
{{- $nats := include "comfyrun.nats" . -}}
{{- if eq $v.image.tag "latest" -}}
{{- fail "image.tag latest names another image every day: use a version, or image.digest" -}}
{{- end -}}
{{- if not (regexMatch "^[a-z]" (include "comfyrun.fullname" .)) -}}
{{- fail (printf "release %q gives names that do not begin with a letter: set fullnameOverride" .Release.Name) -}}
{{- end -}}
{{- if not $nats -}}
{{- if ne (int $v.server.replicaCount) 1 -}}
{{- fail (printf "server.replicaCount is %d, but queue.mode embedded takes exactly 1: the queue is in the process" (int $v.server.replicaCount)) -}}
{{- end -}}
{{- if $v.autoscaling.enabled -}}
{{- fail "autoscaling.enabled needs queue.mode nats: the embedded queue takes exactly one replica" -}}
{{- end -}}
{{- else -}}
{{- if not $v.queue.nats.url -}}{{- fail "queue.nats.url is empty, but queue.mode is nats" -}}{{- end -}}
{{- if not $v.outputs.url -}}
{{- fail "outputs.url is empty, but queue.mode is nats: servers fetch the pictures of workers from object storage" -}}
{{- end -}}
{{- end -}}
{{- if and $v.autoscaling.enabled (gt (int $v.autoscaling.minReplicas) (int $v.autoscaling.maxReplicas)) -}}
{{- fail (printf "autoscaling.minReplicas %d is more than autoscaling.maxReplicas %d" (int $v.autoscaling.minReplicas) (int $v.autoscaling.maxReplicas)) -}}
{{- end -}}
{{- if and $v.autoscaling.enabled (eq $v.autoscaling.kind "keda") (not $v.queue.nats.monitoringEndpoint) -}}
{{- fail "queue.nats.monitoringEndpoint is empty, but autoscaling.kind keda reads the queue there" -}}
{{- end -}}
{{- if and $v.autoscaling.enabled (eq $v.autoscaling.kind "hpa") (lt (int $v.autoscaling.minReplicas) 1) -}}
{{- fail "autoscaling.minReplicas 0 needs autoscaling.kind keda" -}}
{{- end -}}
{{- range $label, $_ := $v.podLabels -}}
{{- if has $label (list "app.kubernetes.io/name" "app.kubernetes.io/instance" "app.kubernetes.io/component" "comfyrun.github.io/metrics") -}}
{{- fail (printf "podLabels: %s is the chart's own, which finds its pods by it" $label) -}}
{{- end -}}
{{- end -}}
{{- include "comfyrun.validateDevice" . -}}
{{- include "comfyrun.validateModel" . -}}
{{- include "comfyrun.validateWorkflows" . -}}
{{- end -}}

{{- define "comfyrun.validateDevice" -}}
{{- $v := .Values -}}
{{- if $v.gpu.enabled -}}
{{- if and $v.device (not (regexMatch "auto|cuda" $v.device)) -}}
{{- fail (printf "device %s leaves the GPUs idle that gpu.enabled asks for: use cuda or auto" $v.device) -}}
{{- end -}}
{{- range splitList "," $v.device -}}
{{- if and (hasPrefix "cuda:" .) (ge (atoi (trimPrefix "cuda:" .)) (int $v.gpu.count)) -}}
{{- fail (printf "device %s is not one of the pod's GPUs, which count from 0: gpu.count is %d" . (int $v.gpu.count)) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "comfyrun.validateModel" -}}
{{- $m := .Values.model -}}
{{- if include "comfyrun.fetches" . -}}
{{- if not (or $m.lock $m.lockConfigMap) -}}
{{- fail (printf "model.lock and model.lockConfigMap are empty, but model.source %s fetches what they pin" $m.source) -}}
{{- end -}}
{{- if eq $m.cache.type "image" -}}
{{- fail (printf "model.cache.type image is read-only, but model.source %s fetches into it: use model.source local" $m.source) -}}
{{- end -}}
{{- end -}}
{{- if has $m.source (list "s3" "oss") -}}
{{- if not $m.s3.bucket -}}{{- fail (printf "model.s3.bucket is empty, but model.source is %s" $m.source) -}}{{- end -}}
{{- if and $m.lock (not (contains (printf "%s://%s/" $m.source $m.s3.bucket) $m.lock)) -}}
{{- fail (printf "model.s3.bucket: no source in model.lock begins with %s://%s/" $m.source $m.s3.bucket) -}}
{{- end -}}
{{- end -}}
{{- if and (eq $m.source "local") (eq $m.cache.type "emptyDir") -}}
{{- fail "model.cache.type emptyDir has no models, but model.source is local: use pvc, hostPath or image" -}}
{{- end -}}
{{- if and (eq $m.source "local") (eq $m.cache.type "pvc") (not $m.cache.existingClaim) -}}
{{- fail "model.cache.existingClaim is empty, but model.source local needs a claim that has models" -}}
{{- end -}}
{{- if and (eq $m.cache.type "image") (not (contains "@sha256:" $m.cache.image)) -}}
{{- fail (printf "model.cache.image %q names no digest (NAME@sha256:…)" $m.cache.image) -}}
{{- end -}}
{{- if .Values.jobs.prefetch.enabled -}}
{{- if not (include "comfyrun.fetches" .) -}}{{- fail (printf "jobs.prefetch.enabled needs model.source s3, oss or huggingface, not %s" $m.source) -}}{{- end -}}
{{- if ne $m.cache.type "pvc" -}}{{- fail (printf "jobs.prefetch.enabled needs model.cache.type pvc, not %s: nothing else is shared with the pods" $m.cache.type) -}}{{- end -}}
{{- end -}}
{{- end -}}

{{- define "comfyrun.validateWorkflows" -}}
{{- $maps := include "comfyrun.workflowMaps" . | fromJsonArray -}}
{{- range $name := concat .Values.workflows.warmup .Values.model.for -}}
{{- if not $maps -}}{{- fail (printf "workflow %q is named, but workflows.chartFiles, workflows.inline and workflows.configMaps are empty" $name) -}}{{- end -}}
{{- end -}}
{{- range .Values.jobs.batch -}}
{{- if not $maps -}}{{- fail (printf "jobs.batch %q: workflow %q is named, but workflows.chartFiles, workflows.inline and workflows.configMaps are empty" .name .workflow) -}}{{- end -}}
{{- if gt (int (default 1 .parallelism)) (int .shards) -}}
{{- fail (printf "jobs.batch %q: parallelism %d is more than shards %d" .name (int .parallelism) (int .shards)) -}}
{{- end -}}
{{- end -}}
{{- end -}}
