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
  | { kind: 'retireTarget'; reason: string };

const SUMMARY: Record<UndoEntry['kind'], string> = {
  restoreChangeTracking: 'set change tracking as it was found',
  removeSourceSnapshots: 'remove our snapshots from the source',
  destroyTarget: 'destroy the target VM and its disks',
  destroyTestCopy: 'destroy the test copy, its disks and its network',
  restoreSourcePower: 'bring the source back to the power state it was found in',
  retireTarget: 'stop and block the target, keep its data',
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

  list(): { kind: string; summary: string }[] {
    return this.#entries.toReversed().map(({ kind }) => ({ kind, summary: SUMMARY[kind] }));
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
        try {
          await this.#run(entry);
          this.#migration.note(`Undone: ${SUMMARY[entry.kind]}.`);
        } catch (error) {
          log.error('undo failed', { kind: entry.kind, error });
          failed.push(`Could not ${SUMMARY[entry.kind]}: ${failureMessageOf(error)}`);
        }
        this.drop(entry.kind);
      }
    });
    return failed;
  }

  async #run(entry: UndoEntry): Promise<void> {
    const { source, target, artifacts, input } = this.#migration;
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
        if (artifacts.targetVmUuid === undefined) return;
        return undoing.retireTarget({
          ...target,
          targetVmUuid: artifacts.targetVmUuid,
          name: input.vm,
          reason: entry.reason,
        });
    }
  }
}
