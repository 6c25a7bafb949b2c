{{- define "kepler-ebpf.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" }}
{{- end }}

{{- define "kepler-ebpf.fullname" -}}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride | trunc 63 | trimSuffix "-" }}
{{- else if contains (include "kepler-ebpf.name" .) .Release.Name }}
{{- .Release.Name | trunc 63 | trimSuffix "-" }}
{{- else }}
{{- printf "%s-%s" .Release.Name (include "kepler-ebpf.name" .) | trunc 63 | trimSuffix "-" }}
{{- end }}
{{- end }}

{{- define "kepler-ebpf.selector" -}}
app.kubernetes.io/name: {{ include "kepler-ebpf.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "kepler-ebpf.labels" -}}
{{ include "kepler-ebpf.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/component: exporter
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- define "kepler-ebpf.serviceAccountName" -}}
{{- if .Values.serviceAccount.create }}
{{- default (include "kepler-ebpf.fullname" .) .Values.serviceAccount.name }}
{{- else }}
{{- default "default" .Values.serviceAccount.name }}
{{- end }}
{{- end }}

{{- define "kepler-ebpf.image" -}}
{{- $tag := default .Chart.AppVersion .Values.image.tag }}
{{- if .Values.image.digest }}
{{- printf "%s:%s@%s" .Values.image.repository $tag .Values.image.digest }}
{{- else }}
{{- printf "%s:%s" .Values.image.repository $tag }}
{{- end }}
{{- end }}

{{/* The container's rights: all, or those of one of the two other profiles. */}}
{{- define "kepler-ebpf.securityContext" -}}
# Capabilities reach no other user of an image.
runAsUser: 0
readOnlyRootFilesystem: true
{{- if eq .Values.profile "privileged" }}
privileged: true
{{- else }}
privileged: false
allowPrivilegeEscalation: false
capabilities:
  drop: [ALL]
  add:
    {{- if eq .Values.profile "multi-tenant" }}
    {{- toYaml (without .Values.capabilities "DAC_READ_SEARCH" "SYS_PTRACE") | nindent 4 }}
    {{- else }}
    {{- toYaml .Values.capabilities | nindent 4 }}
    {{- end }}
seccompProfile:
  {{- if .Values.seccompInstall.enabled }}
  type: Localhost
  localhostProfile: kepler-ebpf.json
  {{- else }}
  {{- toYaml .Values.seccompProfile | nindent 2 }}
  {{- end }}
{{- with .Values.appArmorProfile }}
appArmorProfile:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.seLinuxOptions }}
seLinuxOptions:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}
{{- end }}

{{/* The one rule that naming pods needs, by where the names come from. */}}
{{- define "kepler-ebpf.podRule" -}}
{{- if eq .Values.config.kube.podInformer.mode "kubelet" }}
{{- $fine := semverCompare ">=1.33.0-0" .Capabilities.KubeVersion.Version }}
- apiGroups: [""]
  resources: [{{ default (ternary "nodes/pods" "nodes/proxy" $fine) .Values.rbac.kubeletResource }}]
  verbs: [get]
{{- else }}
- apiGroups: [""]
  resources: [pods]
  verbs: [list, watch]
{{- end }}
{{- end }}

{{/* Where to listen: the port, unless the configuration names addresses, which must then hold it. */}}
{{- define "kepler-ebpf.listen" -}}
{{- range .Values.extraArgs }}
{{- if hasPrefix "--web.listen-address" . }}
{{- fail "extraArgs: set port, or config.web.listenAddresses, in place of --web.listen-address" }}
{{- end }}
{{- end }}
{{- with (.Values.config.web | default dict).listenAddresses }}
{{- $held := false }}
{{- range . }}
{{- $held = or $held (hasSuffix (printf ":%v" $.Values.port) .) }}
{{- end }}
{{- if not $held }}
{{- fail (printf "config.web.listenAddresses (%s) lacks the port %v, where Kubernetes and Prometheus ask: set port to one of theirs" (join ", " .) $.Values.port) }}
{{- end }}
{{- else }}
- --web.listen-address=:{{ .Values.port }}
{{- end }}
{{- end }}

{{/* What a scrape may hold; takes the monitor's own values, where 0 is no limit. */}}
{{- define "kepler-ebpf.limits" -}}
{{- $monitor := . }}
{{- range $name := list "sampleLimit" "labelLimit" "labelNameLengthLimit" "labelValueLengthLimit" }}
{{- with get $monitor $name }}
{{ $name }}: {{ int . }}
{{- end }}
{{- end }}
{{- end }}

{{/* What both monitors set for a scrape; takes the monitor's own values. */}}
{{- define "kepler-ebpf.endpoint" -}}
- port: metrics
  path: /metrics
  interval: {{ .interval }}
  scrapeTimeout: {{ .scrapeTimeout }}
  # The job that the rules and dashboards expect, whatever the release is called.
  relabelings:
    - targetLabel: job
      replacement: kepler-ebpf
  {{- with .metricRelabelings }}
  metricRelabelings:
    {{- toYaml . | nindent 4 }}
  {{- end }}
{{- end }}
