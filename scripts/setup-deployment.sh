#!/usr/bin/env bash
# setup-deployment.sh [COMMAND...] - after setup.sh: what the tests of docker-compose.yml and of the systemd units need,
# then becomes COMMAND. PostgreSQL and systemd-analyze are Debian's, the rest is built from Go modules into the cache folder:
# compose-check, and the programs in the images that the compose file names, of the same versions.
set -euo pipefail
cd -- "$(dirname -- "$0")/.."
cache=${SUREFIRE_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/surefire}
export SUREFIRE_CACHE=$cache PATH=$PATH:/usr/sbin:/sbin
log=$cache/logs/deployment.log
mkdir -p "$cache/bin" "$cache/logs"
say() { printf '%s\n' "$*" >&2; }
fail() {
  say "" "Set-up failed: $1." "Why (last lines of $log):"
  tail -n 12 "$log" | sed 's/^/    /' >&2
  say "Next: $2"
  exit 1
}

exec 8>"$cache/deployment.lock"
flock 8

# --- 1. Packages of the distribution
missing=()
if command -v dpkg-query >/dev/null; then
  for package in postgresql systemd; do
    dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null | grep -qx installed || missing+=("$package")
  done
fi
if [ ${#missing[@]} -gt 0 ]; then
  say "  ... installing ${missing[*]}"
  as_root=()
  [ "$(id -u)" = 0 ] || as_root=(sudo -n)
  { "${as_root[@]}" apt-get -q update && "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -q -y --no-install-recommends install "${missing[@]}"; } \
    >"$log" 2>&1 8>&- || fail "${missing[*]} could not be installed" "run this, then start again: sudo apt-get install ${missing[*]}"
fi

# --- 2. Programs from Go modules: name, module folder, package
stamp_of() { (cd "$1" && find . -type f -name '*.go' -o -name 'go.*' | LC_ALL=C sort | xargs sha256sum | sha256sum | cut -d ' ' -f 1); }
build() {
  local name=$1 folder=$2 package=$3 stamp
  stamp=$(stamp_of "$folder")
  [ -x "$cache/bin/$name" ] && [ "$(cat "$cache/bin/.$name.stamp" 2>/dev/null)" = "$stamp" ] && return
  say "  ... compiling $name (Go)"
  (cd "$folder" && CGO_ENABLED=0 GOWORK=off GOFLAGS='-mod=readonly -buildvcs=false' \
    go build -trimpath -ldflags '-s -w' -o "$cache/bin/.$name.new" "$package") >"$log" 2>&1 8>&- ||
    fail "$name does not compile" "see above; it needs Go 1.26.4 or newer, or one that may fetch it (GOTOOLCHAIN=auto)."
  mv -f "$cache/bin/.$name.new" "$cache/bin/$name"
  echo "$stamp" >"$cache/bin/.$name.stamp"
}
build compose-check deploy/compose-check .
build temporal-server scripts/temporal go.temporal.io/server/cmd/server
build temporal-sql-tool scripts/temporal go.temporal.io/server/cmd/tools/sql
build temporal-ui-server scripts/temporal github.com/temporalio/ui-server/v2/cmd/server
# The configuration that the Web UI's image has beside its program.
if [ ! -f "$cache/temporal-ui/config/docker.yaml" ]; then
  mkdir -p "$cache/temporal-ui/config"
  cp "$(cd scripts/temporal && GOWORK=off go list -m -f '{{.Dir}}' github.com/temporalio/ui-server/v2)/config/docker.yaml" "$cache/temporal-ui/config/docker.yaml.new"
  chmod 644 "$cache/temporal-ui/config/docker.yaml.new"
  mv "$cache/temporal-ui/config/docker.yaml.new" "$cache/temporal-ui/config/docker.yaml"
fi

exec 8>&-
if [ $# -gt 0 ]; then exec "$@"; fi
