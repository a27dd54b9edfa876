import { ApplicationFailure } from '@temporalio/workflow';
import { counted, formatBytes } from '../shared/index.js';
import type { DiskState, PassRecord, Range, TargetSnapshot, Verdict, VerifyScope } from '../shared/index.js';
import type { VerifyDiskInput } from '../activities/types.js';
import { step, transferOn } from './activity-options.js';
import { describeCopy, everyDisk } from './passes.js';
import type { Pass } from './passes.js';
import type { Migration } from './state.js';

const SAMPLE_SHARE = 0.05;

/** What to take and to compare. */
interface Check {
  /** Name of the target snapshot. */
  name: string;
  scope: VerifyScope;
  /** Hears of each snapshot as soon as it exists, so that nothing is left behind. */
  onTaken: (taken: TargetSnapshot) => void;
}

/** How this migration's passes are read back outside the outage. */
export const scopeOf = (migration: Migration): VerifyScope => migration.input.policy.verify ?? 'full';

/**
 * Takes the target's snapshot after a pass and compares it. Places that differ are sent again once, to the disk and not to
 * the snapshot, which is replaced; what differs then is no accident and stops the run.
 *
 * @throws VerificationMismatch
 */
export async function takeVerified(migration: Migration, pass: Pass, check: Check): Promise<TargetSnapshot> {
  const take = async () => {
    const { target, targetVmUuid } = migration;
    const taken = await step.snapshotTarget({ ...target, targetVmUuid, name: check.name, pass: pass.name });
    check.onTaken(taken);
    return taken;
  };
  const taken = await take();
  const wrong = await compareDisks(migration, pass, taken, check.scope);
  if (wrong.size === 0) return taken;
  for (const [disk, extents] of wrong) noteMend(migration, pass, disk, extents);
  await everyDisk(migration, async (disk) => {
    const extents = wrong.get(disk);
    if (extents === undefined) return;
    await mend(migration, pass, disk, extents);
    wrong.delete(disk);
  });
  await step.destroyTargetSnapshot({ ...migration.target, snapshotUuid: taken.uuid });
  const again = await take();
  await verifyDisks(migration, pass, again, check.scope);
  return again;
}

/**
 * Compares all disks of a pass with a target snapshot (R20, R21): a base pass against zero outside its extents, a delta
 * against the snapshot verified before it.
 *
 * @throws VerificationMismatch
 */
export async function verifyDisks(
  migration: Migration,
  pass: Pass,
  taken: TargetSnapshot,
  scope: VerifyScope,
): Promise<void> {
  await everyDisk(migration, (disk) => verifyDisk(migration, pass, taken, scope, disk));
}

/** As `verifyDisks`, but collects the disks that differ in places that are known. */
async function compareDisks(
  migration: Migration,
  pass: Pass,
  taken: TargetSnapshot,
  scope: VerifyScope,
): Promise<Map<DiskState, Range[]>> {
  const wrong = new Map<DiskState, Range[]>();
  await everyDisk(migration, async (disk) => {
    try {
      await verifyDisk(migration, pass, taken, scope, disk);
    } catch (error) {
      const extents = extentsOf(error);
      // A retried stage: what was sent again once is not sent again.
      if (extents === undefined || lastPass(disk, pass)?.mended !== undefined) throw error;
      wrong.set(disk, extents);
    }
  });
  return wrong;
}

async function verifyDisk(
  migration: Migration,
  pass: Pass,
  taken: TargetSnapshot,
  scope: VerifyScope,
  disk: DiskState,
): Promise<void> {
  const copied = lastPass(disk, pass);
  if (copied === undefined) return;
  const { verifiedSnapshot: previous, input: migrationInput } = migration;
  const vdiUuid = vdiOf(taken, disk);
  const isDone = ({ vdiUuid: seen, scope: done }: Verdict) => seen === vdiUuid && (done === scope || done === 'full');
  if (copied.verdicts?.some(isDone)) return;
  const input: VerifyDiskInput = {
    ...(pass.inputs.get(disk.deviceKey) ?? describeCopy(migration, pass.name, pass.snapshot, disk)),
    snapshotVdiUuid: vdiUuid,
    ...(copied.kind === 'delta' && previous && { previousSnapshotVdiUuid: vdiOf(previous, disk) }),
    planDigest: copied.planDigest,
    chainDigest: copied.chainDigest,
    deltaMethod: copied.deltaMethod,
    scope,
    sampleShare: migrationInput.policy.sampleShare ?? SAMPLE_SHARE,
  };
  const what = scope === 'changed' ? 'check' : 'read back';
  const verdict = await transferOn(migrationInput.transferQueue).verifyDisk.executeWithOptions(
    {
      activityId: `verify-${scope}-${vdiUuid.slice(0, 8)}:${disk.label}`,
      summary: `${what} ${pass.name} of ${disk.label}`,
    },
    [input],
  );
  (copied.verdicts ??= []).push(verdict);
  copied.verified = wordFor(verdict);
  migration.refresh();
}

function noteMend(migration: Migration, pass: Pass, disk: DiskState, extents: Range[]): void {
  const copied = lastPass(disk, pass);
  if (copied) copied.mended = extents;
  const bytes = extents.reduce((sum, { length }) => sum + length, 0);
  migration.note(
    `${disk.label}: ${counted(extents.length, 'place')} with ${formatBytes(bytes)} differed after ${pass.name}: sent again.`,
    undefined,
    { extents },
  );
}

async function mend(migration: Migration, pass: Pass, disk: DiskState, extents: Range[]): Promise<void> {
  const input = pass.inputs.get(disk.deviceKey) ?? describeCopy(migration, pass.name, pass.snapshot, disk);
  await transferOn(migration.input.transferQueue).mendDisk.executeWithOptions(
    { activityId: `mend-${pass.name}:${disk.label}`, summary: `send again what differs in ${disk.label}` },
    [{ ...input, extents }],
  );
}

/** The places that a mismatch names, from under the wrapping that Temporal puts around an activity's failure. */
function extentsOf(error: unknown): Range[] | undefined {
  for (let at = error; at instanceof Error; at = at.cause) {
    if (!(at instanceof ApplicationFailure) || at.type !== 'VerificationMismatch') continue;
    return (at.details?.[0] as { extents?: Range[] } | undefined)?.extents;
  }
  return undefined;
}

function lastPass(disk: DiskState, pass: Pass): PassRecord | undefined {
  const last = disk.passes.at(-1);
  return last?.pass === pass.name ? last : undefined;
}

function wordFor({ scope, via }: Verdict): PassRecord['verified'] {
  if (via === 'none') return 'acknowledged';
  return scope === 'full' ? 'read-back' : scope === 'sampled' ? 'sampled' : 'changes-read-back';
}

function vdiOf(snapshot: TargetSnapshot, disk: DiskState): string {
  const found = snapshot.disks.find(({ deviceKey }) => deviceKey === disk.deviceKey);
  if (!found) throw new Error(`the target snapshot ${snapshot.uuid} lacks ${disk.label}`);
  return found.vdiUuid;
}
