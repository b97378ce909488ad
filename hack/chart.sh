#!/usr/bin/env bash
# Checks the Helm chart: lint, the values' schema, and what the templates make of the files in hack/chart. With --update
# the golden files are written instead of compared; read the diff.
. "$(dirname "$0")/lib.sh"
helm=$(hack/helm.sh)
chart=charts/reddwarf
say "helm lint and templates"
mkdir -p "$out/chart"
for values in hack/chart/*.values.yaml; do
  name=$(basename "$values" .values.yaml)
  "$helm" lint --strict --quiet "$chart" --values "$values"
  # The API versions of the oldest server that the chart is for, unless the file's first line names more.
  apis=$(sed -n '1s/^# api-versions: //p' "$values")
  "$helm" template reddwarf "$chart" --namespace reddwarf-system --values "$values" --kube-version 1.30.0 ${apis:+--api-versions "$apis"} >"$out/chart/$name.yaml"
  if [ "${1:-}" = --update ]; then
    cp "$out/chart/$name.yaml" "hack/chart/$name.golden.yaml"
  else
    diff -u "hack/chart/$name.golden.yaml" "$out/chart/$name.yaml" || die "the templates make something else of $values; if that is meant: hack/chart.sh --update"
  fi
done
# What the schema has to refuse.
refused=0
while IFS= read -r setting; do
  case $setting in ''|'#'*) continue ;; esac
  if "$helm" template reddwarf "$chart" --values hack/chart/minimal.values.yaml --set "$setting" >"$out/chart/refused.log" 2>&1; then
    die "the chart takes $setting"
  fi
  refused=$((refused + 1))
done <hack/chart/refused.txt
say "the chart refuses all $refused wrong settings"
