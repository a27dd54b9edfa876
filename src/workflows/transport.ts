import { failure } from '../shared/index.js';
import type { Transport } from '../shared/index.js';
import { step, transferOn } from './activity-options.js';
import type { SwitchTransport } from './messages.js';
import { removeBaselineSnapshot } from './snapshot-clock.js';
import type { Migration } from './state.js';

export const otherThan = (transport: Transport): Transport => (transport === 'vddk' ? 'https' : 'vddk');

/**
 * From here on disks are read over the other transport (D12). What is being copied stops at a checkpoint and goes on there:
 * the plan is the same on both, as far as change tracking made it. Over https the base file is what is read, so it must hold
 * what the snapshot shows: nothing may lie below it (R3).
 *
 * @throws EvidenceMissing when that transport would not read the same bytes, or none; then everything goes on as before.
 */
export async function switchTransport(migration: Migration, argument: SwitchTransport): Promise<void> {
  const { to } = argument;
  const { vm } = migration.input;
  if (to !== otherThan(migration.transport)) {
    throw failure('EvidenceMissing', {
      what: `The disks of ${vm} cannot be switched to "${to}": they are read over ${migration.transport}.`,
      next: `say ${otherThan(migration.transport)}, or leave it.`,
    });
  }
  if (to === 'https') await requireSameContent(migration, argument);
  await migration.pause.standStill(async () => {
    // Asked only now: until the copies stand still they may hold every slot of that host.
    const probe = await transferOn(migration.input.transferQueue).probeTransports();
    if (!probe[to].usable) {
      throw failure('EvidenceMissing', {
        what: `The disks of ${vm} cannot be read over ${to}: ${probe[to].why}.`,
        next: 'mend that on the transfer host, or stay.',
      });
    }
    if (to === 'https') await unchain(migration);
    migration.plan.transport = to;
    for (const pass of [migration.pass, migration.finalPass]) {
      for (const input of pass?.inputs.values() ?? []) {
        const { fileName, baseFileName } =
          pass?.snapshot.disks.find(({ deviceKey }) => deviceKey === input.disk.deviceKey) ?? input;
        Object.assign(input, { transport: to, fileName, baseFileName });
      }
    }
    migration.set({ transport: to });
    migration.note(`Disks are read over ${to} from here on; what was acknowledged before stays.`, argument);
  });
}

async function requireSameContent(migration: Migration, { endBaseline }: SwitchTransport): Promise<void> {
  const { vm } = migration.input;
  const obstacles = await step.httpsObstacles(migration.source);
  if (obstacles.length > 0) {
    throw failure('EvidenceMissing', {
      what: `The disks of ${vm} cannot be read over https: ${obstacles.join('; ')}.`,
      next: 'stay with vddk.',
    });
  }
  const linked = migration.disks.filter(({ deltaBy }) => deltaBy === 'single-link').map(({ label }) => label);
  if (linked.length > 0) {
    throw failure('EvidenceMissing', {
      what: `The disks of ${vm} cannot be read over https: deltas of ${linked.join(', ')} are found by single-link.`,
      why: 'Only VDDK shows what a snapshot alone holds.',
      next: 'stay with vddk; or cancel and start over https, where deltas are found by comparison.',
    });
  }
  const foreign = await step.listForeignSnapshots(migration.source);
  if (foreign.length > 0) {
    throw failure('EvidenceMissing', {
      what: `The disks of ${vm} cannot be read over https: ${foreign.map(({ name }) => `"${name}"`).join(', ')} is not ours.`,
      why: 'Over https the oldest snapshot is what is read, and the copy is of another one.',
      next: 'have these snapshots removed and consolidated, then switch.',
    });
  }
  const { baselineSnapshot, cleanSnapshot } = migration.artifacts;
  if (baselineSnapshot !== undefined && cleanSnapshot !== undefined && !endBaseline) {
    throw failure('EvidenceMissing', {
      what: `The disks of ${vm} cannot be read over https while "vm starting point" stands.`,
      why: 'Over https the oldest snapshot is what is read, and the copy is of "vm without tools".',
      next: 'switch with --end-baseline: that snapshot is then removed, and there is no way back to it.',
    });
  }
}

/** Leaves the snapshot that is read alone in its chain, and learns what its disks are called then. */
async function unchain(migration: Migration): Promise<void> {
  const { cleanSnapshot, finalSnapshot } = migration.artifacts;
  if (cleanSnapshot !== undefined) await removeBaselineSnapshot(migration, 'because over https the oldest is read');
  const snapshotMoRef = finalSnapshot ?? cleanSnapshot;
  if (snapshotMoRef === undefined) return;
  const disks = await step.requireUnchained({ ...migration.source, snapshotMoRef });
  const known = [
    migration.cleanSnapshot,
    migration.finalSnapshot,
    migration.pass?.snapshot,
    migration.finalPass?.snapshot,
  ];
  for (const snapshot of known) if (snapshot?.snapshotMoRef === snapshotMoRef) snapshot.disks = disks;
}
