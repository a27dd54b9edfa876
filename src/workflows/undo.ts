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

/** What each does, in words that go on after "could not", and how a person does it. */
const MEANING: Record<UndoEntry['kind'], { side: 'source' | 'target'; summary: string; byHand: string }> = {
  restoreChangeTracking: {
    side: 'source',
    summary: 'set change tracking as it was found',
    byHand: 'set `ctkEnabled` in the advanced configuration of the VM; `surefire report` says how it was found',
  },
  removeSourceSnapshots: {
    side: 'source',
    summary: 'remove our snapshots from the source',
    byHand: 'delete those listed here in the vSphere client, under Manage Snapshots',
  },
  destroyTarget: {
    side: 'target',
    summary: 'destroy the target VM and its disks',
    byHand: 'remove what is listed here in Xen Orchestra or with `xe`',
  },
  destroyTestCopy: {
    side: 'target',
    summary: 'destroy the test copy, its disks and its network',
    byHand: 'remove what is listed here in Xen Orchestra or with `xe`',
  },
  restoreSourcePower: {
    side: 'source',
    summary: 'bring the source back to the power state it was found in',
    byHand: 'see that the target is off and blocked, then power the source on in the vSphere client',
  },
  retireTarget: {
    side: 'target',
    summary: 'stop and block the target, keep its data',
    byHand: 'shut the target down before the source runs again; both must never run at once',
  },
  unmarkSource: {
    side: 'source',
    summary: 'take our mark of a finished migration from the source',
    byHand: 'remove `surefire.migration` from the advanced configuration of the VM',
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
    return this.#entries.toReversed().map(({ kind }) => ({ kind, summary: MEANING[kind].summary }));
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
        const { side, summary, byHand } = MEANING[entry.kind];
        try {
          await this.#run(entry);
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

  async #run(entry: UndoEntry): Promise<void> {
    const { source, target, artifacts } = this.#migration;
    switch (entry.kind) {
      case 'restoreChangeTracking':
        return undoing.setChangeTracking({ ...source, enabled: entry.enabled });
      case 'removeSourceSnapshots':
        return undoing.removeOwnSnapshots({ ...source, names: entry.names });
      case 'destroyTarget':
        return undoing.destroyTarget(target);
      case 'destroyTestCopy':
        return void (await undoing.destroyTestCopy({ ...target, srUuid: entry.srUuid }));
      case 'restoreSourcePower':
        return undoing.restoreSourcePower({
          ...source,
          pool: target.pool,
          powerState: entry.powerState,
          targetVmUuid: artifacts.targetVmUuid,
        });
      case 'retireTarget':
        return this.#retire(entry.reason);
      case 'unmarkSource':
        return undoing.markSource({ ...source, mark: null });
    }
  }

  /** Where the start was prepared but never came, there is no data to keep: nothing of ours stays (R24). */
  async #retire(reason: string): Promise<void> {
    const { target, artifacts, input } = this.#migration;
    const { targetVmUuid } = artifacts;
    if (targetVmUuid === undefined) return;
    const named = { ...target, targetVmUuid, name: input.vm, reason };
    const { hasRun } = await undoing.withdrawTarget(named);
    this.#migration.targetHasRun = hasRun;
    if (!hasRun) return undoing.destroyTarget(target);
    return undoing.retireTarget(named);
  }
}
