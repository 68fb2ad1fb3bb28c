{{/* The environment and the mounts of every container: settings, and files of Secrets and ConfigMaps. */}}
{{- define "k2.settingsEnv" -}}
{{- range $name, $value := .Values.settings }}
- name: {{ $name }}
  value: {{ include "k2.text" $value | quote }}
{{- end }}
{{- range $at, $one := .Values.secrets }}
- name: {{ $one.setting }}_FILE
  value: /run/secrets/{{ $one.setting }}/{{ $one.key }}
{{- end }}
{{- range $at, $one := .Values.files }}
- name: {{ $one.setting }}
  value: /run/files/{{ $one.setting }}/{{ $one.key }}
{{- end }}
{{- end -}}

{{- define "k2.settingsMounts" -}}
{{- range $at, $one := .Values.secrets }}
- name: secret-{{ $at }}
  mountPath: /run/secrets/{{ $one.setting }}
  readOnly: true
{{- end }}
{{- range $at, $one := .Values.files }}
- name: file-{{ $at }}
  mountPath: /run/files/{{ $one.setting }}
  readOnly: true
{{- end }}
- name: tmp
  mountPath: /tmp
{{- end -}}

{{- define "k2.settingsVolumes" -}}
{{- range $at, $one := .Values.secrets }}
- name: secret-{{ $at }}
  secret:
    secretName: {{ $one.secret }}
    defaultMode: 0440
    items: [{key: {{ $one.key | quote }}, path: {{ $one.key | quote }}}]
{{- end }}
{{- range $at, $one := .Values.files }}
- name: file-{{ $at }}
  {{- if $one.secret }}
  secret:
    secretName: {{ $one.secret }}
  {{- else }}
  configMap:
    name: {{ $one.configMap }}
  {{- end }}
    defaultMode: 0440
    items: [{key: {{ $one.key | quote }}, path: {{ $one.key | quote }}}]
{{- end }}
- name: tmp
  emptyDir: {medium: Memory, sizeLimit: 16Mi}
{{- end -}}

{{- define "k2.podSecurity" -}}
runAsNonRoot: true
runAsUser: 10001
runAsGroup: 10001
fsGroup: 10001
seccompProfile: {type: RuntimeDefault}
{{- end -}}

{{- define "k2.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end -}}

{{- define "k2.probe" -}}
httpGet: {path: {{ .path }}, port: status}
{{ toYaml .probe }}
{{- end -}}

{{/* Status addresses of the pods that may write one shard, so that a standby sees the end of the writer's process. During an
update the only slot of mode single has two pods; that of mode shards has one. */}}
{{- define "k2.peers" -}}
{{- $root := . -}}
{{- $peers := list -}}
{{- range $slot := .Values.slots -}}
{{- $service := printf "%s-%s" (include "k2.fullname" $root) $slot.name -}}
{{- if eq $root.Values.mode "single" -}}
{{- $peers = append $peers (printf "http://%s.%s:9095" $service $root.Release.Namespace) -}}
{{- else if and (eq $root.Values.mode "shards") (gt (len $root.Values.slots) 1) -}}
{{- $peers = append $peers (printf "http://%s-$(K2_SHARD_INDEX).%s.%s:9095" $service $service $root.Release.Namespace) -}}
{{- end -}}
{{- end -}}
{{- join "," $peers -}}
{{- end -}}

{{/* Which shard, and what processes behind one address share. */}}
{{- define "k2.shardEnv" -}}
{{- $values := .root.Values }}
- name: K2_SHARD_COUNT
  value: {{ int $values.shards.count | quote }}
- name: K2_SHARD_INDEX
{{- if eq $values.mode "shards" }}
  valueFrom: {fieldRef: {fieldPath: "metadata.labels['apps.kubernetes.io/pod-index']"}}
{{- else if eq $values.mode "fleet" }}
  value: auto
- name: K2_STANDBY_WARM
  value: {{ int $values.fleet.standbyWarm | quote }}
- name: K2_FLEET_ADDRESS
{{- if eq $values.fleet.address "node" }}
  valueFrom: {fieldRef: {fieldPath: spec.nodeName}}
{{- else }}
  value: {{ default (printf "%s.%s" (include "k2.fullname" .root) .root.Release.Namespace) $values.fleet.address | quote }}
{{- end }}
{{- if not (hasKey $values.settings "K2_BINANCE_CONNECTION_ATTEMPTS_PER_5_MINUTES") }}
- name: K2_BINANCE_CONNECTION_ATTEMPTS_PER_5_MINUTES
  value: "240" # of the whole address
{{- end }}
{{- else }}
  value: "0"
{{- end }}
{{- with include "k2.peers" .root }}
- name: K2_PEERS
  value: {{ . | quote }}
{{- end }}
{{- if and (eq $values.mode "shards") $values.shards.shareAddress (gt (int $values.shards.count) 1) }}
{{- $shards := int $values.shards.count }}
{{- $shared := dict "K2_BINANCE_REST_WEIGHT_FRACTION" (printf "%.5f" (divf 0.5 $shards)) }}
{{- $_ := set $shared "K2_BINANCE_REST_WEIGHT_CATCH_UP_FRACTION" (printf "%.5f" (divf 0.9 $shards)) }}
{{- $attempts := div 300 (mul $shards (len $values.slots)) }}
{{- $_ := set $shared "K2_BINANCE_CONNECTION_ATTEMPTS_PER_5_MINUTES" (toString (max 1 (min 100 $attempts))) }}
{{- range $name, $value := $shared }}
{{- if not (hasKey $values.settings $name) }}
- name: {{ $name }}
  value: {{ $value | quote }}
{{- end }}
{{- end }}
{{- end }}
{{- end -}}

{{/* Names with a dot under which a pod is reached. */}}
{{- define "k2.allowedHosts" -}}
{{- $service := printf "%s-%s.%s" (include "k2.fullname" .root) .slot.name .root.Release.Namespace -}}
{{- $names := list $service (printf "%s.svc" $service) (printf "%s.svc.%s" $service .root.Values.clusterDomain) -}}
{{- range $one := $names -}}
{{- $names = append $names (printf "$(K2_INSTANCE_ID).%s" $one) -}}
{{- end -}}
{{- join "," (concat $names .root.Values.allowedHosts) -}}
{{- end -}}

{{/* The pod of a slot: {root, slot}. */}}
{{- define "k2.pod" -}}
{{- $values := .root.Values -}}
metadata:
  labels:
    {{- /* No version of the chart: a new one must not restart pods that do not change. */}}
    {{- include "k2.selector" .root | nindent 4 }}
    app.kubernetes.io/component: recorder
    k2.slot: {{ .slot.name | quote }}
    {{- with $values.podLabels }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  annotations:
    kubectl.kubernetes.io/default-container: ingest
    {{- with $values.podAnnotations }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
spec:
  serviceAccountName: {{ include "k2.serviceAccountName" .root }}
  automountServiceAccountToken: false
  enableServiceLinks: false
  terminationGracePeriodSeconds: {{ include "k2.gracePeriod" .root }}
  securityContext:
    {{- include "k2.podSecurity" . | nindent 4 }}
  {{- with $values.imagePullSecrets }}
  imagePullSecrets:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with $values.priorityClassName }}
  priorityClassName: {{ . }}
  {{- end }}
  containers:
    - name: ingest
      image: "{{ $values.image.repository }}:{{ .slot.tag | default $values.image.tag | default .root.Chart.AppVersion }}"
      imagePullPolicy: {{ $values.image.pullPolicy }}
      args: [run]
      ports:
        - {name: status, containerPort: 9095, protocol: TCP}
        {{- if $values.control.enabled }}
        - {name: control, containerPort: 9096, protocol: TCP}
        {{- end }}
      env:
        - name: K2_INSTANCE_ID
          valueFrom: {fieldRef: {fieldPath: metadata.name}}
        - name: K2_SLOT
          value: {{ .slot.name | quote }}
        - name: K2_START_MODE
          value: {{ .slot.startMode | default "auto" }}
        - name: K2_METRICS_HOST
          value: 0.0.0.0
        - name: K2_METRICS_PORT
          value: "9095"
        - name: K2_HTTP_ALLOWED_HOSTS
          value: {{ include "k2.allowedHosts" . | quote }}
        {{- if $values.control.enabled }}
        - name: K2_CONTROL_HOST
          value: 0.0.0.0
        - name: K2_CONTROL_PORT
          value: "9096"
        - name: K2_CONTROL_TOKEN_FILE
          value: /run/secrets/K2_CONTROL_TOKEN/{{ $values.control.token.key }}
        {{- end }}
        {{- include "k2.shardEnv" . | nindent 8 }}
        {{- include "k2.settingsEnv" .root | nindent 8 }}
      startupProbe:
        {{- include "k2.probe" (dict "path" "/health/live" "probe" $values.probes.startup) | nindent 8 }}
      livenessProbe:
        {{- include "k2.probe" (dict "path" "/health/live" "probe" $values.probes.liveness) | nindent 8 }}
      readinessProbe:
        {{- include "k2.probe" (dict "path" "/health/ready" "probe" $values.probes.readiness) | nindent 8 }}
      resources:
        {{- toYaml $values.resources | nindent 8 }}
      securityContext:
        {{- include "k2.containerSecurity" . | nindent 8 }}
      volumeMounts:
        {{- if $values.control.enabled }}
        - name: control-token
          mountPath: /run/secrets/K2_CONTROL_TOKEN
          readOnly: true
        {{- end }}
        {{- include "k2.settingsMounts" .root | nindent 8 }}
  volumes:
    {{- if $values.control.enabled }}
    - name: control-token
      secret:
        secretName: {{ $values.control.token.secret }}
        defaultMode: 0440
        items: [{key: {{ $values.control.token.key | quote }}, path: {{ $values.control.token.key | quote }}}]
    {{- end }}
    {{- include "k2.settingsVolumes" .root | nindent 4 }}
  {{- include "k2.placement" .root | nindent 2 }}
{{- end -}}

{{/* The API server takes one constraint of each topologyKey and whenUnsatisfiable. With two slots or more, the pods of one
     shard are spread; those of one slot and shard are one pod, so that all pods are. */}}
{{- define "k2.placement" -}}
topologySpreadConstraints:
{{- range $key, $when := dict "kubernetes.io/hostname" .Values.topologySpread.hostname "topology.kubernetes.io/zone" .Values.topologySpread.zone }}
{{- if $when }}
  - maxSkew: 1
    topologyKey: {{ $key }}
    whenUnsatisfiable: {{ $when }}
    {{- if and (eq $.Values.mode "shards") (gt (len $.Values.slots) 1) }}
    matchLabelKeys: [apps.kubernetes.io/pod-index]
    {{- end }}
    labelSelector:
      matchLabels:
        {{- include "k2.selector" $ | nindent 8 }}
        app.kubernetes.io/component: recorder
{{- end }}
{{- end }}
{{- with .Values.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}
