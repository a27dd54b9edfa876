#!/usr/bin/env bash
# record-history.sh VM TRANSPORT OUTPUT.json [ENDING] - records the history of one whole migration in a lab of its own, for
# test/workflows/replay.test.ts. Needs what scripts/setup.sh makes. Example:
#
#   scripts/setup.sh scripts/record-history.sh web01 vddk test/fixtures/histories/0.1.0-migrated-vddk.json
#
# ENDING is migrated (default), rolled-back (after the cutover) or aborted (the test copy is rejected).
#
# A history names files, hosts and people, so it is recorded in a neutral folder, under a neutral host name.
set -euo pipefail
if [ "${SUREFIRE_RECORDING:-}" != inside ]; then
  root=$(cd -- "$(dirname -- "$0")/.." && pwd)
  output=$(realpath -m -- "${3:?usage: record-history.sh VM TRANSPORT OUTPUT.json [ENDING]}")
  export SUREFIRE_RECORDING=inside
  exec unshare --map-root-user --uts --fork --kill-child sh -c 'hostname surefire-host && cd "$1" && shift && exec "$@"' - \
    "$root" scripts/record-history.sh "$1" "$2" "$output" "${4:-migrated}"
fi
vm=$1 transport=$2 output=$3 ending=$4
cache=${SUREFIRE_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/surefire}
folder=$(mktemp -d /tmp/surefire-lab.XXXXXX)
export PATH=$(dirname -- "$(cat "$cache/nbdkit.path")"):$PATH SUREFIRE_CONFIG=$folder/surefire.yaml SUREFIRE_OPERATOR=operator
say() { printf '%s\n' "$*" >&2; }
surefire() { node dist/src/cli/main.js "$@"; }
field() { node -e 'let s="";process.stdin.on("data",(d)=>s+=d).on("end",()=>{for(const k of process.argv[1].split("."))s=(typeof s==="string"?JSON.parse(s):s)?.[k];process.stdout.write(String(s??""))})' "$1"; }

children=()
stop() {
  local pid
  for pid in "${children[@]}"; do kill "$pid" 2>/dev/null || true; done
  for pid in "${children[@]}"; do wait "$pid" 2>/dev/null || true; done
  if [ -z "${SUREFIRE_KEEP:-}" ]; then rm -rf -- "$folder"; else say "Kept: $folder"; fi
}
trap stop EXIT
trap 'exit 130' INT TERM
# wait_for_line FILE: the first line that a program has written, once it is whole.
wait_for_line() {
  local tries
  for tries in $(seq 240); do
    if [ "$(wc -l <"$1")" -gt 0 ]; then head -n 1 "$1"; return; fi
    sleep 0.5
  done
  say "Nothing came from ${1##*/} in time; see $folder."; SUREFIRE_KEEP=yes; exit 1
}

node dist/lab/main.js --json --state-dir "$folder/lab" >"$folder/lab.out" 2>"$folder/lab.log" &
children+=($!)
wait_for_line "$folder/lab.out" >"$folder/lab.json"
TEMPORAL=$(cat "$cache/temporal.path") node --input-type=module - "$folder" <<'JS'
import { readFileSync } from 'node:fs';
import { writeConfig } from './dist/lab/demo/config.js';
const folder = process.argv[2];
await writeConfig(folder, JSON.parse(readFileSync(`${folder}/lab.json`, 'utf8')), { temporal: process.env.TEMPORAL });
JS
# Not by the function above: its process would be a shell, and a signal would end only that.
node dist/src/cli/main.js up --port 0 --ui-port 0 --json >"$folder/up.out" 2>"$folder/up.log" &
children+=($!)
wait_for_line "$folder/up.out" >"$folder/up.json"
SUREFIRE_TEMPORAL_ADDRESS=$(field address <"$folder/up.json")
export SUREFIRE_TEMPORAL_ADDRESS
say "Web UI: $(field webUrl <"$folder/up.json")"

guest() { node dist/lab/main.js guest "$vm" "$1" --state-dir "$folder/lab" >&2; }
id=$(surefire migrate "$vm" --transport "$transport" --json | field migrationId)
said=''
for tries in $(seq 1200); do
  view=$(surefire status "$vm" --json)
  [ "$(field execution <<<"$view")" = RUNNING ] || break
  waiting=$(field waitingFor <<<"$view")
  if [ "$waiting" != "$said" ]; then say "  $waiting ($(field stage <<<"$view"))"; said=$waiting; fi
  case $ending/$waiting in
    */none) ;;
    aborted/verification) surefire reject "$vm" --reason 'no network' --then abort >&2 || true ;;
    rolled-back/acceptance) surefire rollback "$vm" --reason 'application fails' >&2 || true ;;
    */tools-removal)
      guest write
      guest remove-tools
      until surefire status "$vm" --json | grep -q 'VMware Tools are gone'; do sleep 1; done
      guest reboot
      surefire approve "$vm" >&2 || true
      ;;
    */power-off) guest write; guest shutdown ;;
    */warnings) surefire approve "$vm" --reason 'known and accepted' >&2 ;;
    */decision) say "It failed: $(field status.instruction <<<"$view")"; exit 1 ;;
    # Refused while the evidence is not there yet, such as a read-back that still runs: asked again.
    *) surefire approve "$vm" >&2 || true ;;
  esac
  sleep 1
done
mkdir -p -- "$(dirname -- "$output")"
# One event a line: smaller, and a difference can be read. The stack trace of a failure names this folder.
"$(cat "$cache/temporal.path")" workflow show -w "$id" -n surefire --address "$SUREFIRE_TEMPORAL_ADDRESS" -o json |
  node -e 'const h=JSON.parse(fs.readFileSync(0,"utf8"));process.stdout.write(`{"events":[\n${h.events.map((e)=>JSON.stringify(e)).join(",\n")}\n]}\n`.replaceAll(fs.realpathSync("node_modules"),"/opt/surefire/node_modules").replaceAll(process.cwd(),"/opt/surefire"))' >"$output"
say "$output: $(field execution <<<"$view"), $(grep -c '"eventId"' "$output") events"
# What must never be kept: passwords of the lab, this user's folders.
passwords=$(node -p 'const l=JSON.parse(fs.readFileSync(process.argv[1],"utf8"));[l.vsphere.password,...l.pools.map((p)=>p.password)].join("\n")' "$folder/lab.json")
while read -r secret; do
  if node -e '
    const [file, secret] = process.argv.slice(1);
    const text = fs.readFileSync(file, "utf8");
    const plain = text + (text.match(/"data":"[^"]*"/g) ?? []).map((d) => Buffer.from(d.split("\"")[3], "base64")).join("\n");
    process.exit(plain.includes(secret) ? 0 : 1)' "$output" "$secret"; then
    rm -f -- "$output"
    say "The history contained a password or a private path, and was deleted: see what writes it."
    exit 1
  fi
done <<<"$passwords
$HOME/
$PWD/"
