#!/bin/sh
# build.sh CACHE_DIR: builds CACHE_DIR/bin/lab-vsphere and CACHE_DIR/bin/govc.
# Does nothing when both were built from these very sources.
set -eu
[ $# = 1 ] || { echo "usage: $0 CACHE_DIR" >&2; exit 2; }
mkdir -p "$1/bin"
bin=$(cd "$1/bin" && pwd)
cd "$(dirname "$0")"

stamp=$(find . -name '*_test.go' -prune -o \( -name '*.go' -o -name 'go.*' \) -print | LC_ALL=C sort | xargs sha256sum | sha256sum | cut -d ' ' -f 1)
if [ -x "$bin/lab-vsphere" ] && [ -x "$bin/govc" ] && [ "$(cat "$bin/.lab-vsphere.stamp" 2>/dev/null)" = "$stamp" ]; then
  exit 0
fi
command -v go >/dev/null || {
  echo "lab/vsphere cannot be built: there is no go command. It is written in Go on govmomi's simulator. Next: install Go 1.25 or newer." >&2
  exit 1
}
# Built beside the old ones and moved over them: a running lab keeps its file.
for target in lab-vsphere=. govc=./govc; do
  go build -trimpath -buildvcs=false -ldflags '-s -w' -o "$bin/.${target%%=*}.new" "${target#*=}"
  mv "$bin/.${target%%=*}.new" "$bin/${target%%=*}"
done
echo "$stamp" > "$bin/.lab-vsphere.stamp"
