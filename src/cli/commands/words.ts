import type { SurefireClient } from '../../client.js';
import { failure, type MigrationStatus, type Transport, type Word } from '../../shared/index.js';
import type { DecideAfterFailure, MessageArguments, MessageName, RejectTestCopy } from '../../workflows/messages.js';
import type { Context } from '../context.js';
import { findMigration } from '../find-migration.js';
import { GATE_ANSWERS, shellWord } from '../gates.js';

export interface ApproveOptions {
  reason?: string;
  override?: boolean;
  decision?: DecideAfterFailure['decision'];
}

/** Sends the word that opens the gate at which the migration waits. */
export async function approve(context: Context, options: ApproveOptions, vm: string): Promise<void> {
  const { client, migrationId } = await open(context, vm);
  const status = await readStatus(client, migrationId, vm);
  const message = GATE_ANSWERS[status.waitingFor]?.message;
  if (message === undefined) {
    throw failure('WrongStage', {
      what: `${status.vm} waits for nobody's approval: it is in stage ${status.stage}, waiting for ${status.waitingFor}.`,
      why: status.instruction,
      next: `follow it with \`surefire watch ${shellWord(vm)}\`.`,
    });
  }
  if ((message === 'acknowledgeWarnings' || options.override) && !options.reason) {
    throw usage(
      `${options.override ? 'An override' : 'Going on in spite of warnings'} needs a reason.`,
      '--reason "..."',
    );
  }
  const word = wordOf(context, options);
  const { override } = options;
  switch (message) {
    case 'confirmToolsRemoved':
    case 'acceptTestCopy':
      return tell(context, migrationId, message, { ...word, override });
    case 'decideAfterFailure': {
      const { decision } = options;
      if (decision === undefined) throw usage('A decision is asked for.', '--decision retry|full|back|abort');
      return tell(context, migrationId, message, { ...word, decision });
    }
    default:
      return tell(context, migrationId, message, word);
  }
}

export const reject = word('rejectTestCopy', ({ then }: Pick<RejectTestCopy, 'then'>) => ({ then }));
export const revert = word('revertToBaseline');
export const rollback = word('rollback');

/** Holds a migration: copies stop at a checkpoint, and nothing more begins. */
export const pause = word('pause');

/** How fast its disks may move together, from now on; running copies hear of it within seconds. */
export const limit = word('setLimit', (_options: object, rate: number | 'off') =>
  rate === 'off' ? {} : { mibPerSecond: rate },
);

/** Reads the disks in the other way from here on. */
export const transport = word('switchTransport', ({ endBaseline }: { endBaseline?: boolean }, to: Transport) => ({
  to,
  endBaseline,
}));

/** Attaches a note, or a fix to be applied to the migrated VM; or ticks a fix off. */
export const note = word('addNote', ({ fix, done }: { fix?: boolean; done?: number }, text?: string) => {
  if (text === undefined && done === undefined) throw usage('A note needs a text.', 'surefire note VM "..."');
  return { text: text ?? '', fix, done };
});

/** Ends a pause, and those of single steps that were made in the Web UI. */
export async function resume(context: Context, options: { reason?: string }, vm: string): Promise<void> {
  const { client, migrationId } = await open(context, vm);
  const word = wordOf(context, options);
  const { status, steps } = await client.status(migrationId);
  const paused = steps.filter((step) => step.paused).map(({ activityId }) => activityId);
  for (const activityId of paused) await client.unpauseStep(migrationId, activityId, word);
  if (paused.length === 0 || status?.paused) return tell(context, migrationId, 'resume', word);
  context.result({ migrationId, unpaused: paused }, `Resumed: ${paused.join(', ')} of ${migrationId}.`);
}

/** Ends a migration in order: everything it made is undone, the source is as it was found. */
export async function cancel(context: Context, options: { reason?: string }, vm: string): Promise<void> {
  const { client, migrationId } = await open(context, vm);
  await client.cancel(migrationId, wordOf(context, options));
  const next = `surefire watch ${shellWord(vm)}`;
  context.result(
    { migrationId, cancelRequested: true },
    `Cancelling ${migrationId}: what it made is being undone.\nNext: ${next}`,
  );
}

async function open(context: Context, vm: string): Promise<{ client: SurefireClient; migrationId: string }> {
  const client = await context.client();
  return { client, migrationId: (await findMigration(client, vm)).migrationId };
}

async function readStatus(client: SurefireClient, migrationId: string, vm: string): Promise<MigrationStatus> {
  const view = await client.status(migrationId);
  if (view.execution !== 'RUNNING') {
    throw failure('WrongStage', {
      what: `${view.vm} waits for nobody: its migration has ended (${view.outcome || view.execution.toLowerCase()}).`,
      next: `read how with \`surefire report ${shellWord(vm)}\`.`,
    });
  }
  if (view.status !== undefined) return view.status;
  throw failure('TemporalUnreachable', {
    what: `Nothing was sent for ${view.vm}: which gate is open could not be asked.`,
    why: view.statusUnavailable,
    next: 'start the workers (`surefire up`), then send it again.',
  });
}

async function tell<N extends MessageName>(
  context: Context,
  vm: string,
  message: N,
  argument: MessageArguments[N],
): Promise<void> {
  const { client, migrationId } = await open(context, vm);
  const accepted = await client.send(message, migrationId, argument);
  context.result(
    { migrationId, message, ...accepted },
    `Accepted: ${message} for ${migrationId}, stage ${accepted.stage}.`,
  );
}

/**
 * A command that sends one message.
 *
 * @param more What the message holds besides operator and reason.
 */
function word<N extends MessageName, O extends object, A extends unknown[]>(
  message: N,
  more?: (options: O, ...args: A) => Omit<MessageArguments[N], keyof Word>,
) {
  return async (context: Context, options: O & { reason?: string }, vm: string, ...args: A): Promise<void> => {
    const argument = { ...wordOf(context, options), ...more?.(options, ...args) };
    return tell(context, vm, message, argument as MessageArguments[N]);
  };
}

function wordOf(context: Context, { reason }: { reason?: string | undefined }): Word {
  return { operator: context.operator(), reason };
}

function usage(what: string, next: string): Error {
  return failure('UsageInvalid', { what, next: `give ${next}.` });
}
