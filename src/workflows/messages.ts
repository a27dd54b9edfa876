import { defineQuery, defineSignal, defineUpdate } from '@temporalio/workflow';
import type { MigrationStatus, Stage, Transport, Word } from '../shared/index.js';

/** Answer of an accepted update. */
export interface Accepted {
  stage: Stage;
  acceptedAt: string;
}

export interface WordOnEvidence extends Word {
  /** Opens the gate although the evidence is missing; needs a `reason` and is marked in the record. */
  override?: boolean;
}

export interface RejectTestCopy extends Word {
  /** `redo`: a new clean snapshot and a delta, then another test. `abort`: undo everything. */
  then: 'redo' | 'abort';
}

export interface DecideAfterFailure extends Word {
  /** `retry` the failed step, copy the doubtful disks in `full` (a longer outage after power-off), go `back` to cutover approval, or `abort`. */
  decision: 'retry' | 'full' | 'back' | 'abort';
}

export interface SwitchTransport extends Word {
  to: Transport;
  /** To https while `vm starting point` stands: it may be removed for it. */
  endBaseline?: boolean;
}

export interface AddNote extends Word {
  text: string;
  fix?: boolean;
  /** Ticks off the fix with this number (from 1, as `status` lists them). */
  done?: number;
}

export interface SetLimit extends Word {
  /** All disks of the migration together; without a number there is no limit any more. */
  mibPerSecond?: number;
}

/**
 * Every message a person may send: an update (validated, answered) and a signal of the same name for clients that
 * can only signal. The sentence is shown in the Web UI's list, with the JSON it wants.
 */
export const MESSAGES = {
  acknowledgeWarnings: 'Go on although preflight has warnings: {"operator":"you","reason":"why"}',
  approveSnapshotRemoval: 'Remove the foreign snapshots that status lists: {"operator":"you"}',
  confirmToolsRemoved: 'VMware Tools are gone and the guest booted again: {"operator":"you"}',
  revertToBaseline: 'The guest does not boot: back to `vm starting point`: {"operator":"you","reason":"why"}',
  acceptTestCopy: 'The test copy works: {"operator":"you"}',
  rejectTestCopy: 'The test copy does not work: {"operator":"you","reason":"why","then":"redo"} or "abort"',
  approveCutover: 'Stop the source and switch over: {"operator":"you"}',
  acceptMigration: 'The migrated VM works, finish: {"operator":"you"}',
  rollback: 'Back to the source: {"operator":"you","reason":"why"}',
  decideAfterFailure: 'After a failure: {"operator":"you","decision":"retry"} or "full", "back", "abort"',
  pause: 'Hold everything at the next safe point: {"operator":"you","reason":"why"}',
  resume: 'Go on after a pause: {"operator":"you"}',
  setLimit: 'Copy no faster than: {"operator":"you","mibPerSecond":50}, without a number as fast as it can',
  switchTransport:
    'Read the disks in the other way from here on: {"operator":"you","reason":"why","to":"https"} or "vddk"',
  addNote: 'Attach a note or a fix: {"operator":"you","text":"...","fix":false}',
} as const;

export type MessageName = keyof typeof MESSAGES;

/** What a message holds; of those not named here, who says it and why. */
interface Particular {
  confirmToolsRemoved: WordOnEvidence;
  acceptTestCopy: WordOnEvidence;
  rejectTestCopy: RejectTestCopy;
  decideAfterFailure: DecideAfterFailure;
  setLimit: SetLimit;
  switchTransport: SwitchTransport;
  addNote: AddNote;
}

export type MessageArguments = { [N in MessageName]: N extends keyof Particular ? Particular[N] : Word };

export type AnyMessage = { [N in MessageName]: { name: N; argument: MessageArguments[N] } }[MessageName];

export const updateOf = <N extends MessageName>(name: N) => defineUpdate<Accepted, [MessageArguments[N]], N>(name);
export const signalOf = <N extends MessageName>(name: N) => defineSignal<[MessageArguments[N]], N>(name);

export const statusQuery = defineQuery<MigrationStatus>('status');
