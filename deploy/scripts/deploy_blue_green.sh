#!/usr/bin/env bash
# deploy_blue_green.sh VERSION [OPTIONS]: deploy a version blue-green and wait for the outcome.
# A wrapper of `python -m ingest_ops deploy`, which decides; OPTIONS are passed on. Exit codes are its own.
set -euo pipefail
if [ $# -lt 1 ] || [[ $1 == -* ]]; then
    echo "usage: ${0##*/} VERSION [--watch-seconds N] [--approval] [--json] ..." >&2
    exit 2
fi
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
PYTHONPATH="$root:$root/plugins${PYTHONPATH:+:$PYTHONPATH}" exec "${PYTHON:-python3}" -m ingest_ops deploy "$@"
