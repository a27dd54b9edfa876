import { failure } from '../shared/errors.js';
import { NO_TIME } from '../shared/time-spent.js';
import { EMPTY_CHAIN } from './digest-chain.js';
import type { Checkpoint, CopyPassOptions } from './types.js';

/**
 * Where this pass goes on. A pass that was never begun starts at 0; one of the same name, snapshot and plan goes on.
 *
 * @throws PlanChanged when what was sent before cannot be repeated exactly: the target disk is then in doubt (R8, R14).
 */
export async function resumePoint(options: CopyPassOptions): Promise<Checkpoint> {
  const { plan, pass, snapshot, checkpoints } = options;
  const found = await checkpoints.load();
  const begun = found !== undefined && (found.done > 0 || found.attempt !== undefined);
  const same = found?.pass === pass && found.snapshot === snapshot && found.planDigest === plan.planDigest;
  if (found !== undefined && same) return found;
  const complete = found?.attempt === undefined && found?.done === found?.plannedBytes;
  const otherPass = found?.pass !== pass;
  if (begun && !(otherPass && (complete || (options.coversUnfinished === true && plan.kind === 'delta')))) {
    throw failure(
      'PlanChanged',
      {
        what: `Pass "${pass}" cannot go on from the checkpoint of pass "${found.pass}".`,
        why:
          found.snapshot === snapshot
            ? 'The ranges to copy came out differently, so what was sent in part cannot be sent again exactly.'
            : `That one was read from snapshot ${found.snapshot}, this one from ${snapshot}.`,
        next: 'copy the disk in full to a new target disk.',
      },
      { found: { pass: found.pass, snapshot: found.snapshot, planDigest: found.planDigest, done: found.done } },
    );
  }
  return {
    schema: 1,
    pass,
    snapshot,
    planDigest: plan.planDigest,
    plannedBytes: plan.plannedBytes,
    done: 0,
    chainDigest: EMPTY_CHAIN,
    chunks: 0,
    bytesRead: 0,
    bytesSent: 0,
    seconds: 0,
    segments: 0,
    spent: { ...NO_TIME },
  };
}
