#!/usr/bin/env node
import { existsSync } from 'node:fs';
import { readdir, rm } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { parseArgs } from 'node:util';
import { actInGuest, GUEST_ACTIONS, type GuestAction } from './guest.js';
import { type LabDescription, startLab } from './lab.js';
import { DEFAULT_STATE_DIR, findRunningLab, removeLabFile, writeLabFile } from './lab-file.js';
import { untilToldToStop } from './until-told-to-stop.js';

const HELP = `The simulated data centre: a vCenter, an XCP-ng pool, VMs that boot.

  npm run lab                             start it; Ctrl-C ends it
  npm run lab -- --json                   the same, with one line of JSON on stdout when all is ready
  npm run lab -- guest web01 reboot       act as the administrator inside a guest of the running lab

Actions in a guest:
${Object.entries(GUEST_ACTIONS)
  .map(([name, meaning]) => `  ${name.padEnd(14)} ${meaning}`)
  .join('\n')}

  --state-dir DIR   where disks, passwords and logs are kept (default ${DEFAULT_STATE_DIR})
  --fresh           forget what is there and begin anew
`;

const say = (line: string): void => void process.stderr.write(`${line}\n`);

async function main(): Promise<number> {
  const { values, positionals } = parseArgs({
    options: {
      'state-dir': { type: 'string', default: DEFAULT_STATE_DIR },
      json: { type: 'boolean', default: false },
      fresh: { type: 'boolean', default: false },
      help: { type: 'boolean', short: 'h', default: false },
    },
    allowPositionals: true,
  });
  if (values.help) {
    process.stdout.write(HELP);
    return 0;
  }
  const stateDir = resolve(values['state-dir']);
  const [command, vm, action] = positionals;
  if (command === undefined) return run(stateDir, values.json, values.fresh);
  if (command === 'guest' && vm !== undefined && action !== undefined && action in GUEST_ACTIONS) {
    return guest(stateDir, vm, action as GuestAction);
  }
  say(HELP);
  return 2;
}

async function run(stateDir: string, isJson: boolean, isFresh: boolean): Promise<number> {
  const other = await findRunningLab(stateDir);
  if (other !== undefined) {
    say(
      `A lab is running on ${stateDir} already (process ${other.pid}). Next: stop it, or choose another --state-dir.`,
    );
    return 1;
  }
  if (isFresh) await forget(stateDir);
  // Before anything is started: what begins now must also end.
  const stopWord = untilToldToStop();
  const lab = await startLab({ stateDir, onStep: (what) => say(`  ${what} ...`) });
  try {
    await writeLabFile(lab.description);
    if (isJson) process.stdout.write(`${JSON.stringify(lab.description)}\n`);
    else process.stdout.write(describe(lab.description));
    say(`${await stopWord}: stopping the lab ...`);
  } finally {
    await lab.stop();
    await removeLabFile(stateDir);
  }
  say(`The lab is stopped. Its state stays in ${stateDir}.`);
  return 0;
}

async function guest(stateDir: string, vm: string, action: GuestAction): Promise<number> {
  const lab = await findRunningLab(stateDir);
  if (lab === undefined) {
    say(`No lab is running on ${stateDir}. Next: npm run lab, or say where it is with --state-dir.`);
    return 1;
  }
  for (const line of await actInGuest(lab, vm, action)) process.stdout.write(`${line}\n`);
  return 0;
}

// Only ever a folder that a lab made: --state-dir may name anything.
async function forget(stateDir: string): Promise<void> {
  if (!existsSync(stateDir)) return;
  if (!existsSync(join(stateDir, 'vms.json')) && (await readdir(stateDir)).length > 0) {
    throw new Error(`${stateDir} is no state folder of a lab, so it is not emptied. Next: choose another --state-dir.`);
  }
  await rm(stateDir, { recursive: true });
}

function describe(lab: LabDescription): string {
  const { vsphere } = lab;
  const pools = lab.pools.map(
    (pool) => `XCP-ng pool   ${pool.url}
  user        ${pool.username}
  password    ${pool.password}
  SHA-256     ${pool.fingerprintSha256}
  admin       ${pool.adminUrl}`,
  );
  const vms = lab.vms.map(
    (vm) => `  ${vm.name.padEnd(8)} ${vm.firmware}, ${vm.disks.length} disk(s), ${vm.mac}, ${vm.ip}`,
  );
  return `
vCenter       ${vsphere.url}
  user        ${vsphere.username}
  password    ${vsphere.password}
  SHA-256     ${vsphere.fingerprintSha256}
  SHA-1       ${vsphere.thumbprintSha1}
  admin       ${vsphere.adminUrl}
${pools.join('\n')}
VDDK folder   ${lab.vddkLibdir}
State folder  ${lab.stateDir}
VMs
${vms.join('\n')}

In another terminal:  npm run lab -- guest ${lab.vms[0]?.name ?? 'VM'} ${Object.keys(GUEST_ACTIONS).join('|')}
Ctrl-C ends the lab.
`;
}

main().then(
  (code) => process.exit(code),
  (error: unknown) => {
    say(`The lab failed: ${error instanceof Error ? error.message : String(error)}`);
    process.exit(1);
  },
);
