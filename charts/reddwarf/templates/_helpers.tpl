{{/* The name that all objects of this release begin with. */}}
{{- define "reddwarf.name" -}}
{{- if contains "reddwarf" .Release.Name }}{{ .Release.Name | trunc 40 | trimSuffix "-" }}{{ else }}{{ printf "%s-reddwarf" .Release.Name | trunc 40 | trimSuffix "-" }}{{ end }}
{{- end }}

{{/* Labels of every object. */}}
{{- define "reddwarf.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
{{ include "reddwarf.selector" . }}
{{- end }}

{{/* Labels that select; a component is added to them. */}}
{{- define "reddwarf.selector" -}}
app.kubernetes.io/name: reddwarf
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "reddwarf.image" -}}
{{- $repository := required "image.repository is required: where you have pushed the image that hack/chart-image.sh builds" .Values.image.repository -}}
{{- if .Values.image.digest }}{{ $repository }}@{{ .Values.image.digest }}{{ else }}{{ $repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}{{ end }}
{{- end }}

{{- define "reddwarf.priorityClass" -}}
{{ .Values.priorityClass.name | default (printf "%s-node-critical" (include "reddwarf.name" .)) }}
{{- end }}

{{/* What makes a pod run in the global zone of an illumos host. */}}
{{- define "reddwarf.hostPod" -}}
runtimeClassName: reddwarf-host
hostNetwork: true
nodeSelector:
  kubernetes.io/os: illumos
tolerations:
- key: virtual-kubelet.io/provider
  operator: Equal
  value: reddwarf
  effect: NoSchedule
priorityClassName: {{ include "reddwarf.priorityClass" . }}
{{- with .Values.imagePullSecrets }}
imagePullSecrets:
{{- toYaml . | nindent 0 }}
{{- end }}
{{- end }}

{{/* What every pod of a runtime class tolerates. */}}
{{- define "reddwarf.toleration" -}}
- key: virtual-kubelet.io/provider
  operator: Equal
  value: reddwarf
  effect: NoSchedule
{{- end }}
