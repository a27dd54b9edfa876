import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { createActivities, createTransferActivities } from '../../src/activities/index.js';
import { STAGES } from '../../src/shared/index.js';
import type { MigrationInput, MigrationStatus, WaitingFor } from '../../src/shared/index.js';
import { Bench, Run, useChosenNbdkit, type Choices } from '../e2e/harness.js';
import { ACTS, arm, bothRan, hasHappened, sourceOf, type Act } from './acts.js';
import { startDoublingWorker, type DoublingWorker } from './doubling-worker.js';
import { begin, casesOf, KEPT, keptBy, said, small, walk, type Armed } from './walk.js';

vi.setConfig({ maxConcurrency: 8 });

const CANCELLED = casesOf('c');

interface GateCase extends Pick<Act, 'vm' | 'choices' | 'hasForeignSnapshot'> {
  fails?: Act;
  pauses?: boolean;
}

/** Every gate, and what a migration needs to come to it: a gate that is new needs a row. */
const GATES: Record<Exclude<WaitingFor, 'none'>, GateCase> = {
  warnings: { choices: { acknowledge: false } },
  'snapshot-removal': { hasForeignSnapshot: true },
  'tools-removal': { vm: { tools: 'running' } },
  verification: { vm: { changeTracking: true } },
  'cutover-approval': {},
  'power-off': {},
  acceptance: {},
  decision: { fails: { side: 'target', method: 'VM.create', about: ['$'] } },
  resume: { pauses: true },
};
const AT_GATES = (Object.keys(GATES) as (keyof typeof GATES)[]).map((gate) => ({
  gate,
  vm: `g-${gate}`,
  needs: GATES[gate],
}));

const target = (method: string, ...about: string[]): Act => ({ side: 'target', method, about });
const source = (method: string, ...about: string[]): Act => ({ side: 'source', method, about });

/** Whatever any VM takes on its way to the end: everything that is created is among it. */
const ON_THE_WAY = STAGES.flatMap((stage) => ACTS[stage]).filter(
  ({ vm, choices, holdsAt, hasForeignSnapshot, after }) => !(vm ?? choices ?? holdsAt ?? hasForeignSnapshot ?? after),
);
/** What a rollback after the cutover does, and what a cancellation before it does. */
const ON_THE_WAY_BACK = {
  acceptance: [
    target('VM.hard_shutdown', '"name_label":"$"'),
    target('VM.add_to_blocked_operations', '"name_label":"$"'),
    source('PowerOnVM_Task'),
    source('RemoveSnapshot_Task'),
    source('ReconfigVM_Task', 'false'),
  ],
  verification: [
    target('VM.hard_shutdown', '[Test] $'),
    target('VM.destroy', '[Test] $'),
    target('VDI.destroy', '$'),
    target('network.destroy', '$'),
    target('VM.destroy', '[Importing...] $'),
    source('RemoveSnapshot_Task'),
    source('ReconfigVM_Task', 'false'),
  ],
} as const;

let bench: Bench;
let doubling: DoublingWorker;

beforeAll(async () => {
  await useChosenNbdkit();
  bench = await Bench.start(
    [
      ...CANCELLED.map(({ vm, act }) => small(vm, act.vm)),
      ...AT_GATES.map(({ vm, needs }) => small(vm, needs.vm)),
      ...['lost', 'unheard-acceptance', 'unheard-verification', 'twice-back', 'twice-out'].map((name) => small(name)),
      small('doubled', { tools: 'running' }),
    ],
    // A guest that does not listen: the next rung is the hard power-off.
    () => ['true'],
  );
  doubling = await startDoublingWorker(bench);
});

afterAll(() => bench?.stop());

async function expectNothingLeft(vm: string, run: Run, before: object, ranOnTarget = false) {
  const { report } = await run.ends();
  expect(report?.leftovers).toEqual([]);
  expect(await sourceOf(bench, vm)).toEqual(before);
  const kept = keptBy(report);
  const left = await bench.onPool(vm);
  expect(left.filter((line) => !kept.some((uuid) => line.endsWith(uuid)))).toEqual([]);
  if (!ranOnTarget) expect(left).toEqual([]);
  expect(await bothRan(bench, vm, report?.targetVmUuid)).toEqual([]);
  return report;
}

describe.concurrent('a migration that is cancelled in the middle of an act', () => {
  it.for(CANCELLED)(
    '[S17] [S122] [D6] leaves all as found: $stage, $act.method $act.about',
    async ({ vm, stage, act }) => {
      if (act.hasForeignSnapshot) await bench.foreignSnapshot(vm, 'nightly');
      const before = { ...(await sourceOf(bench, vm)), ...(act.hasForeignSnapshot && { snapshots: [] }) };
      const armed: Armed[] = [{ act, effect: { kind: 'slow', seconds: 2 } }];
      const run = await begin(bench, vm, armed);
      const stopped = await walk(bench, vm, run, armed, async (status) => {
        // The status is older than the look at the calls: an act that has begun since belongs to a stage not seen yet.
        if (status.stage !== stage) return false;
        const isTime = act.after === undefined || said(status, act.after);
        return isTime && (await hasHappened(bench, vm, act));
      });
      expect(stopped?.stage).toBe(stage);
      await run.cancel();
      const { outcome, failure, report } = await run.ends();
      if (act === ACTS.finish.at(-1)) {
        // Both sides are marked by then: it comes too late, and nothing is half undone.
        expect([outcome, report?.leftovers]).toEqual(['migrated', []]);
        return;
      }
      expect(outcome).toBe('aborted');
      expect(failure).toEqual({ type: 'Aborted', message: `The migration of ${vm} was cancelled.` });
      // What was removed is in the record, and so is what was kept because it ran.
      const { record = [] } = report ?? {};
      expect(said({ record }, 'Undone: set change tracking as it was found.')).toBe(stage !== 'preflight');
      const ranOnTarget = said({ record }, KEPT);
      if (stage === 'acceptance' || stage === 'finish') expect(ranOnTarget).toBe(true);
      else if (stage !== 'cutover') expect(ranOnTarget).toBe(false);
      await expectNothingLeft(vm, run, before, ranOnTarget);
    },
  );
});

describe.concurrent('a migration that is cancelled at a gate', () => {
  it.for(AT_GATES)('[S17] [S122] [D6] leaves all as found: $gate', async ({ gate, vm, needs }) => {
    if (needs.hasForeignSnapshot) await bench.foreignSnapshot(vm, 'nightly');
    const before = await sourceOf(bench, vm);
    const act: Act = needs.fails ?? source('none');
    const armed: Armed[] = [{ act: { ...act, ...needs }, effect: { kind: 'fails' } }];
    const run = await begin(bench, vm, armed);
    if (needs.pauses) {
      await run.records('Snapshot "vm without tools" was taken');
      await run.say('pause', { reason: 'the backup runs' });
    }
    await walk(bench, vm, run, armed, ({ waitingFor }) => waitingFor === gate);
    await run.cancel();
    expect((await run.ends()).failure?.type).toBe('Aborted');
    await expectNothingLeft(vm, run, before, gate === 'acceptance');
  });
});

describe.concurrent('answers that never arrive', () => {
  it('[D13] [S17] leave no orphan and no duplicate of anything that is created, and the migration goes on', async () => {
    const vm = 'lost';
    const armed: Armed[] = ON_THE_WAY.map((act) => ({ act, effect: { kind: 'lost' } }));
    const run = await begin(bench, vm, armed);
    expect(await walk(bench, vm, run, armed, ({ waitingFor }) => waitingFor === 'decision')).toBeUndefined();
    for (const act of ON_THE_WAY) expect([act.method, act.about, await hasHappened(bench, vm, act)]).toContain(true);
    const { outcome, report } = await run.ends();
    expect(outcome).toBe('migrated');
    expect(report?.leftovers).toEqual([]);
    expect(report && (await run.comparesEqual(report))).toEqual([true]);
    // The VM, its two snapshots, and a disk of each.
    expect(new Set(keptBy(report)).size).toBe(6);
    expect((await bench.onPool(vm)).map((line) => line.split(' ').at(-1)).sort()).toEqual(
      [...new Set(keptBy(report))].sort(),
    );
    expect((await bench.vsphere.vm(vm)).snapshots).toEqual([]);
    expect(await bothRan(bench, vm, report?.targetVmUuid)).toEqual([]);
  });

  it.for(Object.entries(ON_THE_WAY_BACK))(
    '[D13] [D6] [S17] keep no way back from being gone: %s',
    async ([gate, acts]) => {
      const vm = `unheard-${gate}`;
      const before = await sourceOf(bench, vm);
      const run = await begin(bench, vm, []);
      await walk(bench, vm, run, [], ({ waitingFor }) => waitingFor === gate);
      for (const act of acts) await arm(bench, vm, act, { kind: 'lost' });
      if (gate === 'acceptance') await run.say('rollback', { reason: 'the application is slow' });
      else await run.cancel();
      await expectNothingLeft(vm, run, before, gate === 'acceptance');
      for (const act of acts) expect([act.method, act.about, await hasHappened(bench, vm, act)]).toContain(true);
    },
  );
});

describe.concurrent('acts that are done twice', () => {
  async function beginTwice(vm: string, choices: Choices = {}): Promise<Run> {
    const input: MigrationInput = { ...(await bench.inputFor(vm, choices)), transferQueue: doubling.queue };
    const { vcenter, vmMoRef } = input.source;
    const workflowId = `migration/${vcenter}/${vmMoRef}`;
    await bench.temporal.workflow.start('migrateVm', { workflowId, taskQueue: doubling.queue, args: [input] });
    return new Run(bench, vm, workflowId);
  }

  it('[D13] [S17] change nothing the second time, whichever act it is', async () => {
    const consent = { shutdownHook: true, hardPowerOffConsent: 'a lab', shutdownTimeoutSeconds: 3 };
    await bench.foreignSnapshot('doubled', 'nightly');
    const [out, back, through] = await Promise.all([
      beginTwice('twice-out'),
      beginTwice('twice-back', { policy: { transport: 'https' } }),
      beginTwice('doubled', { policy: consent }),
    ]);
    const cancelled = (async () => {
      await walk(bench, 'twice-out', out, [], ({ waitingFor }) => waitingFor === 'verification');
      await out.say('switchTransport', { to: 'https', reason: 'port 902 is closed' });
      await out.records('are read over https from here on');
      await out.cancel();
      expect((await out.ends()).outcome).toBe('aborted');
    })();
    const rolledBack = (async () => {
      await arm(bench, 'twice-back', target('VM.start', '"name_label":"$"'), { kind: 'fails' });
      await walk(bench, 'twice-back', back, [], ({ waitingFor }) => waitingFor === 'verification');
      // A disk that has to be copied anew gets a new VDI.
      await bench.vsphere.resetTracking('twice-back');
      await back.say('rejectTestCopy', { then: 'redo', reason: 'once more' });
      await back.records('is copied in full to a new disk');
      await walk(bench, 'twice-back', back, [], ({ waitingFor }) => waitingFor === 'acceptance');
      await back.say('rollback', { reason: 'enough seen' });
      expect((await back.ends()).outcome).toBe('rolled-back');
    })();
    const finished = (async () => {
      const isReverted = (status: MigrationStatus) => said(status, 'The source was reverted');
      await walk(
        bench,
        'doubled',
        through,
        [],
        (status) => isReverted(status) && status.waitingFor === 'tools-removal',
      );
      await through.removeTools();
      const held: Armed[] = [{ act: { ...source('none'), holdsAt: 'power-off' }, effect: { kind: 'fails' } }];
      await walk(bench, 'doubled', through, held, ({ waitingFor }) => waitingFor === 'decision');
      const { outcome, report } = await through.ends();
      expect(outcome).toBe('migrated');
      expect(report && (await through.comparesEqual(report))).toEqual([true]);
    })();
    await Promise.all([cancelled, rolledBack, finished]);
    expect(doubling.changes).toEqual([]);
    const all = [createActivities(bench.deps), createTransferActivities(bench.deps)].flatMap((table) =>
      Object.keys(table),
    );
    // The mending of what a read-back found different is not met here: it takes a target that differs.
    expect(all.filter((name) => !doubling.seen.has(name))).toEqual(['mendDisk']);
  });
});
