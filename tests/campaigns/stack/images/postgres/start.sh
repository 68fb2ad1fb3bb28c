#!/usr/bin/env bash
# What the real image's entry point does: initialise once as the user postgres, then serve.
set -euo pipefail
password=$(cat "$POSTGRES_PASSWORD_FILE")
export password
chown -R postgres:postgres "$PGDATA"
# shellcheck disable=SC2016 # expanded by the inner shell, on purpose
exec setpriv --reuid=postgres --regid=postgres --clear-groups bash -c '
  set -euo pipefail
  if [[ ! -s $PGDATA/PG_VERSION ]]; then
    initdb -U "$POSTGRES_USER" --pwfile=<(printf %s "$password") --auth-host=scram-sha-256 --auth-local=trust >/dev/null
    echo "host all all all scram-sha-256" >> "$PGDATA/pg_hba.conf"
    pg_ctl -w -o "-c listen_addresses=" start >/dev/null
    createdb -U "$POSTGRES_USER" "$POSTGRES_DB" || true
    pg_ctl -w stop >/dev/null
  fi
  exec postgres -c listen_addresses="*"
'
