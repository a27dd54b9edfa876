#!/bin/sh
# Becomes the Temporal server; settings are in the environment, the password of PostgreSQL in a file. server.sh PASSWORD_FILE
set -eu
POSTGRES_PWD=$(cat "${1:?usage: server.sh PASSWORD_FILE}")
export POSTGRES_PWD
# As the image's own entry point does: listening everywhere, its parts must be told where to find each other.
if [ "${BIND_ON_IP:-}" = 0.0.0.0 ] && [ -z "${TEMPORAL_BROADCAST_ADDRESS:-}" ]; then
  TEMPORAL_BROADCAST_ADDRESS=$(getent hosts "$(hostname)" | awk 'NR == 1 { print $1 }')
  export TEMPORAL_BROADCAST_ADDRESS
fi
exec temporal-server start
