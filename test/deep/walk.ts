import { STAGES } from '../../src/shared/index.js';
import type { MigrationReport, MigrationStatus } from '../../src/shared/index.js';
import type { LabVmSpec } from '../../lab/lab.js';
import { plain, Run, waitFor, type Bench } from '../e2e/harness.js';
import { ACTS, arm, type Act, type Effect } from './acts.js';

/** One act of one stage, and the VM on which it is tried. */
export interface Case {
  vm: string;
  stage: (typeof STAGES)[number];
  act: Act;
}

/** A case for every act in the table; `prefix` tells the cases of one file from each other. */
export function casesOf(prefix: string): Case[] {
  return STAGES.flatMap((stage) =>
    ACTS[stage].map((act, index) => ({ vm: `${prefix}-${stage}-${index + 1}`, stage, act })),
  );
}

/** Small and without an operating system: what is looked at is what happens around the guest. */
export const small = (name: string, vsphere: LabVmSpec['vsphere'] = {}): LabVmSpec => ({
  ...plain(name, vsphere),
  boots: false,
});

/** What is armed for a migration: an effect on an act, at once or when the record says that it is time. */
export interface Armed {
  act: Act;
  effect: Effect;
}

/** Starts the migration of a VM with what is armed against it from the beginning. */
export async function begin(bench: Bench, vm: string, armed: Armed[]): Promise<Run> {
  const input = await bench.inputFor(vm, armed[0]?.act.choices);
  for (const { act, effect } of armed) if (act.after === undefined) await arm(bench, vm, act, effect);
  return new Run(bench, vm, (await bench.client.start(input)).migrationId);
}

/**
 * Answers every gate like an operator for whom all goes well, until `stop` says so or the run has ended. A VM that has
 * Tools is reverted once.
 *
 * @returns The status it stopped at; undefined when the run has ended.
 */
export async function walk(
  bench: Bench,
  vm: string,
  run: Run,
  armed: Armed[],
  stop: (status: MigrationStatus) => boolean | Promise<boolean>,
): Promise<MigrationStatus | undefined> {
  const late = armed.filter(({ act }) => act.after !== undefined);
  const look = async () => {
    const { status, execution } = await bench.client.status(run.id);
    if (execution !== 'RUNNING') return { status: undefined };
    if (!status) return undefined;
    for (const one of [...late]) {
      if (!said(status, one.act.after ?? '')) continue;
      late.splice(late.indexOf(one), 1);
      await arm(bench, vm, one.act, one.effect);
    }
    if (await stop(status)) return { status };
    if (!armed.some(({ act }) => act.holdsAt === status.waitingFor)) await answer(bench, vm, run, status);
    return undefined;
  };
  return (await waitFor(`${vm} to get to where it is wanted`, look, 240_000)).status;
}

/** Whether the record has a line with these words. */
export const said = ({ record }: Pick<MigrationStatus, 'record'>, words: string): boolean =>
  record.some(({ text }) => text.includes(words));

async function answer(bench: Bench, vm: string, run: Run, status: MigrationStatus): Promise<void> {
  switch (status.waitingFor) {
    case 'snapshot-removal':
      return void (await run.say('approveSnapshotRemoval', {}));
    case 'tools-removal':
      if (!said(status, 'The source was reverted')) {
        return void (await run.say('revertToBaseline', { reason: 'it does not boot' }));
      }
      return void (await run.say('confirmToolsRemoved', { override: true, reason: 'an appliance that keeps them' }));
    case 'verification':
      return void (await run.say('acceptTestCopy', {}));
    case 'cutover-approval':
      return void (await run.say('approveCutover', {}));
    case 'power-off':
      if ((await bench.vsphere.powerState(vm)) === 'poweredOn') await bench.vsphere.shutdown(vm);
      return;
    case 'acceptance':
      if (said(status, 'The read-back failed')) await run.say('rollback', { reason: 'the read-back failed' });
      else if (said(status, 'was read back in full')) await run.say('acceptMigration', {});
  }
}

/** Begins the line of the record that names what a rollback keeps. */
export const KEPT = 'Kept on the target: VM';

/** Uuids of what a report says stays on the target on purpose. */
export function keptBy(report: MigrationReport | undefined): string[] {
  if (!report?.targetVmUuid || !(report.outcome === 'migrated' || said(report, KEPT))) return [];
  const snapshots = report.artifacts.targetSnapshots;
  return [
    report.targetVmUuid,
    ...report.disks.map(({ vdiUuid }) => vdiUuid ?? ''),
    ...snapshots.flatMap(({ uuid, disks }) => [uuid, ...disks.map(({ vdiUuid }) => vdiUuid)]),
  ];
}
