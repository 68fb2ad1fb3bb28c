#!/usr/bin/env bash
# validate_deployment.sh [blue|green] [OPTIONS]: judge a running slot by the deployment's gates; changes nothing.
# A wrapper of `python -m ingest_ops validate`. Exit codes: 0 every gate passed, 1 one failed, others see there.
set -euo pipefail
slot=${1:-blue}
case $slot in
    blue | green) [ $# -gt 0 ] && shift ;;
    *)
        echo "usage: ${0##*/} [blue|green] [--shadow] [--window SECONDS] [--json]" >&2
        exit 2
        ;;
esac
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
PYTHONPATH="$root:$root/plugins${PYTHONPATH:+:$PYTHONPATH}" exec "${PYTHON:-python3}" -m ingest_ops validate --slot "$slot" "$@"
