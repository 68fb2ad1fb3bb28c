#!/usr/bin/env bash
# Makes the secrets that are missing, below ./secrets, turns the control API on in .env, and sets the group of the Docker
# socket there. Nothing is overwritten.
set -euo pipefail
cd "$(dirname "$0")/.."
folder=${K2_SECRETS:-./secrets}
# Nobody but the owner enters the folder; the files are readable, because containers run as other users.
mkdir -p "$folder"
chmod 700 "$folder"

random() { head -c 32 /dev/urandom | base64 | tr '+/' '-_' | tr -d '\n'; }

make_secret() {
  local path=$folder/$1
  if [[ ! -s $path ]]; then
    printf '%s' "$2" > "$path"
    printf 'made   %s\n' "$path"
  else
    printf 'kept   %s\n' "$path"
  fi
  chmod 444 "$path"
}

make_secret control_token "$(random)"
make_secret agent_token "$(random)"
for user in writer auditor reader; do
  make_secret "kafka_${user}_password" "$(random)"
done
make_secret grafana_password "$(random)"
make_secret postgres_password "$(random | tr -d '=_-')"
make_secret airflow_database_url "postgresql+psycopg2://airflow:$(cat "$folder/postgres_password")@postgres/airflow"
make_secret airflow_fernet_key "$(random)"
# SHA-512 wants 64 bytes.
make_secret airflow_jwt_secret "$(random)$(random)"
make_secret airflow_password "$(random)"

setting() {
  grep -qs "^$1=" .env || { printf '%s=%s\n' "$1" "$2" >> .env; printf 'set    %s=%s in .env\n' "$1" "$2"; }
}
setting K2_CONTROL_PORT 9096
setting K2_CONTROL_TOKEN_SOURCE "$folder/control_token"
setting KAFKA_WRITER_PASSWORD_SOURCE "$folder/kafka_writer_password"
setting KAFKA_AUDITOR_PASSWORD_SOURCE "$folder/kafka_auditor_password"
setting KAFKA_READER_PASSWORD_SOURCE "$folder/kafka_reader_password"

# What Kafka clients on this machine need besides the address, in librdkafka's names. Made anew: the password may be new.
for user in writer auditor reader; do
  path=$folder/kafka_$user.properties
  rm -f "$path"
  (
    umask 277
    printf 'security.protocol=SASL_PLAINTEXT\nsasl.mechanism=SCRAM-SHA-512\nsasl.username=%s\nsasl.password=%s\n' \
      "$user" "$(cat "$folder/kafka_${user}_password")" > "$path"
  )
done

# The agent may use the socket by this group. Docker Desktop (macOS) has its socket in a virtual machine, as root's: 0.
socket=${K2_DOCKER_SOCKET:-/var/run/docker.sock}
if [[ -S $socket && $(uname) == Linux ]]; then
  setting DOCKER_GROUP "$(stat -c %g "$socket")"
fi
