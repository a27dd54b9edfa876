import { RetryState } from '@temporalio/common';
import { ActivityFailure, CancellationScope, condition, isCancellation } from '@temporalio/workflow';
import type { MigrationStatus, Paused, Stage, WaitingFor, Word } from '../shared/index.js';
import type { MessageName } from './messages.js';
import { nextOnClock } from './snapshot-clock.js';
import type { Migration } from './state.js';

/** Where a pause would hold nothing: the rest is undone, or done, in one go. */
const UNSTOPPABLE: Stage[] = ['finish', 'rolling-back'];

/** Gates between copies: there nothing is read, and nothing begins before they open. */
const BETWEEN_COPIES: WaitingFor[] = ['tools-removal', 'verification', 'cutover-approval'];

/**
 * A person holds the migration (S14). Copies and read-backs are stopped at a checkpoint and begun again with the same
 * input; acts of seconds are finished, and at the next safe point nothing more begins. Gates stay open, and the clocks of
 * our snapshots and of an outage go on (R5). Undo is never held: the ways back end the pause.
 */
export class Pause {
  readonly #migration: Migration;
  readonly #transfers = new Set<CancellationScope>();
  #word: Paused | undefined;
  /** How many calls of `around` have not returned. */
  #rounds = 0;
  /** Settles when what needs everything to stand still is done. */
  #still: Promise<unknown> | undefined;

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

  /** Whether something is transferred, be it that a pause holds it. */
  get isTransferring(): boolean {
    return this.#rounds > 0;
  }

  /** Stops the transfers at a checkpoint, does this, and lets them go on, whatever came of it. */
  async standStill(act: () => Promise<void>): Promise<void> {
    for (const transfer of this.#transfers) transfer.cancel();
    const acting = condition(() => this.#transfers.size === 0).then(act);
    this.#still = acting.catch(() => undefined).then(() => (this.#still = undefined));
    await acting;
  }

  /**
   * Runs transfers to their end, however often they are stopped and begun again.
   *
   * @param transfers Leaves alone what an earlier round has finished.
   */
  async around(transfers: () => Promise<void>): Promise<void> {
    this.#rounds += 1;
    try {
      await this.#untilDone(transfers);
      if (this.#still) await this.#still;
    } finally {
      this.#rounds -= 1;
    }
    await this.safePoint();
  }

  async #untilDone(transfers: () => Promise<void>): Promise<void> {
    for (;;) {
      // Without a pause they begin in the same breath as ever: histories of before must replay.
      while (this.#word || this.#still) await (this.#still ?? this.safePoint());
      const scope = new CancellationScope();
      this.#transfers.add(scope);
      try {
        return await scope.run(transfers);
      } catch (error) {
        // The migration itself was cancelled, or the failure would come again.
        const isOurs = scope.consideredCancelled && !CancellationScope.current().consideredCancelled;
        if (!isOurs || !isStop(error)) throw error;
      } finally {
        this.#transfers.delete(scope);
      }
    }
  }

  /** The migration as it looks while it is held: what a gate waits for, or else the resume. */
  shownIn(status: MigrationStatus): MigrationStatus {
    const mayPause = status.outcome === 'running' && !UNSTOPPABLE.includes(status.stage);
    const words: MessageName[] = this.#word ? ['resume'] : mayPause ? ['pause'] : [];
    if (mayPause && (this.isTransferring || BETWEEN_COPIES.includes(status.waitingFor))) words.push('switchTransport');
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
