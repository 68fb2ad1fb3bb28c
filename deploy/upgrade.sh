#!/usr/bin/env bash
# After `git pull`: builds the images of this checkout and renews every service that there is, but not the slots. A slot
# gets another version by a deployment and by nothing else: `docker compose up --build` would make the writer anew,
# without a gate and with a gap.
set -euo pipefail
cd "$(dirname "$0")/.."
version=${K2_VERSION:-$(sed -n 's/^K2_VERSION=//p' .env 2>/dev/null | tail -1)}

mapfile -t slots < <(docker compose ps --all --format '{{.Service}} {{.Label "k2.slot"}}' | awk 'NF == 2 {print $1}' | sort -u)
# The simulator is the exchange: one that keeps no state (0.2 and before) would begin another market, to which every trade
# in the topic is unknown.
slots+=(simulator)
mapfile -t all < <(docker compose ps --all --format '{{.Service}}' | sort -u)
[[ ${#all[@]} -gt 0 ]] || { echo "upgrade: nothing of this project is there: docker compose up" >&2; exit 2; }
others=()
for service in "${all[@]}"; do
  [[ " ${slots[*]} " == *" $service "* ]] || others+=("$service")
done
printf 'renews %s\nleaves %s\n' "${others[*]}" "${slots[*]}"
docker compose build "${others[@]}"
# What is new in this checkout, first. Then these services and no other: without --no-deps the simulator is renewed, too, as
# something that its auditor depends on.
docker compose up --detach --no-build --no-recreate "${others[@]}"
docker compose up --detach --no-build --no-deps "${others[@]}"
printf '%s\n' "The slots go on as they are. To put the version of this checkout live: docs/how_to/deploy.md, e.g.
docker compose exec airflow-scheduler airflow dags trigger deploy_blue_green --conf '{\"version\": \"${version:-NAME}\"}'"
