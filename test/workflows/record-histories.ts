import { historyToJSON } from '@temporalio/common/lib/proto-utils.js';
import { readdirSync, rmSync } from 'node:fs';
import { writeFile } from 'node:fs/promises';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { WaitingFor } from '../../src/shared/index.js';
import { Bench, MIB, plain, Run, useChosenNbdkit, waitFor, type Choices } from '../e2e/harness.js';
import { placesOf, secretsOf } from '../e2e/secret-scan.js';

// No test by itself: `scripts/record-histories.sh` runs it, and replay.test.ts replays what it leaves.

const ROOT = fileURLToPath(new URL('../..', import.meta.url));
const HISTORIES = join(ROOT, 'test/fixtures/histories');
const VERSION = '0.1.0';

/** What is done at a gate; `REOPENED` says that the same gate waits again. */
type Answer = (run: Run, vm: string, mark: (place: string) => Promise<void>) => Promise<unknown>;
const REOPENED = Symbol('reopened');

/** One migration, and the people in it: what is said at a gate the first time, the second time; afterwards the usual. */
interface Story {
  vm: string;
  transport: 'vddk' | 'https';
  choices?: Choices;
  answers?: Partial<Record<WaitingFor, Answer[]>>;
  /** Done in the middle of the first copy. */
  midCopy?: Answer;
}

const USUAL: Partial<Record<WaitingFor, Answer>> = {
  warnings: (run) => run.say('acknowledgeWarnings', { reason: 'known and accepted' }),
  'snapshot-removal': (run) => run.say('approveSnapshotRemoval', {}),
  'tools-removal': async (run) => {
    await run.removeTools();
    await run.say('confirmToolsRemoved', {});
  },
  verification: (run) => run.say('acceptTestCopy', {}),
  'cutover-approval': async (run, vm) => {
    await bench.guestWrites(vm);
    await run.say('approveCutover', {});
  },
  'power-off': (_run, vm) => bench.vsphere.shutdown(vm),
  acceptance: async (run) => {
    await run.records('was read back in full');
    await run.say('acceptMigration', {});
  },
};

const STORIES: Story[] = [
  {
    vm: 'gated',
    transport: 'vddk',
    choices: { acknowledge: false },
    answers: {
      verification: [
        async (run) => {
          await run.say('addNote', { text: 'set a static address', fix: true });
          await run.say('acceptTestCopy', {});
        },
      ],
      acceptance: [
        async (run, vm, mark) => {
          await run.say('addNote', { text: '', done: 1 });
          await USUAL.acceptance?.(run, vm, mark);
        },
      ],
    },
  },
  {
    vm: 'repeated',
    transport: 'https',
    answers: {
      'tools-removal': [
        async (run) => {
          await run.removeTools();
          await run.say('revertToBaseline', { reason: 'it does not boot' });
          await run.records('The source was reverted');
          await run.reaches('tools-removal');
          return REOPENED;
        },
        (run) => run.say('confirmToolsRemoved', { override: true, reason: 'an appliance that keeps them' }),
      ],
      verification: [(run) => run.say('rejectTestCopy', { then: 'redo', reason: 'no network' })],
      'power-off': [(run) => run.say('rollback', { reason: 'not tonight' })],
    },
  },
  {
    vm: 'reset',
    transport: 'vddk',
    answers: {
      'cutover-approval': [
        async (run, vm) => {
          await bench.vsphere.resetTracking(vm);
          await run.say('approveCutover', {});
        },
        async (run, vm) => {
          await bench.vsphere.resetTracking(vm);
          await run.say('approveCutover', {});
        },
      ],
      decision: [
        (run) => run.say('decideAfterFailure', { decision: 'back' }),
        (run) => run.say('decideAfterFailure', { decision: 'full' }),
      ],
    },
  },
  {
    vm: 'decided',
    transport: 'https',
    answers: {
      decision: [
        (run) => run.say('decideAfterFailure', { decision: 'retry' }),
        (run) => run.say('decideAfterFailure', { decision: 'abort' }),
      ],
    },
  },
  {
    vm: 'paused',
    transport: 'vddk',
    midCopy: async (run, _vm, mark) => {
      await run.say('pause', { reason: 'the backup runs' });
      await waitFor('the copy to stop', async () => (await bench.client.status(run.id)).steps.length === 0);
      await mark('paused');
      await run.say('resume', {});
    },
    answers: {
      'cutover-approval': [
        async (run) => {
          await run.say('pause', { reason: 'a freeze' });
          await run.say('approveCutover', {});
          await run.say('resume', {});
        },
      ],
    },
  },
  {
    vm: 'returned',
    transport: 'https',
    choices: { policy: { hardPowerOffConsent: 'a cache', shutdownTimeoutSeconds: 3 } },
    answers: { acceptance: [(run) => run.say('rollback', { reason: 'the application is slow' })] },
  },
  {
    vm: 'rejected',
    transport: 'vddk',
    answers: { verification: [(run) => run.say('rejectTestCopy', { then: 'abort', reason: 'bound to VMware' })] },
  },
  { vm: 'cancelled', transport: 'https', midCopy: (run) => run.cancel('postponed') },
];

let bench: Bench;

beforeAll(async () => {
  for (const name of readdirSync(HISTORIES)) if (name.startsWith(`${VERSION}-`)) rmSync(join(HISTORIES, name));
  await useChosenNbdkit();
  bench = await Bench.start([
    { name: 'gated', firmware: 'bios' },
    { name: 'repeated', firmware: 'uefi', dataDiskBytes: [16 * MIB] },
    ...['reset', 'decided', 'paused', 'returned', 'rejected', 'cancelled'].map((name) => plain(name)),
  ]);
  await bench.foreignSnapshot('gated', 'before the upgrade');
  // Refused for good, twice: the person decides to retry, then to give up.
  for (let count = 0; count < 2; count += 1)
    await bench.pool.fault({ kind: 'call', method: 'VM.create', code: 'LICENSE_RESTRICTION', about: ['decided'] });
});

afterAll(() => bench?.stop());

describe('the history of a migration', () => {
  it.for(STORIES)('that is $vm over $transport', async ({ vm, transport, choices, answers = {}, midCopy }) => {
    const run = await bench.migrate(vm, { ...choices, policy: { transport, ...choices?.policy } });
    const seen = new Map<string, string[]>();
    // Marks where the history stands now, between two workflow tasks.
    const mark = async (place: string) => {
      const events = await waitFor('the workflow to rest', async () => {
        const now = await eventsOf(run);
        return !/EVENT_TYPE_WORKFLOW_TASK_(SCHEDULED|STARTED)/.test(now.at(-1) ?? '') && now;
      });
      const times = [...seen.keys()].filter((one) => one.startsWith(place)).length;
      seen.set(times === 0 ? place : `${place} ${times + 1}`, events);
    };
    let isCopied = false;
    for (;;) {
      const { execution, status, steps } = await bench.client.status(run.id);
      if (execution !== 'RUNNING') break;
      if (!isCopied && status?.stage === 'base-copy' && status.disks.every(({ vdiUuid }) => vdiUuid !== undefined)) {
        for (const { vdiUuid: vdi = '' } of status.disks)
          if (steps.length === 0) await bench.pool.fault({ kind: 'slow', vdi, writeMs: 500, times: 1 });
        await run.isSending();
        await mark('mid-copy');
        isCopied = true;
        await midCopy?.(run, vm, mark);
      }
      const gate = status?.waitingFor ?? 'none';
      if (gate !== 'none') {
        await mark(gate);
        const answer = answers[gate]?.shift() ?? USUAL[gate];
        if (answer === undefined) throw new Error(`${vm}: nobody answers ${gate}: ${status?.instruction}`);
        if ((await answer(run, vm, mark)) === REOPENED) continue;
        await waitFor(`${vm} to leave ${gate}`, async () => {
          const now = await bench.client.status(run.id);
          return now.execution !== 'RUNNING' || now.status?.waitingFor !== gate;
        });
      }
      await new Promise((resolve) => setTimeout(resolve, 100));
    }
    const { outcome } = await run.ends();
    await keep(`${vm}-${transport}-${outcome}`, await eventsOf(run), seen);
  });
});

/** Writes a fixture: one event a line, the lengths that the history had while it was open, nothing of this machine. */
async function keep(name: string, events: string[], seen: Map<string, string[]>): Promise<void> {
  // A parked migration's history is the beginning of its later one, so one file serves for all.
  // Of a map the order says nothing, and differs each time it is asked for.
  const parsed = (texts: string[]) => texts.map((text) => JSON.parse(text) as object);
  for (const [place, before] of seen) expect(parsed(events.slice(0, before.length)), place).toEqual(parsed(before));
  const openAt = Object.fromEntries([...seen].map(([place, before]) => [place, before.length]));
  const text = `{"openAt":${JSON.stringify(openAt)},"events":[\n${events.join(',\n')}\n]}\n`;
  const clean = text.replaceAll(ROOT, '/opt/surefire/');
  for (const secret of [...(await secretsOf(bench)), `${homedir()}/`])
    expect(placesOf(secret, new Map([[name, clean]])), 'a secret, or a private path').toEqual([]);
  await writeFile(join(HISTORIES, `${VERSION}-${name}.json`), clean);
}

async function eventsOf(run: Run): Promise<string[]> {
  const history = await bench.temporal.workflow.getHandle(run.id).fetchHistory();
  const { events } = JSON.parse(historyToJSON(history)) as { events: object[] };
  return events.map((event) => JSON.stringify(event));
}
