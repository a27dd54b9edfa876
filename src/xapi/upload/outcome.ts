import { failure } from '../../shared/errors.js';
import { redact } from '../../shared/redaction.js';
import type { AskTask, TaskOutcome, VdiTransferOptions } from './types.js';

const SHOWN_BODY = 300;

/** Of a task that was no success. */
export function reasonOf(outcome: Exclude<TaskOutcome, { status: 'success' }>): string {
  return outcome.status === 'failure' ? outcome.errorInfo.join(' ') : outcome.reason;
}

export function nameOf({ vdiName, vdiRef }: VdiTransferOptions): string {
  return vdiName ?? vdiRef;
}

/**
 * The failure of an import that did not end well: XAPI's own reason when the task names one, else doubt. A task that says
 * success although we did not finish is a doubt as well: a header cut in the right place looks like an end marker.
 */
export function importFailure(options: VdiTransferOptions, outcome: TaskOutcome, body: Buffer, cause: unknown): Error {
  const name = nameOf(options);
  // Redacted whole: half a session id at the cut would not be known for one.
  const text = redact(body.toString('latin1')).slice(0, SHOWN_BODY).replace(/\s+/g, ' ').trim();
  const seen = cause instanceof Error ? cause.message : text;
  if (outcome.status === 'failure') {
    return failure(
      'ImportFailed',
      {
        what: `XCP-ng gave up the import into ${name}: ${reasonOf(outcome)}.`,
        why: seen === '' ? undefined : `The connection ended with: ${seen}.`,
        next: 'the segment is sent again; if it stays, look into /var/log/SMlog and xensource.log of that host.',
      },
      { errorInfo: outcome.errorInfo },
      cause,
    );
  }
  return failure(
    'ImportDoubtful',
    {
      what: `It is not known whether the import into ${name} is on disk.`,
      why:
        outcome.status === 'unknown'
          ? `${outcome.reason}; ${seen}.`
          : `The task says success, but ${seen || 'the answer was not empty'}.`,
      next: 'the segment is sent again, zeroes included.',
    },
    undefined,
    cause,
  );
}

/** Nobody's exception may hide the first failure. */
export async function safely(ask: AskTask): ReturnType<AskTask> {
  try {
    return await ask();
  } catch (error) {
    return { status: 'unknown', reason: error instanceof Error ? error.message : String(error) };
  }
}
