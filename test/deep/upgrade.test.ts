import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { changedBuild } from '../changed-build.js';
import { Bench, failureOf, MIB, OPERATOR, plain, surefireUp, useChosenNbdkit, waitFor } from '../e2e/harness.js';
import type { Run, SmallHome } from '../e2e/harness.js';
import { workerPid } from '../e2e/workers.js';

/** What `writeConfig` of a bench says. */
const SEGMENT_BYTES = 8 * MIB;
/** Of an activity that the next version starts. */
const NEXT_HEARTBEAT_SECONDS = 24;

let folder: string;
let bench: Bench;
let home: SmallHome;
/** `main.js` of the next version: other activity options, and a message that this one does not know. */
let next: string;

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'surefire-next-'));
  const workflow = 'workflows/migrate-vm.js';
  const build = await changedBuild('dist/src', folder, [
    {
      file: 'workflows/activity-options.js',
      from: "heartbeatTimeout = '25 seconds'",
      to: `heartbeatTimeout = '${NEXT_HEARTBEAT_SECONDS} seconds'`,
    },
    {
      file: 'workflows/activity-options.js',
      from: "initialInterval: '2 seconds', backoffCoefficient: 1 ",
      to: "initialInterval: '1 second', backoffCoefficient: 1 ",
    },
    {
      file: workflow,
      from: "} from '@temporalio/workflow';",
      to: "} from '@temporalio/workflow';\nimport { defineUpdate, setHandler } from '@temporalio/workflow';",
    },
    {
      file: workflow,
      from: 'gates.register();',
      to: `gates.register();
    setHandler(defineUpdate('countersign'), (word) => migration.note('It was countersigned.', word));`,
    },
  ]);
  next = join(build, 'cli/main.js');
  await useChosenNbdkit();
  const vms = [plain('drained'), plain('cut'), { name: 'parked', firmware: 'bios' as const }];
  bench = await Bench.start(vms, undefined, {}, async (file) => {
    home = await surefireUp(file);
    // Whichever runs at the end.
    return { ...home, stop: () => home.stop() };
  });
});

afterAll(async () => {
  await bench?.stop();
  await rm(folder, { recursive: true, force: true });
});

describe('an upgrade in the middle of migrations', () => {
  it('[D14] is taken over by the next version at a gate and in mid-copy, after a drain and after kill -9, and reads nothing twice', async () => {
    const [drained, cut, parked] = await Promise.all([
      bench.migrate('drained', { policy: { transport: 'https' } }),
      bench.migrate('cut', { policy: { transport: 'vddk' } }),
      bench.migrate('parked', { policy: { transport: 'https' } }),
    ]);
    await parked.reaches('tools-removal');
    expect((await failureOf(countersign(parked))).message).toMatch(/countersign/);
    await Promise.all([slowDown(drained), slowDown(cut)]);
    await Promise.all([isHalfway(drained), isHalfway(cut)]);

    // SIGTERM, as systemd and Ctrl-C do it: each copy ends at its checkpoint, and reports how far it came.
    await home.stop();
    expect(home.process.exitCode).toBe(0);
    const left = { drained: await segmentsOf(drained), cut: await segmentsOf(cut) };
    await startNext();
    for (const run of [drained, cut, parked]) await countersign(run);
    await goesOn(drained, left.drained);
    await goesOn(cut, left.cut);
    expect(await sentTwice(drained), 'drained').toBeLessThanOrEqual(SEGMENT_BYTES);
    expect(await readTwice('drained')).toBeLessThanOrEqual(SEGMENT_BYTES);

    // A power cut: nobody ends in order.
    const workers = [await workerPid(bench, 'transfer'), await workerPid(bench, 'orchestrator')];
    home.process.kill('SIGKILL');
    for (const pid of workers) process.kill(pid, 'SIGKILL');
    await home.process;
    await waitFor('the Temporal server to be gone', async () => !isAlive(home.temporalPid));
    await startNext();
    await bench.pool.fault({ kind: 'clear' });
    await parked.removeTools();
    await parked.say('confirmToolsRemoved', {});

    await Promise.all([drained, cut, parked].map((run) => run.reaches('verification')));
    // Two interruptions, each of one segment at most.
    for (const run of [drained, cut]) expect(await sentTwice(run)).toBeLessThanOrEqual(2 * SEGMENT_BYTES);
    expect(await readTwice('drained')).toBeLessThanOrEqual(2 * SEGMENT_BYTES);
    await Promise.all([drained, cut, parked].map((run) => ends(run)));
  });
});

/** The rest of the way, by the next version, and what the histories say of the change. */
async function ends(run: Run): Promise<void> {
  await run.goTo('acceptance');
  const report = await run.accept();
  expect(await run.comparesEqual(report)).toEqual([true]);
  expect(report.record).toContainEqual(expect.objectContaining({ text: 'It was countersigned.', by: OPERATOR }));
  expect(report.leftovers).toEqual([]);
  const { failedTasks, heartbeats } = await historyOf(run);
  expect(failedTasks, 'no workflow task failed, so none found another history than its own').toEqual([]);
  expect(heartbeats.at(0)).not.toBe(NEXT_HEARTBEAT_SECONDS);
  expect(heartbeats.at(-1)).toBe(NEXT_HEARTBEAT_SECONDS);
}

/** `surefire up` of the next version, on the same database and ports. */
async function startNext(): Promise<void> {
  const portOf = (url: string) => /:(\d+)$/.exec(url)?.[1] ?? '';
  const { address, webUrl } = bench.config.temporal;
  home = await surefireUp(bench.config.path, { port: portOf(address), uiPort: portOf(webUrl), main: next });
}

/** The message that only the next version knows. */
const countersign = (run: Run) => run.sayRaw('countersign' as 'addNote', { operator: OPERATOR });

/** Where each migration's disk is; asked once, for the server may be away. */
const vdis = new Map<Run, string>();

async function slowDown(run: Run): Promise<void> {
  const { disks } = await run.records('The target VM was created');
  const vdi = disks[0]?.vdiUuid ?? '';
  vdis.set(run, vdi);
  await bench.pool.fault({ kind: 'slow', vdi, writeMs: 600, times: 1000 });
}

async function importsOf(run: Run) {
  return (await bench.pool.imports()).filter(({ vdiUuid }) => vdiUuid === vdis.get(run));
}

/** How many segments have arrived. */
async function segmentsOf(run: Run): Promise<number> {
  return (await importsOf(run)).filter(({ outcome }) => outcome === 'success').length;
}

/** Waits until a segment has arrived, and another is on its way. */
async function isHalfway(run: Run): Promise<void> {
  await waitFor('a segment to arrive, and the next to begin', async () => {
    const imports = await importsOf(run);
    return imports.some(({ outcome }) => outcome === 'success') && imports.at(-1)?.outcome === undefined;
  });
}

async function goesOn(run: Run, before: number): Promise<void> {
  await waitFor('another segment to arrive', async () => (await segmentsOf(run)) > before);
}

/** Bytes that the pool was sent more than once. */
async function sentTwice(run: Run): Promise<number> {
  return bytesTwice((await importsOf(run)).flatMap(({ chunks }) => chunks));
}

/** Bytes of the disk's file that vCenter served more than once. */
async function readTwice(vm: string): Promise<number> {
  const asked = (await bench.vsphere.calls()).flatMap(({ method, object }) => {
    const range = object.startsWith(`/folder/${vm}/${vm}-flat.vmdk `) && /bytes=(\d+)-(\d+)$/.exec(object);
    if (method !== 'GET' || !range) return [];
    return [{ offset: Number(range[1]), length: Number(range[2]) - Number(range[1]) + 1 }];
  });
  expect(asked).not.toEqual([]);
  return bytesTwice(asked);
}

function bytesTwice(ranges: { offset: number; length: number }[]): number {
  let [end, twice] = [0, 0];
  for (const { offset, length } of [...ranges].sort((a, b) => a.offset - b.offset)) {
    twice += Math.max(0, Math.min(end, offset + length) - offset);
    end = Math.max(end, offset + length);
  }
  return twice;
}

function isAlive(pid: number): boolean {
  try {
    return process.kill(pid, 0);
  } catch {
    return false;
  }
}

/** Workflow tasks that failed, and the heartbeat timeout in seconds of each activity, in the order they were asked for. */
async function historyOf(run: Run) {
  const { events } = await bench.temporal.workflow.getHandle(run.id).fetchHistory();
  return {
    failedTasks: (events ?? []).flatMap((event) => event.workflowTaskFailedEventAttributes?.failure?.message ?? []),
    heartbeats: (events ?? []).flatMap((event) => {
      const seconds = event.activityTaskScheduledEventAttributes?.heartbeatTimeout?.seconds;
      return seconds === undefined || seconds === null ? [] : [Number(seconds)];
    }),
  };
}
