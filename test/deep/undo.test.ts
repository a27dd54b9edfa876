import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import type { MigrationReport, WaitingFor } from '../../src/shared/index.js';
import type { UndoEntry } from '../../src/workflows/undo.js';
import { runCli } from '../cli/harness.js';
import { Bench, useChosenNbdkit, type Run } from '../e2e/harness.js';
import { cliOf } from '../e2e/watching.js';
import { configFileOf } from '../e2e/world.js';
import { arm, bothRan, hasHappened, sourceOf, type Act, type Effect } from './acts.js';
import { begin, casesOf, KEPT, keptBy, said, small, walk } from './walk.js';

vi.setConfig({ maxConcurrency: 8 });

const FAILS: Effect = { kind: 'fails' };
const FAILING = casesOf('f');

interface FailingUndo {
  act: Act;
  /** Fails before, so that there is something to undo. */
  before?: Act;
  /** Where the migration is left, and how. */
  at: WaitingFor;
  leave: (run: Run) => Promise<unknown>;
  /** What a person does meanwhile. */
  byHand?: (vm: string, run: Run) => Promise<void>;
  /** How the source differs from how it was found. */
  stays?: object;
}

const cancel = (run: Run) => run.cancel();
const rollback = (run: Run) => run.say('rollback', { reason: 'the application is slow' });
const target = (method: string, ...about: string[]): Act => ({ side: 'target', method, about });
const source = (method: string, ...about: string[]): Act => ({ side: 'source', method, about });

/** Every kind of undo, failing for good: a kind that is new needs a row. */
const UNDO: Record<UndoEntry['kind'], FailingUndo> = {
  restoreChangeTracking: {
    act: source('ReconfigVM_Task', 'false'),
    ...{ at: 'verification', leave: cancel, stays: { changeTrackingEnabled: true } },
  },
  removeSourceSnapshots: {
    act: source('RemoveSnapshot_Task', 'vm without tools'),
    ...{ at: 'verification', leave: cancel, stays: { snapshots: ['vm without tools'] } },
  },
  destroyTarget: { act: target('VM.destroy', '$'), at: 'cutover-approval', leave: cancel },
  destroyTestCopy: { act: target('VM.destroy', '[Test] $'), at: 'verification', leave: cancel },
  restoreSourcePower: {
    act: source('PowerOnVM_Task'),
    ...{ at: 'acceptance', leave: rollback, stays: { powerState: 'poweredOff' } },
  },
  retireTarget: {
    act: target('VM.hard_shutdown', '"name_label":"$"'),
    ...{ at: 'acceptance', leave: rollback },
    async byHand(vm, run) {
      const { record, artifacts } = await run.records('could not stop and block the target');
      expect(record.at(-1)?.text).toContain('By hand: shut the target down before the source runs again');
      // The source waits until it is done.
      expect(await bench.vsphere.powerState(vm)).toBe('poweredOff');
      await bench.api.call('VM.hard_shutdown', await bench.api.call('VM.get_by_uuid', artifacts.targetVmUuid));
    },
  },
  unmarkSource: {
    before: target('VM.add_to_other_config', '$', 'surefire:migrated-from'),
    act: source('ReconfigVM_Task', 'surefire.migration'),
    ...{ at: 'decision', leave: (run) => run.say('decideAfterFailure', { decision: 'abort' }) },
    stays: { mark: expect.stringContaining('migrated to') as string },
  },
};
const UNDOING = (Object.keys(UNDO) as UndoEntry['kind'][]).map((kind) => ({ vm: `u-${kind}`, kind, ...UNDO[kind] }));

let bench: Bench;

beforeAll(async () => {
  await useChosenNbdkit();
  bench = await Bench.start([
    ...FAILING.map(({ vm, act }) => small(vm, act.vm)),
    ...UNDOING.map(({ vm }) => small(vm)),
  ]);
});

afterAll(() => bench?.stop());

/** What a person reads: the cause by name, and what to do. */
function expectExplained(text: string | undefined): void {
  expect(text).toMatch(/NoPermission|RBAC_PERMISSION_DENIED/);
  expect(text).toMatch(/Next: \w/);
}

/** What is on the pool, but for what the report says is kept there, and stopped. */
async function leftOnPool(vm: string, report: MigrationReport | undefined): Promise<string[]> {
  const kept = keptBy(report);
  return (await bench.onPool(vm)).filter((line) => !kept.some((uuid) => line.endsWith(uuid)));
}

describe.concurrent('an act that fails for good', () => {
  it.for(FAILING)('[S4] [S17] [S122] [D6] $stage: $act.method $act.about', async ({ vm, stage, act }) => {
    if (act.hasForeignSnapshot) await bench.foreignSnapshot(vm, 'nightly');
    const before = await sourceOf(bench, vm);
    const run = await begin(bench, vm, [{ act, effect: FAILS }]);
    const stopped = await walk(bench, vm, run, [{ act, effect: FAILS }], (status) => {
      return status.waitingFor === 'decision' || said(status, 'Cutover failed');
    });
    expect(await hasHappened(bench, vm, act)).toBe(true);
    if (stopped?.waitingFor === 'decision') {
      expect(stopped.stage).toBe(stage);
      expectExplained(stopped.instruction);
      await run.say('decideAfterFailure', { decision: 'abort' });
    } else if (stopped) {
      // Before the target has started: the source as found, the base kept, another try possible (R29).
      const { undo, record } = await run.reaches('cutover-approval');
      expect(stage).toBe('cutover');
      expectExplained(record.find(({ text }) => text.startsWith('Cutover failed'))?.text);
      expect(undo.map(({ kind }) => kind)).toContain('destroyTarget');
      expect(await bench.sourceState(vm)).toMatchObject({ powerState: 'poweredOn', snapshots: [] });
      await run.cancel();
    }
    const { failure, report } = await run.ends();
    expect(report?.leftovers).toEqual([]);
    expectExplained(JSON.stringify(report));
    if (stopped?.waitingFor === 'decision' || stage === 'preflight') expectExplained(failure?.message);
    expect(await sourceOf(bench, vm)).toEqual(before);
    expect(await leftOnPool(vm, report)).toEqual([]);
    const hasRun = stage === 'acceptance' || stage === 'finish' || failure?.type === 'RolledBack';
    expect(said({ record: report?.record ?? [] }, KEPT)).toBe(hasRun);
    expect(await bothRan(bench, vm, report?.targetVmUuid)).toEqual([]);
  });
});

describe.concurrent('an undo that fails for good', () => {
  it.for(UNDOING)('[S4] [D6] [D13] $kind: the report names what is left, and how to remove it', async (one) => {
    const { vm, act, leave } = one;
    const before = await sourceOf(bench, vm);
    const armed = one.before ? [{ act: one.before, effect: FAILS }] : [];
    const run = await begin(bench, vm, armed);
    await walk(bench, vm, run, armed, ({ waitingFor }) => waitingFor === one.at);
    // The stopping of what never stops is asked once: what a person does afterwards has to work.
    await arm(bench, vm, act, { kind: 'fails', times: one.byHand ? 1 : 100 });
    await leave(run);
    await one.byHand?.(vm, run);
    const { outcome, failure, report } = await run.ends();
    expect(outcome).toBe('attention');
    expect(failure?.type).toBe('NeedsAttention');
    const leftovers = report?.leftovers ?? [];
    const refused = leftovers.filter((text) => text.includes('could not'));
    expect(refused.length).toBeGreaterThan(0);
    for (const text of refused) {
      expectExplained(text);
      expect(text).toMatch(/^(source|target): could not .* By hand: \w/);
      expect(failure?.message).toContain(`Left for you: ${text}`);
    }

    expect(await sourceOf(bench, vm)).toEqual({ ...before, ...one.stays });
    const { moRef, snapshots } = await bench.vsphere.vm(vm);
    const there = [
      ...snapshots.map((snapshot) => `source: snapshot "${snapshot.name}" (${snapshot.moRef}) of ${moRef}; `),
      ...(await leftOnPool(vm, report)).map((line) => `(${line.split(' ').at(-1)}); \`xe `),
    ];
    const listed = leftovers.filter((text) => !refused.includes(text));
    expect(listed).toHaveLength(there.length);
    for (const words of there) expect(listed.filter((text) => text.includes(words))).toHaveLength(1);
    expect(await bothRan(bench, vm, report?.targetVmUuid)).toEqual([]);

    const { stdout } = await runCli(['report', vm, '--config', configFileOf(bench)], cliOf(bench));
    for (const text of leftovers) expect(stdout).toContain(text);
  });
});
