#!/usr/bin/env node
import { existsSync } from 'node:fs';
import { readFile, rm } from 'node:fs/promises';
import { join, relative, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { formatBytes, formatDuration } from '../../src/shared/index.js';
import { cachePath } from '../cache.js';
import { DEMO_VMS, startLab } from '../lab.js';
import type { Lab } from '../lab.js';
import { DEFAULT_STATE_DIR, findRunningLab, removeLabFile, writeLabFile } from '../lab-file.js';
import { freePort } from '../ports.js';
import { untilToldToStop } from '../until-told-to-stop.js';
import { checkVm } from './checks.js';
import type { CheckedVm } from './checks.js';
import { LAB_ENDPOINTS, writeConfig } from './config.js';
import { play } from './play.js';
import type { Stage } from './play.js';
import { Surefire } from './surefire.js';
import { createTeller } from './tell.js';
import type { Teller } from './tell.js';

const HELP = `Two real VMs move from a simulated vSphere to a simulated XCP-ng pool, through every stage of the procedure.

  npm run demo                  stops at each gate and shows what answers it
  npm run demo -- --yes         answers the gates itself
  npm run demo -- --yes --json  the same as JSON lines on stdout; the last one is the result

  --state-dir DIR   where the lab lives (default ${DEFAULT_STATE_DIR}); what an earlier demo left there is removed first
`;

/** How each VM of the demo is read: the first through VDDK, the second by the door that is always open. */
const TRANSPORTS: Record<string, 'vddk' | 'https'> = { web01: 'vddk', db01: 'https' };
/** Small, so that even these small disks travel in several PUTs. */
const SEGMENT_BYTES = 16 * 1024 * 1024;

async function main(): Promise<number> {
  const { values } = parseArgs({
    options: {
      yes: { type: 'boolean', default: false },
      json: { type: 'boolean', default: false },
      'state-dir': { type: 'string', default: DEFAULT_STATE_DIR },
      help: { type: 'boolean', short: 'h', default: false },
    },
  });
  if (values.help) {
    process.stdout.write(HELP);
    return 0;
  }
  const stateDir = resolve(values['state-dir']);
  const other = await findRunningLab(stateDir);
  if (other)
    throw new Error(
      `A lab runs on ${stateDir} already (process ${other.pid}).\nNext: stop it, or choose another --state-dir.`,
    );
  if (existsSync(stateDir)) {
    if (!existsSync(join(stateDir, 'vms.json'))) {
      throw new Error(
        `${stateDir} is not the state folder of a lab, so it is not emptied.\nNext: choose another --state-dir.`,
      );
    }
    await rm(stateDir, { recursive: true });
  }
  const tell = createTeller(values.json);
  const told = untilToldToStop();
  tell.chapter(
    'The data centre',
    'A vCenter whose VMs have real disks, an XCP-ng pool that really boots VMs, and nothing outside this machine.',
  );
  const lab = await startLab({ stateDir, onStep: (what) => tell.line(what) });
  const running: { stop(): Promise<void> }[] = [lab];
  try {
    await writeLabFile(lab.description);
    const migrated = migrateAll(lab, tell, values.yes, (up) => running.unshift(up));
    return await Promise.race([migrated, told.then((why) => interrupted(why))]);
  } finally {
    for (const part of running) await part.stop();
    await removeLabFile(stateDir);
  }
}

async function migrateAll(
  lab: Lab,
  tell: Teller,
  yes: boolean,
  onUp: (up: { stop(): Promise<void> }) => void,
): Promise<number> {
  const { stateDir } = lab.description;
  const configFile = await writeDemoConfig(lab);
  const surefire = new Surefire(configFile);
  const command = (text: string) =>
    `npm run surefire -- ${text} --config ${relative(process.cwd(), configFile) || configFile}`;
  tell.chapter('surefire up', 'Temporal remembers every migration in a file; two workers do the steps.');
  const up = await surefire.up();
  onUp(up);
  tell.line(`Web UI  ${up.webUrl}/namespaces/surefire/workflows`);
  tell.chapter('surefire migrate', 'One Temporal workflow for each VM.');
  const urls = new Map<string, string>();
  for (const { name } of DEMO_VMS) {
    const args = ['--vcenter', LAB_ENDPOINTS.vcenter, '--transport', TRANSPORTS[name] ?? 'auto', '--shutdown-hook'];
    const started = await surefire.must('migrate', name, ...args, '--as', 'demo');
    urls.set(name, String(started['webUrl']));
    tell.line(`${name} by ${TRANSPORTS[name]}: ${String(started['webUrl'])}`);
    tell.event({ event: 'started', vm: name, migrationId: started['migrationId'], webUrl: started['webUrl'] });
  }
  tell.chapter(
    'The procedure',
    'Each line is what surefire itself recorded; the workflow waits for people at its gates.',
  );
  const stage: Stage = { lab, surefire, tell, yes, command, webUrl: (vm) => urls.get(vm) ?? '' };
  const played = await Promise.all(DEMO_VMS.map(({ name }) => play(stage, name)));
  tell.chapter('The proof', 'From the raw files of both sides, not from what surefire says of itself.');
  const vms: CheckedVm[] = [];
  for (const one of played) vms.push(await checkVm(stage, one));
  return conclude(tell, stateDir, vms);
}

function conclude(tell: Teller, stateDir: string, vms: CheckedVm[]): number {
  const leftovers = vms.flatMap((vm) => vm.leftovers);
  const wrong = vms.flatMap((vm) => vm.wrong.map((what) => `${vm.name}: ${what}`));
  const passed = wrong.length === 0 && leftovers.length === 0;
  const lines = vms.flatMap((vm) => [
    `  ${vm.name}: ${vm.outcome}, ${vm.firmware}, over ${vm.transport}, ${formatDuration(vm.downtimeSeconds)} of downtime, test copy booted: ${vm.testCopyBooted ? 'yes' : 'NO'}, target booted: ${vm.targetBooted ? 'yes' : 'NO'}`,
    ...vm.disks.flatMap((disk) => [
      `    ${formatBytes(disk.virtualSizeBytes)} disk: ${formatBytes(disk.baseBytesSent)} sent as base, ${formatBytes(disk.deltaBytesSent)} as delta (${disk.deltaMethod})`,
      `      source ${disk.sourceDigest}  ${relative(process.cwd(), disk.source)}`,
      `      target ${disk.targetDigest}  ${relative(process.cwd(), disk.target)}`,
    ]),
  ]);
  const summary = [
    ...lines,
    ...wrong.map((what) => `  WRONG  ${what}`),
    ...leftovers.map((what) => `  LEFT   ${what}`),
    '',
    passed ? 'Both VMs have moved: they boot, and every byte of every disk is equal.' : 'The demo has failed.',
    `The files stay in ${relative(process.cwd(), stateDir) || stateDir} until the next run; compare them yourself with \`cmp -n SIZE SOURCE TARGET\`.`,
  ].join('\n');
  const result = {
    outcome: passed ? 'passed' : 'failed',
    stateDir,
    vms,
    leftovers,
    ...(wrong.length > 0 && { wrong }),
  };
  tell.end(result, summary);
  return passed ? 0 : 1;
}

async function writeDemoConfig(lab: Lab): Promise<string> {
  const { stateDir } = lab.description;
  const recorded = async (name: string) =>
    (await readFile(cachePath(name), 'utf8').catch(() => '')).trim() || undefined;
  const labMain = fileURLToPath(new URL('../main.js', import.meta.url));
  const [nbdkit, temporal] = [await recorded('nbdkit.path'), await recorded('temporal.path')];
  return writeConfig(join(stateDir, 'surefire'), lab.description, {
    // The guest's administrator shuts it down from inside, as ssh or WinRM would: Tools are gone by then (R10).
    shutdownHook: [
      'sh',
      '-c',
      `exec '${process.execPath}' '${labMain}' guest "$SUREFIRE_VM" shutdown --state-dir '${stateDir}'`,
    ],
    ...(nbdkit !== undefined && { nbdkit }),
    ...(temporal !== undefined && { temporal }),
    segmentBytes: SEGMENT_BYTES,
    ports: { temporal: await freePort(7233), webUi: await freePort(8233) },
  });
}

function interrupted(why: string): number {
  process.stderr.write(`\n${why}: the demo ends here. The migrations in it end with it.\n`);
  return 130;
}

main().then(
  (code) => process.exit(code),
  (error: unknown) => {
    const reason = error instanceof Error ? error.message : String(error);
    process.stderr.write(`The demo failed: ${reason}\n`);
    // Whoever reads the last line of the JSON must find an outcome there, this one too.
    if (process.argv.includes('--json')) {
      process.stdout.write(`${JSON.stringify({ schema: 1, outcome: 'failed', reason })}\n`);
    }
    process.exit(1);
  },
);
