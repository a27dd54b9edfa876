import { CancellationScope, log } from '@temporalio/workflow';
import { failureMessageOf } from '../shared/index.js';
import { undoing } from './activity-options.js';
import type { Migration } from './state.js';

/** Undo entries are data (R27): they survive continue-as-new and can be listed. */
export type UndoEntry =
  | { kind: 'restoreChangeTracking'; enabled: boolean }
  | { kind: 'removeSourceSnapshots'; names: string[] }
  | { kind: 'destroyTarget' }
  | { kind: 'destroyTestCopy'; srUuid: string }
  | { kind: 'restoreSourcePower'; powerState: string }
  | { kind: 'retireTarget'; reason: string }
  | { kind: 'unmarkSource' };

type Entry<K extends UndoEntry['kind']> = Extract<UndoEntry, { kind: K }>;

interface Undo<K extends UndoEntry['kind']> {
  side: 'source' | 'target';
  /** What it does, in words that go on after "could not". */
  summary: string;
  /** How a person does it. */
  byHand: string;
  run: (migration: Migration, entry: Entry<K>) => Promise<unknown>;
}

const UNDO: { [K in UndoEntry['kind']]: Undo<K> } = {
  restoreChangeTracking: {
    side: 'source',
    summary: 'set change tracking as it was found',
    byHand: 'set `ctkEnabled` in the advanced configuration of the VM; `surefire report` says how it was found',
    run: ({ source }, { enabled }) => undoing.setChangeTracking({ ...source, enabled }),
  },
  removeSourceSnapshots: {
    side: 'source',
    summary: 'remove our snapshots from the source',
    byHand: 'delete those listed here in the vSphere client, under Manage Snapshots',
    run: ({ source }, { names }) => undoing.removeOwnSnapshots({ ...source, names }),
  },
  destroyTarget: {
    side: 'target',
    summary: 'destroy the target VM and its disks',
    byHand: 'remove what is listed here in Xen Orchestra or with `xe`',
    run: ({ target }) => undoing.destroyTarget(target),
  },
  destroyTestCopy: {
    side: 'target',
    summary: 'destroy the test copy, its disks and its network',
    byHand: 'remove what is listed here in Xen Orchestra or with `xe`',
    run: ({ target }, { srUuid }) => undoing.destroyTestCopy({ ...target, srUuid }),
  },
  restoreSourcePower: {
    side: 'source',
    summary: 'bring the source back to the power state it was found in',
    byHand: 'see that the target is off and blocked, then power the source on in the vSphere client',
    run: ({ source, target: { pool }, artifacts: { targetVmUuid } }, { powerState }) =>
      undoing.restoreSourcePower({ ...source, pool, powerState, targetVmUuid }),
  },
  retireTarget: {
    side: 'target',
    summary: 'stop and block the target, keep its data',
    byHand: 'shut the target down before the source runs again; both must never run at once',
    run: (migration, { reason }) => retire(migration, reason),
  },
  unmarkSource: {
    side: 'source',
    summary: 'take our mark of a finished migration from the source',
    byHand: 'remove `surefire.migration` from the advanced configuration of the VM',
    run: ({ source }) => undoing.markSource({ ...source, mark: null }),
  },
};

/** What is undone when a migration does not end in "migrated". Registered before each act, run newest first. */
export class UndoStack {
  #entries: UndoEntry[] = [];
  readonly #migration: Migration;

  constructor(migration: Migration) {
    this.#migration = migration;
  }

  /** Once per kind: repeating a stage does not repeat its undo. */
  push(entry: UndoEntry): void {
    this.drop(entry.kind);
    this.#entries.push(entry);
  }

  drop(kind: UndoEntry['kind']): void {
    this.#entries = this.#entries.filter((entry) => entry.kind !== kind);
  }

  /** The migration has succeeded: there is no way back any more. */
  disarm(): void {
    this.#entries = [];
  }

  list(): { kind: string; summary: string }[] {
    return this.#entries.toReversed().map(({ kind }) => ({ kind, summary: UNDO[kind].summary }));
  }

  /**
   * Runs everything, newest first, whatever has been cancelled. Goes on past a failing entry.
   *
   * @returns What could not be undone, as sentences for a person.
   */
  async runAll(): Promise<string[]> {
    const failed: string[] = [];
    await CancellationScope.nonCancellable(async () => {
      for (const entry of this.#entries.toReversed()) {
        // The entry fits its own kind's function; TypeScript cannot follow the union through the table.
        const { side, summary, byHand, run } = UNDO[entry.kind] as Undo<typeof entry.kind>;
        try {
          await run(this.#migration, entry as never);
          this.#migration.note(`Undone: ${summary}.`);
        } catch (error) {
          log.error('undo failed', { kind: entry.kind, error });
          const text = `${side}: could not ${summary}. ${failureMessageOf(error).replaceAll('\n', ' ')} By hand: ${byHand}.`;
          this.#migration.note(text);
          failed.push(text);
        }
        this.drop(entry.kind);
      }
    });
    return failed;
  }
}

/** Where the start was prepared but never came, there is no data to keep: nothing of ours stays (R24). */
async function retire(migration: Migration, reason: string): Promise<void> {
  const { target, artifacts, input } = migration;
  const { targetVmUuid } = artifacts;
  if (targetVmUuid === undefined) return;
  const named = { ...target, targetVmUuid, name: input.vm, reason };
  const { hasRun } = await undoing.withdrawTarget(named);
  migration.targetHasRun = hasRun;
  if (!hasRun) return undoing.destroyTarget(target);
  return undoing.retireTarget(named);
}
