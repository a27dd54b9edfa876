#!/usr/bin/env bash
# get-temporal.sh CACHE_DIR - makes sure a `temporal` program (command line, server and Web UI in one file) of at least
# 1.8 is there; prints its path on stdout, progress on stderr. Takes the one on PATH, else the one in CACHE_DIR, else
# builds it from Go modules with the go.mod and go.sum beside this script (go.sum pins every module, so a changed
# download stops the build), else, without a usable Go, asks the Temporal SDK's own downloader.
#
# The wrapper module is needed because the CLI's go.mod has a `replace` by a relative path, which `go install` refuses.
# TEMPORAL_IGNORE_PATH=1: do not take the one on PATH. Exit: 0 path printed, else the reason on stderr.
set -euo pipefail
version=1.8.2 least=1.8 go_least=1.26.4
here=$(cd -- "$(dirname -- "$0")" && pwd)
cache=${1:?usage: get-temporal.sh CACHE_DIR}
say() { printf '%s\n' "$*" >&2; }
at_least() { [ "$(printf '%s\n%s\n' "$2" "$1" | sort -V | head -n 1)" = "$2" ]; }
number() { "$1" --version 2>/dev/null | sed -n 's/^temporal version \([0-9][0-9.]*\).*/\1/p'; }
take() { say "$1 ($(number "$1"))"; echo "$1"; exit 0; }

found=$(command -v temporal || true)
if [ -n "$found" ] && [ -z "${TEMPORAL_IGNORE_PATH:-}" ]; then
  has=$(number "$found")
  if [ -n "$has" ] && at_least "$has" "$least"; then take "$found"; fi
  say "$found is version ${has:-unknown}, $least or newer is needed; looking further"
fi
out=$cache/temporal-$version/temporal downloaded=$cache/temporal-download
mkdir -p "${out%/*}"
if [ -x "$out" ]; then take "$out"; fi

usable_go() {
  command -v go >/dev/null || return 1
  local has
  has=$(cd / && GOWORK=off go env GOVERSION | sed 's/^go//; s/ .*//')
  at_least "$has" "$go_least" && return
  # Go 1.21 and later fetch a newer toolchain themselves, unless told not to.
  at_least "$has" 1.21 && [ "$(go env GOTOOLCHAIN)" != local ]
}

if ! usable_go; then
  say "no Go $go_least or newer here; asking the Temporal SDK's downloader (needs the Internet)"
  if path=$(node "$here/download.mjs" "$downloaded"); then take "$path"; fi
  say "Neither a temporal program, nor Go $go_least, nor the download works."
  say "Next: install Go $go_least or newer, or the Temporal CLI $least or newer, and run this again."
  exit 3
fi
free_gib=$(df -Pk "$cache" | awk 'NR == 2 { print int($4 / 1048576) }')
if [ "$free_gib" -lt 5 ]; then
  say "Only $free_gib GiB are free under $cache; building Temporal needs about 5. Next: free some, or set SUREFIRE_CACHE."
  exit 4
fi

# One build at a time. The lock lives as long as this process, whatever ends it.
exec 9>"$cache/temporal-$version.lock"
if ! flock -n 9; then
  say "another build is running; waiting for it"
  flock 9
fi
if [ -x "$out" ]; then take "$out"; fi
begin=$(date +%s)
say "building temporal $version; 2 GB of memory, 4 GB of disk for Go's caches"
export CGO_ENABLED=0 GOWORK=off GOFLAGS='-mod=readonly -buildvcs=false'
(cd "$here" && go build -trimpath -ldflags "-s -w -X github.com/temporalio/cli/internal/temporalcli.Version=$version" \
  -o "$out.new" github.com/temporalio/cli/cmd/temporal 9>&-) >&2
[ "$(number "$out.new")" = "$version" ] || { say "The new program does not run: $out.new"; exit 5; }
mv -f "$out.new" "$out"
say "built in $(($(date +%s) - begin)) s"
take "$out"
