{{/* What a batch Job is: dict "root" . "job" (an entry of jobs.batch). */}}
{{- define "comfyrun.batch" -}}
{{- $root := .root -}}
{{- $job := .job -}}
completionMode: Indexed
completions: {{ int $job.shards }}
parallelism: {{ int (default 1 $job.parallelism) }}
backoffLimitPerIndex: 3
maxFailedIndexes: {{ int $job.shards }}
podFailurePolicy:
  rules:
    # 2: the workflow or its arguments are wrong, 3: a model is missing or wrong. Another attempt changes neither.
    - action: FailJob
      onExitCodes: {containerName: exec, operator: In, values: [2, 3]}
    - action: Ignore
      onPodConditions: [{type: DisruptionTarget}]
template:
  metadata:
    labels:
      {{- include "comfyrun.selector" $root | nindent 6 }}
      app.kubernetes.io/component: batch
  spec:
    {{- include "comfyrun.podHead" $root | nindent 4 }}
    {{- with include "comfyrun.placement" (dict "root" $root "placement" (ternary $root.Values.worker $root.Values.server (eq $root.Values.queue.mode "nats")) "computes" true) | trim }}
    {{- . | nindent 4 }}
    {{- end }}
    restartPolicy: Never
    {{- if include "comfyrun.fetches" $root }}
    initContainers:
      {{- include "comfyrun.fetch" $root | nindent 6 }}
    {{- end }}
    containers:
      - name: exec
        {{- include "comfyrun.container" $root | nindent 8 }}
        args:
          - exec
          - /workflows/{{ $job.workflow }}.json
          - --json
          - --resume
          - --out=/output/$(JOB_COMPLETION_INDEX)
          - --shard=$(JOB_COMPLETION_INDEX)/{{ int $job.shards }}
          - --nodes=/workflows
          {{- if ne $root.Values.model.source "none" }}
          - --models={{ include "comfyrun.modelsFolder" $root }}
          {{- end }}
          {{- if include "comfyrun.locked" $root }}
          - --lock=/etc/comfyrun/lock/models.lock
          {{- end }}
          {{- with include "comfyrun.device" $root }}
          # exec computes on one device, and its pod has one GPU.
          - --device={{ splitList "," . | first | splitList ":" | first }}
          {{- end }}
          {{- with $job.args }}
          {{- toYaml . | nindent 10 }}
          {{- end }}
        env:
          - {name: COMFYRUN_HOME, value: /data}
          - {name: HOME, value: /data}
          {{- with $root.Values.extraEnv }}
          {{- toYaml . | nindent 10 }}
          {{- end }}
        resources:
          {{- include "comfyrun.resources" (dict "root" $root "resources" (default $root.Values.worker.resources $job.resources) "computes" true "gpus" 1) | nindent 10 }}
        volumeMounts:
          {{- include "comfyrun.mounts" $root | nindent 10 }}
          - {name: output, mountPath: /output}
    volumes:
      - name: data
        emptyDir: {sizeLimit: {{ $root.Values.data.size }}}
      - name: output
        persistentVolumeClaim: {claimName: {{ $job.outputClaim }}}
      {{- include "comfyrun.volumes" $root | nindent 6 }}
{{- end -}}
