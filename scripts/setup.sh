#!/usr/bin/env bash
# setup.sh [COMMAND...] - makes everything that `npm run demo`, `npm run lab` and `npm test` need, does nothing where all
# is there, and then becomes COMMAND (by exec: signals that npm passes on must reach it, and no shell may stay between).
#
# Results lie in the cache folder ($SUREFIRE_CACHE, else ~/.cache/surefire), logs in its logs/. All words on stderr.
# temporal.path and nbdkit.path in the cache folder name the programs to use, one line each.
set -euo pipefail
cd -- "$(dirname -- "$0")/.."
cache=${SUREFIRE_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/surefire}
export SUREFIRE_CACHE=$cache PATH=$PATH:/usr/sbin:/sbin
logs=$cache/logs
mkdir -p "$logs" "$cache/bin"

say() { printf '%s\n' "$*" >&2; }
now_ms() { local t=$EPOCHREALTIME; echo $((${t%[.,]*} * 1000 + 10#${t: -6:3})); }
# Seconds since a now_ms, as "12.3 s" or "2 min 5 s".
since() {
  local ms=$(($(now_ms) - $1))
  if [ $ms -lt 60000 ]; then echo "$((ms / 1000)).$((ms % 1000 / 100)) s"; else echo "$((ms / 60000)) min $((ms % 60000 / 1000)) s"; fi
}
started=$(now_ms) did=0

# fail WHAT LOG NEXT: the end, in three parts.
fail() {
  say ""
  say "Set-up failed: $1."
  if [ -s "$2" ]; then say "Why (last lines of $2):"; tail -n 12 "$2" | sed 's/^/    /' >&2; fi
  say "Next: $3"
  exit 1
}

# step LOG_NAME WHAT NEXT COMMAND...: runs one step with its output in a log.
step() {
  local log=$logs/$1.log what=$2 next=$3 begin
  shift 3
  begin=$(now_ms) did=1
  say "  ... $what"
  set -m # a process group of its own, so that nothing of it stays when we are stopped
  "$@" >"$log" 2>&1 </dev/null 8>&- &
  job=$!
  set +m
  wait "$job" || { job=''; fail "$what" "$log" "$next"; }
  job=''
  local beside=''
  if [ -n "$temporal_building" ] && kill -0 "$temporal_pid" 2>/dev/null; then beside="   (Temporal server: building for $(since "$started"))"; fi
  say "      done in $(since "$begin")$beside"
}

job='' temporal_pid=''
stop_jobs() { for pid in $job $temporal_pid; do kill -- "-$pid" 2>/dev/null || true; done; }
trap stop_jobs EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

# --- one set-up at a time for one cache folder
exec 8>"$cache/setup.lock"
if ! flock -n 8; then
  say "Another set-up is running; waiting for it."
  flock 8
fi

# --- 1. The longest first, beside the others: a Temporal server
temporal_building=''
start_temporal() {
  if [ ! -x "$cache/temporal-1.8.2/temporal" ] && command -v go >/dev/null && ! command -v temporal >/dev/null; then
    temporal_building=yes did=1
    say "  ... a Temporal server is built from source beside the other steps: some ten minutes on 2 cores, this first time only"
  fi
  set -m
  scripts/temporal/get-temporal.sh "$cache" >"$logs/temporal.out" 2>"$logs/temporal.log" 8>&- </dev/null &
  temporal_pid=$!
  set +m
}
if command -v go >/dev/null || command -v temporal >/dev/null || [ -d node_modules/@temporalio/worker ]; then start_temporal; fi

# --- 2. Packages of the distribution
packages=(nbdkit libnbd-bin iproute2 qemu-utils qemu-system-x86 ovmf gcc libc6-dev libssl-dev stunnel4 mtools dosfstools e2fsprogs fdisk cpio kmod
  syslinux syslinux-common systemd-boot-efi python3-venv xz-utils)
[ "$(uname -m)" = x86_64 ] || fail "this machine is $(uname -m)" /dev/null "the lab's guests and libraries are for x86_64; use such a machine."
install_packages() {
  local as_root=()
  [ "$(id -u)" = 0 ] || as_root=(sudo -n)
  "${as_root[@]}" apt-get -q update
  "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -q -y --no-install-recommends install "$@"
}
can_install() { [ "$(id -u)" = 0 ] || sudo -n true 2>/dev/null; }
ensure_packages() {
  if can_install; then
    step packages "installing $*" "look at the log; is a Debian mirror reachable from here?" install_packages "$@"
  else
    fail "packages are missing, and neither root nor sudo without a password is at hand" /dev/null \
      "run this, then start again: sudo apt-get install $*"
  fi
}
if command -v dpkg-query >/dev/null; then
  # shellcheck disable=SC2016
  installed=$(dpkg-query -W -f '${db:Status-Abbrev} ${Package}\n' "${packages[@]}" 2>/dev/null | sed -n 's/^ii *//p' || true)
  missing=()
  for package in "${packages[@]}"; do
    case $'\n'$installed$'\n' in *$'\n'"$package"$'\n'*) ;; *) missing+=("$package") ;; esac
  done
  if [ ${#missing[@]} -gt 0 ]; then ensure_packages "${missing[@]}"; fi
  # Debian 13 has the vddk plugin as a package, in contrib; where apt does not know it, there is another way (below).
  if [ ! -e "$cache/nbdkit.path" ] && can_install && ! nbdkit vddk --dump-plugin >/dev/null 2>&1 &&
    [ -n "$(apt-cache show nbdkit-plugin-vddk 2>/dev/null)" ]; then
    ensure_packages nbdkit-plugin-vddk
  fi
else
  absent=()
  for program in nbdkit nbdinfo qemu-img qemu-system-x86_64 gcc mcopy mkfs.vfat mke2fs debugfs sfdisk cpio depmod syslinux python3; do
    command -v "$program" >/dev/null || absent+=("$program")
  done
  [ ${#absent[@]} = 0 ] || fail "this is not Debian, and these programs are missing: ${absent[*]}" /dev/null \
    "install them with this system's package manager (set-up is proved on Debian 12 and 13 only)."
fi

# --- 3. npm packages: again only when what is installed is not what package-lock.json says
lock_hash=$(sha256sum package-lock.json | cut -d' ' -f1)
if [ "$(cat node_modules/.setup-lock 2>/dev/null)" != "$lock_hash" ]; then
  node scripts/npm-is-current.mjs 2>/dev/null || step npm "npm ci" "look at the log; is the npm registry reachable from here?" npm ci --no-audit --no-fund --loglevel=warn
  echo "$lock_hash" >node_modules/.setup-lock
fi
[ -n "$temporal_pid" ] || start_temporal # without Go, the SDK's downloader is needed for it

# --- 4. The lab's own programs
lab_next="look at the log; the lab's sources are in lab/."
if ! lab/vddk/build.sh --check "$cache"; then
  step lab-vddk "compiling the mock VDDK library (C)" "$lab_next" lab/vddk/build.sh "$cache"
fi
if ! lab/disks/build.sh --check "$cache"; then
  step lab-disks "making the bootable template disks" "$lab_next" lab/disks/build.sh "$cache"
fi
if nbdkit vddk --dump-plugin >/dev/null 2>&1; then
  nbdkit_path=$(command -v nbdkit)
else
  nbdkit_path=$cache/nbdkit-vddk/bin/nbdkit
  if [ ! -x "$nbdkit_path" ] || ! "$nbdkit_path" vddk --dump-plugin >/dev/null 2>&1; then
    step nbdkit-vddk "fetching nbdkit's vddk plugin (Debian 13's; this system ships none)" "look at the log; is a Debian mirror reachable from here?" \
      scripts/nbdkit-vddk.sh "$cache/nbdkit-vddk"
  fi
fi
echo "$nbdkit_path" >"$cache/nbdkit.path"
vsphere_stamp=$(find lab/vsphere -type f -not -name '*_test.go' \( -name '*.go' -o -name 'go.*' -o -name build.sh \) -print0 | LC_ALL=C sort -z | xargs -0 sha256sum | sha256sum)
if [ ! -x "$cache/bin/lab-vsphere" ] || [ ! -x "$cache/bin/govc" ] || [ "$(cat "$cache/bin/.vsphere.sources" 2>/dev/null)" != "$vsphere_stamp" ]; then
  step lab-vsphere "compiling the simulated vCenter and govc (Go)" "$lab_next It needs Go 1.25 or newer." lab/vsphere/build.sh "$cache"
  echo "$vsphere_stamp" >"$cache/bin/.vsphere.sources"
fi

# --- 5. TypeScript
sources=$(find src lab bench scripts tsconfig.json tsconfig.build.json \( -name '*.ts' -o -name '*.json' \) -type f -not -path '*/node_modules/*' -print0 |
  LC_ALL=C sort -z | xargs -0 sha256sum | sha256sum)
if [ "$(cat dist/.setup-sources 2>/dev/null)" != "$sources$lock_hash" ]; then
  step typescript "compiling TypeScript" "correct the errors above, or report them: a released version has none." npx tsc -p tsconfig.build.json
  echo "$sources$lock_hash" >dist/.setup-sources
fi

# --- 6. Wait for the Temporal server
waited=0
while kill -0 "$temporal_pid" 2>/dev/null; do
  sleep 0.2
  waited=$((waited + 1))
  if [ $((waited % 150)) = 0 ]; then say "      the Temporal server is still being made: $(since "$started") so far"; fi
done
if ! wait "$temporal_pid"; then
  temporal_pid=
  fail "there is no Temporal server" "$logs/temporal.log" "as said above; a \`temporal\` program of version 1.8 or newer on PATH is enough."
fi
temporal_pid=
cp "$logs/temporal.out" "$cache/temporal.path"
say "Set-up: $([ $did = 1 ] && echo complete || echo "nothing to do"), $(since "$started"). Temporal server: $(tail -n 1 "$logs/temporal.log")."
if [ $# -gt 0 ]; then
  exec 8>&-
  exec "$@"
fi
