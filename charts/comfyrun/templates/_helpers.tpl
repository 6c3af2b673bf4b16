{{- define "comfyrun.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 50 | trimAll "-" -}}
{{- end -}}

{{/* What the names of all objects begin with. Names of releases may have dots, names of Services may not. */}}
{{- define "comfyrun.fullname" -}}
{{- $name := .Values.fullnameOverride -}}
{{- if not $name -}}
{{- $name = .Release.Name | replace "." "-" -}}
{{- if not (contains (include "comfyrun.name" .) $name) -}}
{{- $name = printf "%s-%s" $name (include "comfyrun.name" .) -}}
{{- end -}}
{{- end -}}
{{- $name | trunc 50 | trimAll "-" -}}
{{- end -}}

{{/* Name of a Job: dict "root" . "name" … "content" …. It cannot be changed, so another content is another name. With the
longest name and index, the names of its pods still have less than 64 letters. */}}
{{- define "comfyrun.jobName" -}}
{{- printf "%s-%s-%s" (include "comfyrun.fullname" .root | trunc 36 | trimAll "-") .name (sha256sum .content | trunc 8) -}}
{{- end -}}

{{- define "comfyrun.selector" -}}
app.kubernetes.io/name: {{ include "comfyrun.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "comfyrun.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{ include "comfyrun.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end -}}

{{- define "comfyrun.serviceAccount" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "comfyrun.fullname" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- default "default" .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{/* The image: that of CUDA where GPUs are asked for, unless a tag or digest names one. */}}
{{- define "comfyrun.image" -}}
{{- if .Values.image.digest -}}
{{- printf "%s@%s" .Values.image.repository .Values.image.digest -}}
{{- else -}}
{{- printf "%s:%s" .Values.image.repository (default (print .Chart.AppVersion (ternary "-cuda" "" .Values.gpu.enabled)) .Values.image.tag) -}}
{{- end -}}
{{- end -}}

{{/* --device of what computes; empty: the program's own. */}}
{{- define "comfyrun.device" -}}
{{- default (ternary "cuda" "" .Values.gpu.enabled) .Values.device -}}
{{- end -}}

{{- define "comfyrun.nats" -}}{{ if eq .Values.queue.mode "nats" }}true{{ end }}{{- end -}}

{{/* Whether the model cache is filled by models fetch. */}}
{{- define "comfyrun.fetches" -}}
{{- if has .Values.model.source (list "s3" "oss" "huggingface") -}}true{{- end -}}
{{- end -}}

{{/* Whether there is a models.lock that runs are held to. */}}
{{- define "comfyrun.locked" -}}
{{- if and (ne .Values.model.source "none") (or .Values.model.lock .Values.model.lockConfigMap) -}}true{{- end -}}
{{- end -}}

{{/* The folder that --models names. A fetched cache is a home, with the names in its models folder. */}}
{{- define "comfyrun.modelsFolder" -}}
{{- if include "comfyrun.fetches" . -}}/cache/models
{{- else if .Values.model.path -}}/cache/{{ trimPrefix "/" .Values.model.path }}
{{- else -}}/cache{{- end -}}
{{- end -}}

{{- define "comfyrun.workflowMaps" -}}
{{- $names := list -}}
{{- if or .Values.workflows.chartFiles .Values.workflows.inline -}}
{{- $names = append $names (printf "%s-workflows" (include "comfyrun.fullname" .)) -}}
{{- end -}}
{{- concat $names .Values.workflows.configMaps | toJson -}}
{{- end -}}

{{- define "comfyrun.cacheClaim" -}}
{{- default (printf "%s-models" (include "comfyrun.fullname" .)) .Values.model.cache.existingClaim -}}
{{- end -}}

{{- define "comfyrun.dataClaim" -}}
{{- default (printf "%s-data" (include "comfyrun.fullname" .)) .Values.data.existingClaim -}}
{{- end -}}

{{/* Requests and limits, with GPUs where something computes: dict "root" . "resources" … "computes" … and "gpus", if not gpu.count. */}}
{{- define "comfyrun.resources" -}}
{{- $r := deepCopy .resources -}}
{{- $gpu := .root.Values.gpu -}}
{{- if and .computes $gpu.enabled -}}
{{- $count := dict $gpu.resourceName (int (default $gpu.count .gpus)) -}}
{{- $_ := set $r "requests" (merge (dict) $count (default (dict) $r.requests)) -}}
{{- $_ := set $r "limits" (merge (dict) $count (default (dict) $r.limits)) -}}
{{- end -}}
{{- toYaml $r -}}
{{- end -}}
