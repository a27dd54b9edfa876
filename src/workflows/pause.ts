import { RetryState } from '@temporalio/common';
import { ActivityFailure, CancellationScope, condition, isCancellation } from '@temporalio/workflow';
import type { MigrationStatus, Paused, Stage, Word } from '../shared/index.js';
import type { MessageName } from './messages.js';
import { nextOnClock } from './snapshot-clock.js';
import type { Migration } from './state.js';

/** Where a pause would hold nothing: the rest is undone, or done, in one go. */
const UNSTOPPABLE: Stage[] = ['finish', 'rolling-back'];

/**
 * A person holds the migration (S14). Copies and read-backs are stopped at a checkpoint and begun again with the same
 * input; acts of seconds are finished, and at the next safe point nothing more begins. Gates stay open, and the clocks of
 * our snapshots and of an outage go on (R5). Undo is never held: the ways back end the pause.
 */
export class Pause {
  readonly #migration: Migration;
  readonly #transfers = new Set<CancellationScope>();
  #word: Paused | undefined;

  constructor(migration: Migration) {
    this.#migration = migration;
  }

  /** By whom, since when and why. */
  get word(): Paused | undefined {
    return this.#word;
  }

  begin(word: Word): void {
    this.#word = { at: new Date().toISOString(), operator: word.operator, reason: word.reason };
    for (const transfer of this.#transfers) transfer.cancel();
    this.#migration.note('Paused.', word);
    this.#migration.set({});
  }

  /** Nothing happens when nobody holds it. */
  end(text: string, word?: Word): void {
    if (this.#word === undefined) return;
    this.#word = undefined;
    this.#migration.note(text, word);
    this.#migration.set({});
  }

  /** Returns at once, or when the pause is over. Meanwhile it does what is due of our snapshots (R5). */
  async safePoint(): Promise<void> {
    const isOver = () => this.#word === undefined;
    while (this.#word) {
      const due = nextOnClock(this.#migration, this.#word);
      if (due === undefined) await condition(isOver);
      else if (!(await condition(isOver, Math.max(1, due.atMs - Date.now())))) await due.act();
    }
  }

  /**
   * Runs transfers to their end, however often they are stopped and begun again.
   *
   * @param transfers Leaves alone what an earlier round has finished.
   */
  async around(transfers: () => Promise<void>): Promise<void> {
    for (;;) {
      // Without a pause they begin in the same breath as ever: histories of before must replay.
      if (this.#word) await this.safePoint();
      const scope = new CancellationScope();
      this.#transfers.add(scope);
      try {
        await scope.run(transfers);
        break;
      } catch (error) {
        // The migration itself was cancelled, or the failure would come again.
        const isOurs = scope.consideredCancelled && !CancellationScope.current().consideredCancelled;
        if (!isOurs || !isStop(error)) throw error;
      } finally {
        this.#transfers.delete(scope);
      }
    }
    await this.safePoint();
  }

  /** The migration as it looks while it is held: what a gate waits for, or else the resume. */
  shownIn(status: MigrationStatus): MigrationStatus {
    const mayPause = status.outcome === 'running' && !UNSTOPPABLE.includes(status.stage);
    const words: MessageName[] = this.#word ? ['resume'] : mayPause ? ['pause'] : [];
    const shown = { ...status, allowed: [...status.allowed, ...words] };
    if (this.#word === undefined) return shown;
    const { at, operator, reason } = this.#word;
    const outage = status.downtime && status.downtime.endedAt === undefined ? ' The outage goes on meanwhile.' : '';
    const held = `Paused by ${operator} since ${at.slice(0, 16).replace('T', ' ')} UTC${reason ? `: ${reason}` : ''}.${outage}`;
    return status.waitingFor === 'none'
      ? {
          ...shown,
          paused: this.#word,
          waitingFor: 'resume',
          instruction: `${held} Nothing more begins until the resume.`,
        }
      : {
          ...shown,
          paused: this.#word,
          instruction: `${status.instruction ?? ''} ${held} What follows your answer waits for the resume.`.trim(),
        };
  }
}

/** Whether a failed transfer was only stopped: it reported so, or it failed on the way and was not tried again. */
export function isStop(error: unknown): boolean {
  if (isCancellation(error)) return true;
  return error instanceof ActivityFailure && error.retryState === RetryState.CANCEL_REQUESTED;
}
