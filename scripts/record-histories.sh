#!/usr/bin/env bash
# record-histories.sh - records the histories that test/workflows/replay.test.ts replays, all of them anew, in a lab of its
# own. Needs what scripts/setup.sh makes:
#
#   scripts/setup.sh scripts/record-histories.sh
#
# A history names hosts and files, so it is recorded under a neutral host name.
set -euo pipefail
cd -- "$(dirname -- "$0")/.."
exec unshare --map-root-user --uts --fork --kill-child sh -c 'hostname surefire-host && exec "$@"' - \
  npx vitest run --config vitest.record.config.ts
