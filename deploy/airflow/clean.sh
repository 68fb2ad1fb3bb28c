#!/usr/bin/env bash
# Removes what grows: runs of `reconcile` (one a minute) and their logs after a day, all other runs and logs after
# AIRFLOW_KEEP_DAYS; reports, trails, records and journal entries after REPORTS_KEEP_DAYS. Once a day, or once with the
# argument `once`.
set -euo pipefail
keep=${AIRFLOW_KEEP_DAYS:-90}
reports=${REPORTS_KEEP_DAYS:-365}
minutely=${AIRFLOW_KEEP_RECONCILE_DAYS:-1}
logs=${AIRFLOW__LOGGING__BASE_LOG_FOLDER:-/var/lib/k2/logs}
[[ $keep =~ ^[1-9][0-9]*$ && $minutely =~ ^[1-9][0-9]*$ && $reports =~ ^[1-9][0-9]*$ ]] || {
  echo "clean: AIRFLOW_KEEP_DAYS=$keep, AIRFLOW_KEEP_RECONCILE_DAYS=$minutely, REPORTS_KEEP_DAYS=$reports must be whole days" >&2
  exit 2
}

before() { date --utc --date "-$1 days" '+%Y-%m-%d %H:%M:%S+00:00'; }

clean() {
  airflow db clean --yes --skip-archive --error-on-cleanup-failure \
    --tables dag_run,task_instance,task_instance_history,xcom --dag-ids reconcile \
    --clean-before-timestamp "$(before "$minutely")"
  airflow db clean --yes --skip-archive --error-on-cleanup-failure --clean-before-timestamp "$(before "$keep")"
  if [[ -d $logs ]]; then
    find "$logs" -type f -path '*dag_id=reconcile/*' -mtime "+$((minutely - 1))" -delete
    find "$logs" -type f -mtime "+$((keep - 1))" -delete
    find "$logs" -mindepth 1 -type d -empty -delete
  fi
  python -m ingest_ops clean --keep-days "$reports"
}

while :; do
  clean || { echo "clean: failed; tried again in a day" >&2; [[ ${1:-} != once ]] || exit 1; }
  [[ ${1:-} != once ]] || exit 0
  sleep 86400 &
  wait $!
done
