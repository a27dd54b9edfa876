import { failure, failureTypeOf, formatBytes, formatDuration } from '../../shared/index.js';
import type { TargetSnapshot } from '../../shared/index.js';
import { step } from '../activity-options.js';
import { wordAlone } from '../gates.js';
import type { Gate } from '../gates.js';
import { AFTER_PARTIAL } from '../names.js';
import { advance, untrackedInOutage, doubt, needsParent } from '../deltas.js';
import { copyDisks, newPass } from '../passes.js';
import type { Pass } from '../passes.js';
import { Ending } from '../run.js';
import type { Run } from '../run.js';
import { deadlineOf, removeBaselineSnapshot, removeCleanSnapshot } from '../snapshot-clock.js';
import { later, now } from '../state.js';
import { scopeOf, takeVerified } from '../verification.js';
import type { Migration } from '../state.js';

/** Stage 5: the first pass lands in the final VM, which cannot be started, and is read back in full (R20). */
export async function baseCopy({ migration }: Run): Promise<void> {
  const snapshot = migration.cleanSnapshot;
  if (!snapshot) throw new Error('there is no clean snapshot to copy from');
  migration.undo.push({ kind: 'destroyTarget' });
  if (migration.artifacts.targetVmUuid === undefined) await createTarget(migration);

  migration.pass ??= newPass(migration.passCount === 0 ? 'base' : `warm-${migration.passCount}`, snapshot);
  const { pass } = migration;
  await copyDisks(migration, pass, true);
  const taken = await takeVerifiedOrDoubt(migration, pass);
  await keepSnapshot(migration, taken);
  advance(migration, snapshot);
  migration.pass = undefined;
  migration.passCount += 1;
  migration.cleanSnapshotDeadlineMs = deadlineOf(migration);
  migration.note(`Pass ${pass.name} is complete and was read back.`, undefined, { disks: passSummary(migration) });

  await removeBaselineSnapshot(migration, 'because the first copy is verified (R5)');
}

/** A read-back that fails twice throws the copy away: what is tried again is a full pass to new disks (R8). */
async function takeVerifiedOrDoubt(migration: Migration, pass: Pass): Promise<TargetSnapshot> {
  let taken: TargetSnapshot | undefined;
  const onTaken = (snapshot: TargetSnapshot) => (taken = snapshot);
  try {
    return await takeVerified(migration, pass, { name: AFTER_PARTIAL, scope: scopeOf(migration), onTaken });
  } catch (error) {
    if (!['VerificationMismatch', 'PlanChanged'].includes(failureTypeOf(error) ?? '')) throw error;
    if (taken) await step.destroyTargetSnapshot({ ...migration.target, snapshotUuid: taken.uuid });
    migration.disks.forEach(doubt);
    migration.pass = undefined;
    migration.passCount += 1;
    throw error;
  }
}

async function createTarget(migration: Migration): Promise<void> {
  const made = await step.createTarget({ ...migration.target, input: migration.input, source: migration.plan.source });
  migration.artifacts.targetVmUuid = made.targetVmUuid;
  for (const disk of migration.disks) {
    const vdi = made.disks.find(({ deviceKey }) => deviceKey === disk.deviceKey);
    if (!vdi) throw new Error(`the pool made no disk for ${disk.label}`);
    disk.vdiUuid = vdi.vdiUuid;
    disk.vdiSizeBytes = vdi.vdiSizeBytes;
  }
  migration.note('The target VM was created; starting it is blocked.', undefined, made);
}

/** Kept: the base pass and the newest verified delta (R22). An older delta's snapshot goes. */
async function keepSnapshot(migration: Migration, taken: TargetSnapshot) {
  const kept = migration.artifacts.targetSnapshots;
  const older = kept.length > 1 ? kept.at(-1) : undefined;
  if (older) {
    await step.destroyTargetSnapshot({ ...migration.target, snapshotUuid: older.uuid });
    kept.pop();
  }
  kept.push({ name: AFTER_PARTIAL, ...taken });
  migration.verifiedSnapshot = taken;
}

function passSummary(migration: Migration): string[] {
  return migration.disks.map((disk) => {
    const last = disk.passes.at(-1);
    return last
      ? `${disk.label}: ${last.deltaMethod}, ${formatBytes(last.bytesRead)} read, ${formatBytes(last.bytesSent)} sent in ${formatDuration(last.seconds)}`
      : `${disk.label}: nothing`;
  });
}

/** Stage 6: a clone of the verified snapshot runs on a network without a physical interface; the base is never booted. */
export async function testCopy({ migration }: Run): Promise<void> {
  const { input, verifiedSnapshot } = migration;
  if (!verifiedSnapshot) throw new Error('there is no verified snapshot to clone');
  migration.undo.push({ kind: 'destroyTestCopy', srUuid: input.target.srUuid });
  if (migration.artifacts.testVmUuid === undefined) {
    const made = await step.createTestCopy({
      ...migration.target,
      vm: input.vm,
      snapshotUuid: verifiedSnapshot.uuid,
      nics: migration.plan.source.nics.map(({ mac }) => ({ mac })),
      srUuid: input.target.srUuid,
    });
    migration.artifacts.testVmUuid = made.testVmUuid;
    migration.artifacts.testNetworkUuid = made.networkUuid;
    migration.srUsedBytesBefore = made.srUsedBytesBefore;
  }
  const evidence = await step.startTestCopy({
    ...migration.target,
    testVmUuid: migration.artifacts.testVmUuid,
    stableSeconds: input.policy.bootStableSeconds,
  });
  migration.set({ testEvidence: evidence });
  migration.note(
    `The test copy ${evidence.booted ? 'runs' : 'did not stay up'} (crash-consistent: memory and caches of the source are not in it).`,
    undefined,
    evidence,
  );
}

/** Stage 7: a person says whether the copy works. Returns `redo` when it has to be made anew. */
export async function verification({ migration, gates }: Run): Promise<'accepted' | 'redo'> {
  const { testVmUuid } = migration.artifacts;
  if (testVmUuid === undefined) throw new Error('there is no test copy to verify');
  const decision = await gates.wait(
    {
      waitingFor: 'verification',
      instruction: `The test copy of ${migration.input.vm} runs on an isolated network (VM ${testVmUuid}). Check that it boots, that the network works and that your application runs. Then accept or reject it.`,
      accepts: {
        acceptTestCopy: async ({ override, operator, reason }) => {
          const seen = await step.observeStarted({ ...migration.target, vmUuid: testVmUuid });
          migration.set({ testEvidence: later(migration.status.testEvidence, seen) });
          if (migration.status.testEvidence?.booted) return;
          if (!override) {
            throw failure('EvidenceMissing', {
              what: `The test copy of ${migration.input.vm} is ${seen.powerState}: it was not seen running with an unmoved start time.`,
              next: 'reject it, or accept with --override and a reason.',
            });
          }
          migration.note(`Overridden: the test copy was not seen running (${seen.powerState}).`, { operator, reason });
        },
        rejectTestCopy: async ({ then, reason }) => {
          if ((then === 'redo' || then === 'abort') && reason?.trim()) return;
          throw failure('EvidenceMissing', {
            what: 'A rejection says why, and what comes then.',
            next: 'repeat it with --reason "..." and --then redo or --then abort.',
          });
        },
      },
    },
    // The clock that ends the clean snapshot never stops (R5); the changeIds stay good (R2).
    {
      timeoutMs: (migration.cleanSnapshotDeadlineMs ?? Date.now()) - Date.now(),
      act: () => removeCleanSnapshot(migration, `after ${migration.input.policy.snapshotHours} h without an answer`),
    },
  );
  if (decision.name !== 'rejectTestCopy') return 'accepted';
  const { operator, reason, then } = decision.argument;
  if (then === 'abort') throw new Ending('aborted', 'Aborted', `${operator} rejected the test copy: ${reason}`);
  return 'redo';
}

/** Stage 8: the clone is gone, and the record says whether the SR shows it. The clean snapshot has served, unless the copy is made anew. */
export async function removeTestCopy({ migration }: Run): Promise<void> {
  const spaceIsBack = await step.destroyTestCopy({
    ...migration.target,
    srUuid: migration.input.target.srUuid,
    srUsedBytesBefore: migration.srUsedBytesBefore,
  });
  delete migration.artifacts.testVmUuid;
  delete migration.artifacts.testNetworkUuid;
  migration.undo.drop('destroyTestCopy');
  const space = spaceIsBack
    ? 'and the space is back'
    : 'but the SR is fuller than before: other VMs have grown, or it still coalesces';
  migration.note(`The test copy, its disks and its network are gone, ${space}.`, undefined, { at: now() });
}

/** Stage 9: nobody waits for the machine here; the machine waits for the word. */
export async function cutoverApproval({ migration, gates }: Run): Promise<void> {
  await removeCleanSnapshot(migration, 'because the test copy was accepted');
  const gate: Gate = {
    waitingFor: 'cutover-approval',
    instruction: `Approve the cutover of ${migration.input.vm}: the source is shut down, what changed is copied, and the target starts. Budget ${formatDuration(migration.input.policy.downtimeBudgetSeconds)}.${untrackedInOutage(migration)}`,
    accepts: { approveCutover: wordAlone },
  };
  if (!needsParent(migration)) return void (await gates.wait(gate));
  const act = () => removeCleanSnapshot(migration, 'because its time was over');
  await gates.wait(gate, { timeoutMs: (migration.cleanSnapshotDeadlineMs ?? Date.now()) - Date.now(), act });
}
