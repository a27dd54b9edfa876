import { setTimeout as sleep } from 'node:timers/promises';
import type { Ending, MigrationView, SurefireClient } from '../../client.js';
import { failureTypeOf, formatDuration } from '../../shared/index.js';
import type { Context } from '../context.js';
import { EXIT, exitCodeOfOutcome } from '../exit-codes.js';
import { findMigration } from '../find-migration.js';
import { shellWord } from '../gates.js';
import { eventText, newEvents, nothingSeen } from '../watch-events.js';

/** People watch closely; a log file need not grow that fast. */
const TERMINAL_MS = 1000;
const PIPE_MS = 2000;
const OUTAGE_MS = 120_000;

/** Follows one migration until it ends; exits with its outcome. */
export async function watch(context: Context, _options: object, vm: string): Promise<number> {
  const client = await context.client();
  const { migrationId } = await findMigration(client, vm);
  return follow(context, client, migrationId);
}

/**
 * Prints what happens to a migration until it ends. Ctrl-C ends only the watching.
 *
 * @returns The exit code: by the outcome, or 130 when interrupted.
 */
export async function follow(context: Context, client: SurefireClient, migrationId: string): Promise<number> {
  const interrupted = new AbortController();
  const stop = () => interrupted.abort();
  process.once('SIGINT', stop);
  const seen = nothingSeen();
  try {
    for (;;) {
      const view = await statusThroughOutage(context, client, migrationId, interrupted.signal);
      for (const event of newEvents(view, seen)) {
        const text = eventText(event, view.vm);
        // Progress is passing; what stays on stdout reads as the story of the migration.
        if (!context.json && event.event === 'progress') context.say(text);
        else context.result({ vm: view.vm, migrationId, ...event }, text);
      }
      if (view.execution !== 'RUNNING') return ended(context, view.vm, migrationId, await client.result(migrationId));
      await sleep(process.stderr.isTTY ? TERMINAL_MS : PIPE_MS, undefined, { signal: interrupted.signal });
    }
  } catch (error) {
    if (!interrupted.signal.aborted) throw error;
    context.say(
      `Stopped watching. The migration goes on; follow it again with \`surefire watch ${shellWord(migrationId)}\`.`,
    );
    return EXIT.interrupted;
  } finally {
    process.off('SIGINT', stop);
  }
}

/** The server may be restarted while somebody watches; nothing is lost by waiting for it. */
async function statusThroughOutage(
  context: Context,
  client: SurefireClient,
  migrationId: string,
  signal: AbortSignal,
): Promise<MigrationView> {
  const deadline = Date.now() + OUTAGE_MS;
  for (let told = false; ; told = true) {
    try {
      return await client.status(migrationId);
    } catch (error) {
      if (failureTypeOf(error) !== 'TemporalUnreachable' || Date.now() > deadline) throw error;
      if (!told) context.say('Temporal does not answer; watching goes on when it does.');
      await sleep(PIPE_MS, undefined, { signal });
    }
  }
}

function ended(context: Context, vm: string, migrationId: string, ending: Ending): number {
  const { outcome, report, failure } = ending;
  const leftovers = report?.leftovers ?? [];
  const seconds = report?.downtime?.seconds;
  context.result(
    { vm, migrationId, event: 'end', ...ending },
    [
      `${vm}: ${outcome}${seconds === undefined ? '' : `, ${formatDuration(seconds)} of downtime`}.`,
      ...(failure === undefined ? [] : [failure.message]),
      ...leftovers.map((leftover) => `Left for you: ${leftover}`),
      `The whole story: surefire report ${shellWord(vm)}`,
    ].join('\n'),
  );
  return exitCodeOfOutcome(outcome, leftovers);
}
