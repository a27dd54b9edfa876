import { CancellationScope, isCancellation, upsertSearchAttributes } from '@temporalio/workflow';
import { counted, failure, findingLine, formatBytes } from '../../shared/index.js';
import type { Finding } from '../../shared/index.js';
import type { GuestObservation } from '../../activities/types.js';
import { step, transferOn, watch } from '../activity-options.js';
import { ATTRIBUTES } from '../attributes.js';
import { wordAlone } from '../gates.js';
import { chooseDeltas } from '../deltas.js';
import { BASELINE, CLEAN, SOURCE_SNAPSHOTS } from '../names.js';
import { deadlineOf, removeBaselineSnapshot } from '../snapshot-clock.js';
import { Ending } from '../run.js';
import type { Run } from '../run.js';
import type { Migration } from '../state.js';

/**
 * Stage 0: both sides are inspected; nothing is changed. Errors stop, warnings need an acknowledgement (S31-S34). A check
 * that went stale while its warnings waited for somebody is made again.
 */
export async function preflight(run: Run): Promise<void> {
  const { input } = run.migration;
  const answered = new Set<string>();
  for (;;) {
    const checkedAt = Date.now();
    const warnings = (await check(run)).filter((f) => f.severity === 'warning' && !answered.has(f.code + f.object));
    if (warnings.length === 0) return;
    const many = counted(warnings.length, 'warning');
    if (input.acknowledgedWarnings?.reason) {
      return run.migration.note(`${many} acknowledged at the start.`, input.acknowledgedWarnings, { warnings });
    }
    await waitForAcknowledgement(run, many);
    for (const { code, object } of warnings) answered.add(code + object);
    if (Date.now() - checkedAt < input.policy.checkValidMinutes * 60_000) return;
    run.migration.note('The check is repeated: it was old when its warnings were acknowledged.');
  }
}

/** Looks at everything, keeps what is found, and ends the migration when one of it is an error: nothing overrides that. */
async function check({ migration }: Run): Promise<Finding[]> {
  const { input } = migration;
  // The host that will copy is asked, not the one that happens to run this.
  const transfer = transferOn(input.transferQueue);
  const probe = await transfer.probeTransports();
  const { plan, findings: found } = await step.preflight({ input, migrationId: migration.id, probe });
  const findings = [...found, ...(plan ? await transfer.probeReach({ addresses: plan.mustReach }) : [])];
  migration.set({ findings });
  const errors = findings.filter(({ severity }) => severity === 'error');
  if (errors.length > 0 || !plan) {
    const list = errors.map(findingLine).join('\n');
    throw new Ending(
      'attention',
      'PreflightFailed',
      `Preflight of ${input.vm} found what must be mended first:\n${list}`,
    );
  }
  migration.plan = plan;
  migration.set({
    transport: plan.transport,
    firmware: plan.source.firmware,
    sourcePower: { found: plan.source.powerState, now: plan.source.powerState },
    disks: plan.source.disks.map(({ deviceKey, label, capacityBytes }) => ({
      deviceKey,
      label,
      capacityBytes,
      passes: [],
    })),
  });
  const gib = plan.source.disks.reduce((sum, disk) => sum + disk.capacityBytes, 0) / 2 ** 30;
  upsertSearchAttributes([{ key: ATTRIBUTES.diskGiB, value: Math.ceil(gib) }]);
  return findings;
}

async function waitForAcknowledgement({ gates }: Run, many: string): Promise<void> {
  await gates.wait({
    waitingFor: 'warnings',
    instruction: `Preflight has ${many}, listed under the findings. Acknowledge with a reason, or cancel.`,
    accepts: {
      acknowledgeWarnings: async ({ reason }) => {
        if (!reason?.trim()) {
          throw failure('EvidenceMissing', {
            what: 'Warnings are acknowledged with a reason.',
            next: 'repeat it with --reason "why this is acceptable".',
          });
        }
      },
    },
  });
}

/** Stage 1: no snapshot is left, and changes are tracked from here on (R1). */
export async function clearSnapshots({ migration, gates }: Run): Promise<void> {
  const foreign = await step.listForeignSnapshots(migration.source);
  if (foreign.length > 0) {
    const list = foreign
      .map(
        (s) =>
          `"${s.name}" of ${s.createTime}${s.sizeBytes === undefined ? '' : `, ${formatBytes(s.sizeBytes)}`} (${s.moRef})`,
      )
      .join('; ');
    await gates.wait({
      waitingFor: 'snapshot-removal',
      instruction: `These snapshots are not ours and would be removed for good: ${list}.`,
      accepts: { approveSnapshotRemoval: wordAlone },
    });
    await step.removeSourceSnapshots({ ...migration.source, snapshotMoRefs: foreign.map(({ moRef }) => moRef) });
    migration.note(`Foreign snapshots were removed: ${list}.`, undefined, { foreign });
  }
  const { withoutChangeTracking, changeTrackingEnabled } = migration.plan.source;
  if (withoutChangeTracking !== undefined) return;
  migration.undo.push({ kind: 'restoreChangeTracking', enabled: changeTrackingEnabled });
  await step.setChangeTracking({ ...migration.source, enabled: true });
}

/** Stage 2: the point to which the operator can go back. Taking it is the stun with which tracking begins. */
export async function baselineSnapshot({ migration }: Run): Promise<void> {
  migration.undo.push({ kind: 'removeSourceSnapshots', names: SOURCE_SNAPSHOTS });
  const { snapshotMoRef, createTime } = await step.createSourceSnapshot({
    ...migration.source,
    name: BASELINE,
    alone: true,
  });
  migration.artifacts.baselineSnapshot = snapshotMoRef;
  migration.note(`Snapshot "${BASELINE}" was taken at ${createTime}.`, undefined, { snapshotMoRef });
}

/** Stage 3: VMware Tools go, and the guest has booted without them: a person's word and what vSphere reports (S80-S84). */
export async function toolsRemoval(run: Run): Promise<void> {
  const { migration } = run;
  if (!migration.plan.source.toolsInstalled) {
    migration.baselineDeadlineMs = deadlineOf(migration);
    return migration.note('The tools gate was skipped: VMware Tools were never installed.');
  }
  while ((await waitForToolsRemoval(run)) === 'reverted');
}

async function waitForToolsRemoval({ migration, gates }: Run): Promise<'removed' | 'reverted'> {
  let gone: { goneAt: string; bootTimeThen?: string } | undefined;
  const watching = new CancellationScope();
  const watched = watching
    .run(async () => {
      gone = await watch.watchToolsRemoval(migration.source);
      migration.note('VMware Tools are gone; the guest has yet to boot without them.', undefined, gone);
    })
    .catch((error: unknown) => {
      if (!isCancellation(error)) migration.note(`Watching for the removal of Tools ended: ${String(error)}`);
    });
  try {
    const decision = await gates.wait({
      waitingFor: 'tools-removal',
      instruction: `Uninstall VMware Tools in ${migration.input.vm} and reboot the guest, then confirm. If it no longer boots: revertToBaseline.`,
      accepts: {
        confirmToolsRemoved: async ({ override, operator, reason }) => {
          const seen = await step.observeGuest(migration.source);
          const lacking = missingEvidence(migration, seen, gone);
          if (lacking !== undefined && !override) throw lacking;
          migration.baselineDeadlineMs = deadlineOf(migration);
          if (lacking === undefined)
            return migration.note('Evidence: Tools are gone, and the guest booted since.', undefined, seen);
          migration.note(`Overridden without evidence: ${lacking.message}`, { operator, reason }, seen);
        },
        revertToBaseline: wordAlone,
      },
    });
    if (decision.name === 'confirmToolsRemoved') return 'removed';
  } finally {
    watching.cancel();
    await watched;
  }
  const { powerState } = migration.plan.source;
  // A reverted VM is off until it is powered on again (R7), and that may be what fails.
  migration.undo.push({ kind: 'restoreSourcePower', powerState });
  await step.revertSource({
    ...migration.source,
    snapshotMoRef: migration.artifacts.baselineSnapshot ?? '',
    powerOn: powerState === 'poweredOn',
  });
  migration.undo.drop('restoreSourcePower');
  migration.note(`The source was reverted to "${BASELINE}": everything written since is lost, and Tools are back.`);
  return 'reverted';
}

function missingEvidence(migration: Migration, seen: GuestObservation, gone: { bootTimeThen?: string } | undefined) {
  const { vm } = migration.input;
  if (seen.toolsInstalled) {
    return failure('EvidenceMissing', {
      what: `VMware Tools are still installed in ${vm}: vSphere reports ${seen.toolsStatus}.`,
      next: 'uninstall them in the guest, reboot it, and confirm again.',
    });
  }
  const bootedSince = seen.bootTime !== undefined && gone !== undefined && seen.bootTime !== gone.bootTimeThen;
  if (seen.powerState === 'poweredOn' && bootedSince) return undefined;
  return failure('EvidenceMissing', {
    what: `${vm} has not booted since VMware Tools were gone.`,
    why: `It is ${seen.powerState}, last boot ${seen.bootTime ?? 'unknown'}.`,
    next: 'reboot the guest and confirm again, or confirm with --override and a reason.',
  });
}

/** Stage 4: the instant that the first copy shows. Over https the chain must be base plus our one delta (R3). */
export async function cleanSnapshot({ migration }: Run): Promise<void> {
  const https = migration.transport === 'https';
  // On a redo the last clean snapshot goes first: remove, wait, take the next, query (R3, R4).
  if (migration.artifacts.cleanSnapshot) await step.removeOwnSnapshots({ ...migration.source, names: [CLEAN] });
  const taken = await step.createSourceSnapshot({
    ...migration.source,
    name: CLEAN,
    alone: https && migration.artifacts.baselineSnapshot === undefined,
  });
  migration.artifacts.cleanSnapshot = taken.snapshotMoRef;
  delete migration.cleanSnapshotDeadlineMs;
  migration.note(
    `Snapshot "${CLEAN}" was taken at ${taken.createTime}; later writes are not in the first copy.`,
    undefined,
    {
      snapshotMoRef: taken.snapshotMoRef,
    },
  );
  if (https && migration.artifacts.baselineSnapshot !== undefined) {
    await removeBaselineSnapshot(migration, 'because over https the oldest snapshot is what can be read');
  }
  chooseDeltas(migration, taken);
  migration.cleanSnapshot = https
    ? { ...taken, disks: await step.requireUnchained({ ...migration.source, snapshotMoRef: taken.snapshotMoRef }) }
    : taken;
}
