import { CancellationScope, isCancellation } from '@temporalio/workflow';
import { failure, failureMessageOf } from '../../shared/index.js';
import { step } from '../activity-options.js';
import { later } from '../state.js';
import { SOURCE_SNAPSHOTS } from '../names.js';
import { scopeOf, verifyDisks } from '../verification.js';
import { Ending } from '../run.js';
import type { Run } from '../run.js';
import { wordAlone } from '../gates.js';

/**
 * Stage 11: the target serves, the source waits. The final snapshot is read back in full, outside the outage; the word
 * counts only when that is done and every fix is ticked off (R20, S118).
 */
export async function acceptance({ migration, gates }: Run): Promise<void> {
  const { finalPass, finalTargetSnapshot } = migration;
  if (!finalPass || !finalTargetSnapshot) throw new Error('there is no final pass to read back');
  let mismatch: string | undefined;
  let done = false;
  const reading = new CancellationScope();
  const readBack = reading
    .run(async () => {
      await verifyDisks(migration, finalPass, finalTargetSnapshot, scopeOf(migration));
      done = true;
      migration.note(
        scopeOf(migration) === 'full'
          ? '"complete import from V2V" was read back in full: every byte is as it was read from the source.'
          : '"complete import from V2V" was read back: what was copied last, and a sample of the rest.',
      );
    })
    .catch((error: unknown) => {
      if (isCancellation(error)) return;
      mismatch = failureMessageOf(error);
      migration.note(`The read-back failed: ${mismatch}`);
    });
  try {
    const decision = await gates.wait({
      waitingFor: 'acceptance',
      instruction: `${migration.input.vm} runs on the target. Check it, tick off the fixes, then accept; or go back with \`rollback\`.`,
      accepts: {
        acceptMigration: async () => {
          const seen = await step.observeStarted({ ...migration.target, vmUuid: migration.targetVmUuid });
          migration.set({ targetEvidence: later(migration.status.targetEvidence, seen) });
          if (mismatch !== undefined)
            throw failure('EvidenceMissing', {
              what: `The read-back of ${migration.input.vm} failed: ${mismatch}`,
              next: 'roll back.',
            });
          if (!done)
            throw failure('EvidenceMissing', {
              what: `The read-back of ${migration.input.vm} still runs.`,
              next: 'wait for it (`surefire watch`) and accept again.',
            });
          const open = migration.notes.filter((note) => note.fix && !note.done).length;
          if (open > 0)
            throw failure('EvidenceMissing', {
              what: `${open} fixes of ${migration.input.vm} are not ticked off.`,
              next: 'tick each off with `surefire note VM --done N`.',
            });
        },
        rollback: wordAlone,
      },
    });
    if (decision.name === 'rollback') {
      const { operator, reason } = decision.argument;
      throw new Ending('rolled-back', 'RolledBack', `Rolled back by ${operator}: ${reason ?? 'no reason given'}`);
    }
  } finally {
    reading.cancel();
    await readBack;
  }
}

/** Stage 12: what we left on the source is removed, both sides are marked, and the undo stack is disarmed. */
export async function finish({ migration }: Run): Promise<void> {
  await step.removeOwnSnapshots({ ...migration.source, names: SOURCE_SNAPSHOTS });
  delete migration.artifacts.cleanSnapshot;
  delete migration.artifacts.finalSnapshot;
  await step.setChangeTracking({ ...migration.source, enabled: migration.plan.source.changeTrackingEnabled });
  migration.undo.push({ kind: 'unmarkSource' });
  await step.markSource({
    ...migration.source,
    mark: `migrated to ${migration.target.pool} VM ${migration.targetVmUuid} by ${migration.id}`,
  });
  await step.finishTarget({
    ...migration.target,
    targetVmUuid: migration.targetVmUuid,
    name: migration.input.vm,
    instanceUuid: migration.plan.source.instanceUuid,
  });
  migration.undo.disarm();
}

/** What stays on purpose: the migrated VM and its rollback points (R22). */
export function kept(migration: Run['migration']): string[] {
  return [migration.artifacts.targetVmUuid, ...migration.artifacts.targetSnapshots.map(({ uuid }) => uuid)].filter(
    (uuid) => uuid !== undefined,
  );
}
