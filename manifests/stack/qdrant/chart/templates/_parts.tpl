{{- /* Written for the course; names and labels are those of the official chart, so that both are asked alike. */ -}}

{{- define "memory.app" -}}
{{ .Values.nameOverride | default .Chart.Name }}
{{- end -}}

{{- define "memory.name" -}}
{{- $app := include "memory.app" . -}}
{{- $joined := ternary .Release.Name (printf "%s-%s" .Release.Name $app) (contains $app .Release.Name) -}}
{{ .Values.fullnameOverride | default $joined | trunc 63 | trimSuffix "-" }}
{{- end -}}

{{- /* What selects the pods: it must never change while a release lives. */ -}}
{{- define "memory.selector" -}}
{{- $app := include "memory.app" . -}}
{{ dict "app" $app "app.kubernetes.io/name" $app "app.kubernetes.io/instance" .Release.Name | toYaml }}
{{- end -}}

{{- define "memory.labels" -}}
{{- $own := dict
  "helm.sh/chart" (printf "%s-%s" .Chart.Name .Chart.Version)
  "app.kubernetes.io/version" .Chart.AppVersion
  "app.kubernetes.io/managed-by" .Release.Service -}}
{{ merge $own (include "memory.selector" . | fromYaml) .Values.additionalLabels | toYaml }}
{{- end -}}

{{- define "memory.ports" -}}
{{- $ports := list -}}
{{- range .Values.service.ports -}}
{{- $ports = append $ports (dict "name" .name "port" .port "targetPort" .targetPort "protocol" (.protocol | default "TCP")) -}}
{{- end -}}
{{ $ports | toYaml }}
{{- end -}}

{{- /* One probe of the port that is checked; call with (dict "probe" … "path" … "ports" …). */ -}}
{{- define "memory.probe" -}}
{{- $probe := .probe -}}
{{- $path := .path -}}
{{- range .ports -}}
{{- if and $probe.enabled .checksEnabled (eq .name "http") -}}
{{ merge (dict "httpGet" (dict "path" $path "port" .targetPort)) (omit $probe "enabled") | toYaml }}
{{- end -}}
{{- end -}}
{{- end -}}

{{- /* `config` as the variables that Qdrant reads, one for each leaf; call with (dict "prefix" … "tree" …). */ -}}
{{- define "memory.settings" -}}
{{- $prefix := .prefix -}}
{{- range $key, $value := .tree -}}
{{- $name := printf "%s__%s" $prefix (upper $key) -}}
{{- if kindIs "map" $value -}}
{{ include "memory.settings" (dict "prefix" $name "tree" $value) }}
{{- else -}}
{{ printf "- {name: %s, value: %s}\n" $name ($value | toString | quote) }}
{{- end -}}
{{- end -}}
{{- end -}}
