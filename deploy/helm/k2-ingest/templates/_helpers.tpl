{{- define "k2.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 30 | trimSuffix "-" -}}
{{- end -}}

{{/* At most 30 characters: an instance id is the name of a pod and has at most 58. */}}
{{- define "k2.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 30 | trimSuffix "-" -}}
{{- else if contains (include "k2.name" .) .Release.Name -}}
{{- .Release.Name | trunc 30 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name (include "k2.name" .) | trunc 30 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "k2.selector" -}}
app.kubernetes.io/name: {{ include "k2.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "k2.labels" -}}
{{ include "k2.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end -}}

{{- define "k2.serviceAccountName" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "k2.fullname" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- default "default" .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{/* A value as the environment has it: whole numbers without an exponent, lists with commas. */}}
{{- define "k2.text" -}}
{{- if kindIs "slice" . -}}
{{- join "," . -}}
{{- else if kindIs "float64" . -}}
{{- if eq . (floor .) }}{{ printf "%.0f" . }}{{ else }}{{ toString . }}{{ end -}}
{{- else -}}
{{- toString . -}}
{{- end -}}
{{- end -}}

{{/* Seconds from SIGTERM to SIGKILL: more than the service itself takes. */}}
{{- define "k2.gracePeriod" -}}
{{- if .Values.terminationGracePeriodSeconds -}}
{{- int .Values.terminationGracePeriodSeconds -}}
{{- else -}}
{{- $drain := get .Values.settings "K2_DRAIN_TIMEOUT_SECONDS" | default 10 -}}
{{- $leave := 0 -}}
{{- if eq .Values.mode "fleet" -}}
{{- $leave = 20 -}}
{{- if hasKey .Values.settings "K2_FLEET_LEAVE_TIMEOUT_SECONDS" -}}
{{- $leave = get .Values.settings "K2_FLEET_LEAVE_TIMEOUT_SECONDS" -}}
{{- end -}}
{{- end -}}
{{- add (ceil (addf $drain $leave)) 10 -}}
{{- end -}}
{{- end -}}

{{/* Ports of addresses: "a:9092,[::1]:9093,b" or URLs. Without one: Kafka's, or the URL's. A JSON list in a text. */}}
{{- define "k2.ports" -}}
{{- $found := list -}}
{{- range splitList "," (include "k2.text" .) -}}
{{- $scheme := regexFind "^[a-z]+://" (trim .) -}}
{{- $port := regexFind ":[0-9]+$" (regexFind "^[^/]*" (trimPrefix $scheme (trim .))) | trimPrefix ":" -}}
{{- if not $port -}}
{{- $port = get (dict "https://" "443" "http://" "80") $scheme | default "9092" -}}
{{- end -}}
{{- $found = append $found (int $port) -}}
{{- end -}}
{{- $found | uniq | toJson -}}
{{- end -}}

{{/* What values.schema.json cannot say. */}}
{{- define "k2.validate" -}}
{{- $slots := list -}}
{{- range .Values.slots -}}
{{- if has .name $slots -}}
{{- fail (printf "slots: %s is there twice; give every slot a name of its own" .name) -}}
{{- end -}}
{{- $slots = append $slots .name -}}
{{- end -}}
{{- if and (eq .Values.mode "single") (ne (int .Values.shards.count) 1) -}}
{{- fail (printf "shards.count=%d with mode single, which has one shard; set mode shards or fleet" (int .Values.shards.count)) -}}
{{- end -}}
{{- if and (eq .Values.mode "fleet") (gt (len .Values.slots) 1) -}}
{{- fail "slots: a fleet has one slot; its standbys are fleet.standbyWarm" -}}
{{- end -}}
{{- if and (eq .Values.mode "fleet") (ne "auto" ((first .Values.slots).startMode | default "auto")) -}}
{{- fail "slots: a fleet has no start mode but auto; Kafka's group says which instance writes" -}}
{{- end -}}
{{- if and (eq .Values.mode "fleet") .Values.control.enabled -}}
{{- fail "control.enabled with mode fleet: the control API belongs to instances with a fixed shard; set it to false" -}}
{{- end -}}
{{- if and .Values.control.enabled (not .Values.control.token.secret) -}}
{{- fail "control.token.secret: the control API needs a token; name the Secret that holds it" -}}
{{- end -}}
{{- range $name := keys .Values.settings | sortAlpha -}}
{{- if and (regexMatch "^K2_KAFKA_OPTION_.*(PASSWORD|PASSPHRASE|SECRET|CREDENTIAL|PRIVATE_KEY|KEY_PEM|CA_PEM|JAAS|USERNAME|KINIT_CMD|OAUTHBEARER_CONFIG|EXTENSIONS)" $name) (not (regexMatch "_(LOCATION|FILE)$" $name)) -}}
{{- fail (printf "settings.%s is secret; put it into a Secret, and name that under secrets" $name) -}}
{{- end -}}
{{- end -}}
{{- $given := keys .Values.settings -}}
{{- range concat .Values.secrets .Values.files -}}
{{- if has .setting $given -}}
{{- fail (printf "%s is set twice; keep it in one of settings, secrets and files" .setting) -}}
{{- end -}}
{{- $given = append $given .setting -}}
{{- end -}}
{{- end -}}
