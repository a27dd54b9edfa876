#!/usr/bin/env bash
# build.sh [--check] CACHE_DIR - compiles the mock library to CACHE_DIR/vddk/lib64/libvixDiskLib.so.8.
# Does nothing when that was built from the same sources before; --check only says by its status whether it was.
set -euo pipefail
here=$(cd -- "$(dirname -- "$0")" && pwd)
check=
if [ "${1:-}" = --check ]; then check=1; shift; fi
lib64=${1:?usage: build.sh [--check] CACHE_DIR}/vddk/lib64
so=$lib64/libvixDiskLib.so.8
stamp=$(cat "$here"/*.[ch] "$here/build.sh" | sha256sum | cut -d' ' -f1)
if [ -e "$so" ] && [ "$(cat "$so.stamp" 2>/dev/null)" = "$stamp" ]; then exit 0; fi
[ -z "$check" ] || exit 1
mkdir -p "$lib64"
# -Bsymbolic: nbdkit loads plugins globally, and a plugin may have variables of the same names as our functions.
"${CC:-cc}" -std=gnu11 -O2 -Wall -Wextra -Werror -fPIC -shared -fvisibility=hidden -pthread -Wl,-Bsymbolic \
  -o "$so.$$" "$here"/*.c
mv -f "$so.$$" "$so"
echo "$stamp" >"$so.stamp"
