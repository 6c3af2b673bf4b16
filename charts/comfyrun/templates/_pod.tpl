{{/* Metadata of pods: dict "root" . "component" … */}}
{{- define "comfyrun.podMetadata" -}}
{{- $root := .root -}}
annotations:
  checksum/config: {{ include (print $root.Template.BasePath "/configmap.yaml") $root | sha256sum }}
  checksum/workflows: {{ include (print $root.Template.BasePath "/workflows.yaml") $root | sha256sum }}
  {{- with $root.Values.podAnnotations }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
labels:
  {{- include "comfyrun.selector" $root | nindent 2 }}
  app.kubernetes.io/component: {{ .component }}
  comfyrun.github.io/metrics: "true"
  {{- with $root.Values.podLabels }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- end -}}

{{/* What every pod of comfyrun begins with. */}}
{{- define "comfyrun.podHead" -}}
serviceAccountName: {{ include "comfyrun.serviceAccount" . }}
{{- with .Values.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{ include "comfyrun.podSecurity" . }}
{{- end -}}

{{- define "comfyrun.podSecurity" -}}
automountServiceAccountToken: false
enableServiceLinks: false
{{- with .Values.image.pullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . }}
  {{- end }}
{{- end }}
securityContext:
  {{- toYaml .Values.podSecurityContext | nindent 2 }}
{{- end -}}

{{/* Where pods run: dict "root" . "placement" (server or worker values) "computes" … */}}
{{- define "comfyrun.placement" -}}
{{- $gpu := .root.Values.gpu -}}
{{- $onGPU := and .computes $gpu.enabled -}}
{{- if and $onGPU $gpu.runtimeClassName }}
runtimeClassName: {{ $gpu.runtimeClassName }}
{{- end }}
{{- with .placement.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- $tolerations := .placement.tolerations }}
{{- if and $onGPU $gpu.toleration }}
{{- $tolerations = append $tolerations (dict "key" "nvidia.com/gpu" "operator" "Exists" "effect" "NoSchedule") }}
{{- end }}
{{- with $tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- $affinity := deepCopy .placement.affinity }}
{{- if and $onGPU $gpu.products }}
{{- $product := dict "key" "nvidia.com/gpu.product" "operator" "In" "values" $gpu.products }}
{{- $terms := list }}
{{- /* One term of several is enough for the scheduler, so each of them gets the condition. */}}
{{- range dig "nodeAffinity" "requiredDuringSchedulingIgnoredDuringExecution" "nodeSelectorTerms" (list dict) $affinity }}
{{- $terms = append $terms (set . "matchExpressions" (append (default list .matchExpressions) $product)) }}
{{- end }}
{{- $node := set (default dict $affinity.nodeAffinity) "requiredDuringSchedulingIgnoredDuringExecution" (dict "nodeSelectorTerms" $terms) }}
{{- $affinity = set $affinity "nodeAffinity" $node }}
{{- end }}
{{- with $affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .placement.topologySpreadConstraints }}
topologySpreadConstraints:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{/* Image and security of each container. */}}
{{- define "comfyrun.container" -}}
image: {{ include "comfyrun.image" . | quote }}
imagePullPolicy: {{ .Values.image.pullPolicy }}
securityContext:
  {{- toYaml .Values.securityContext | nindent 2 }}
{{- end -}}

{{- define "comfyrun.secretEnv" -}}
- name: {{ .key }}
  valueFrom: {secretKeyRef: {name: {{ .secret }}, key: {{ .key }}}}
{{- end -}}

{{/* Environment of serve and worker. */}}
{{- define "comfyrun.env" -}}
- {name: COMFYRUN_HOME, value: /data}
- {name: HOME, value: /data}
{{- with .Values.outputs.existingSecret }}
{{ include "comfyrun.secretEnv" (dict "secret" . "key" "AWS_ACCESS_KEY_ID") }}
{{ include "comfyrun.secretEnv" (dict "secret" . "key" "AWS_SECRET_ACCESS_KEY") }}
{{- end }}
{{- with .Values.extraEnv }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* Arguments that serve and worker share: dict "root" . "computes" … */}}
{{- define "comfyrun.sharedArgs" -}}
{{- $v := .root.Values -}}
- --queue-name={{ $v.queue.name }}
- --max-queued={{ int $v.queue.maxQueued }}
- --max-history={{ int $v.queue.maxHistory }}
- --max-attempts={{ int $v.queue.maxAttempts }}
- --lease={{ $v.queue.lease }}
- --drain-timeout={{ sub (int $v.terminationGracePeriodSeconds) 15 }}s
{{- if eq $v.queue.mode "nats" }}
- --nats={{ $v.queue.nats.url }}
- --queue-replicas={{ int $v.queue.nats.replicas }}
{{- if $v.queue.nats.credentialsSecret }}
- --nats-credentials=/etc/comfyrun/nats/nats.creds
{{- end }}
{{- end }}
{{- if ne $v.model.source "none" }}
- --models={{ include "comfyrun.modelsFolder" .root }}
{{- end }}
{{- if include "comfyrun.locked" .root }}
- --lock=/etc/comfyrun/lock/models.lock
{{- end }}
{{- if include "comfyrun.workflowMaps" .root | fromJsonArray }}
- --nodes=/workflows
{{- end }}
{{- with $v.outputs.url }}
- --outputs={{ . }}
{{- end }}
{{- if .computes }}
{{- with include "comfyrun.device" .root }}
- --device={{ . }}
{{- end }}
{{- range $v.workflows.warmup }}
- --warmup=/workflows/{{ . }}.json
{{- end }}
{{- end }}
{{- end -}}

{{- define "comfyrun.mounts" -}}
- {name: data, mountPath: /data}
- {name: tmp, mountPath: /tmp}
{{- if ne .Values.model.source "none" }}
- {name: models, mountPath: /cache, readOnly: true}
{{- end }}
{{- if include "comfyrun.locked" . }}
- {name: lock, mountPath: /etc/comfyrun/lock, readOnly: true}
{{- end }}
{{- if include "comfyrun.workflowMaps" . | fromJsonArray }}
- {name: workflows, mountPath: /workflows, readOnly: true}
{{- end }}
{{- with .Values.extraVolumeMounts }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* What reaches the queue needs its credentials; Jobs do not. */}}
{{- define "comfyrun.natsMount" -}}
{{- if and (include "comfyrun.nats" .) .Values.queue.nats.credentialsSecret -}}
- {name: nats, mountPath: /etc/comfyrun/nats, readOnly: true}
{{- end -}}
{{- end -}}

{{- define "comfyrun.natsVolume" -}}
{{- if and (include "comfyrun.nats" .) .Values.queue.nats.credentialsSecret -}}
- name: nats
  secret: {secretName: {{ .Values.queue.nats.credentialsSecret }}, items: [{key: nats.creds, path: nats.creds}]}
{{- end -}}
{{- end -}}

{{/* The init container that fills the cache, with the program's own image. */}}
{{- define "comfyrun.fetch" -}}
{{- $m := .Values.model -}}
- name: models
  {{- include "comfyrun.container" . | nindent 2 }}
  args:
    - models
    - fetch
    - --home=/cache
    - --lock=/etc/comfyrun/lock/models.lock
    {{- range $m.for }}
    - --for=/workflows/{{ . }}.json
    {{- end }}
    {{- if $m.for }}
    - --nodes=/workflows
    {{- end }}
    {{- with $m.rate }}
    - --rate={{ . }}
    {{- end }}
    {{- if has $m.source (list "s3" "oss") }}
    {{- with $m.s3.endpoint }}
    - --s3-endpoint={{ . }}
    {{- end }}
    {{- with $m.s3.region }}
    - --s3-region={{ . }}
    {{- end }}
    {{- with $m.s3.style }}
    - --s3-style={{ . }}
    {{- end }}
    {{- end }}
    {{- if eq $m.source "huggingface" }}
    {{- with $m.huggingface.endpoint }}
    - --hf-endpoint={{ . }}
    {{- end }}
    {{- end }}
  env:
    - {name: HOME, value: /tmp}
    {{- if has $m.source (list "s3" "oss") }}
    {{- with $m.s3.existingSecret }}
    {{- include "comfyrun.secretEnv" (dict "secret" . "key" "AWS_ACCESS_KEY_ID") | nindent 4 }}
    {{- include "comfyrun.secretEnv" (dict "secret" . "key" "AWS_SECRET_ACCESS_KEY") | nindent 4 }}
    {{- end }}
    {{- end }}
    {{- if eq $m.source "huggingface" }}
    {{- with $m.huggingface.existingSecret }}
    {{- include "comfyrun.secretEnv" (dict "secret" . "key" "HF_TOKEN") | nindent 4 }}
    {{- end }}
    {{- end }}
    {{- with .Values.extraEnv }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  resources:
    {{- toYaml $m.init.resources | nindent 4 }}
  volumeMounts:
    - {name: models, mountPath: /cache}
    - {name: lock, mountPath: /etc/comfyrun/lock, readOnly: true}
    - {name: tmp, mountPath: /tmp}
    {{- if include "comfyrun.workflowMaps" . | fromJsonArray }}
    - {name: workflows, mountPath: /workflows, readOnly: true}
    {{- end }}
    {{- with .Values.extraVolumeMounts }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
{{- end -}}

{{/* Volumes that all pods have; the data volume is the caller's. */}}
{{- define "comfyrun.volumes" -}}
{{- $m := .Values.model -}}
- name: tmp
  emptyDir: {sizeLimit: 2Gi}
{{- if ne $m.source "none" }}
- name: models
  {{- if eq $m.cache.type "pvc" }}
  persistentVolumeClaim:
    claimName: {{ include "comfyrun.cacheClaim" . }}
    {{- if eq $m.source "local" }}
    readOnly: true
    {{- end }}
  {{- else if eq $m.cache.type "hostPath" }}
  hostPath: {path: {{ $m.cache.hostPath }}, type: {{ ternary "Directory" "DirectoryOrCreate" (eq $m.source "local") }}}
  {{- else if eq $m.cache.type "image" }}
  image: {reference: {{ $m.cache.image | quote }}, pullPolicy: IfNotPresent}
  {{- else }}
  emptyDir: {sizeLimit: {{ $m.cache.sizeLimit }}}
  {{- end }}
{{- end }}
{{- if include "comfyrun.locked" . }}
- name: lock
  configMap: {name: {{ default (printf "%s-config" (include "comfyrun.fullname" .)) $m.lockConfigMap }}, items: [{key: models.lock, path: models.lock}]}
{{- end }}
{{- with include "comfyrun.workflowMaps" . | fromJsonArray }}
- name: workflows
  projected:
    sources:
      {{- range . }}
      - configMap: {name: {{ . }}}
      {{- end }}
{{- end }}
{{- with .Values.extraVolumes }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* Probes of serve and worker. Liveness is that of the process: a busy one is not a dead one. */}}
{{- define "comfyrun.probes" -}}
startupProbe:
  httpGet: {path: /readyz, port: probes}
  timeoutSeconds: 5
  periodSeconds: {{ .Values.startupProbe.periodSeconds }}
  failureThreshold: {{ .Values.startupProbe.failureThreshold }}
readinessProbe:
  httpGet: {path: /readyz, port: probes}
  periodSeconds: 5
  timeoutSeconds: 5
  failureThreshold: 3
livenessProbe:
  httpGet: {path: /healthz, port: probes}
  periodSeconds: 20
  timeoutSeconds: 5
  failureThreshold: 3
{{- end -}}
