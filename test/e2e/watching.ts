import { randomInt } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Connection } from '@temporalio/client';
import type { LabCall } from '../../lab/vsphere/admin.js';
import type { MigrationStatus } from '../../src/shared/index.js';
import { runCli, spawnCli } from '../cli/harness.js';
import { failureOf, waitFor, type Bench, type Run } from './harness.js';
import { configFileOf } from './world.js';

// What is asked of a migration while it runs.

/** `surefire up` of a bench takes any free port. */
export const cliOf = ({ temporal }: Bench) => ({
  SUREFIRE_TEMPORAL_ADDRESS: (temporal.connection as Connection).options.address,
});

/** Waits until every disk's copy has moved something and is not through. */
export function copyUnderWay(bench: Bench, run: Run, diskCount: number) {
  return waitFor('the copy to be under way', async () => {
    const { steps } = await bench.client.status(run.id);
    const moving = steps.filter(({ progress }) => {
      return progress?.phase === 'copy' && progress.doneBytes > 0 && progress.doneBytes < progress.totalBytes;
    });
    return moving.length === diskCount && moving;
  });
}

/** Somebody starts a VM in Xen Orchestra. */
export async function startDirectly({ api }: Bench, vmUuid: string): Promise<string> {
  const ref = await api.call('VM.get_by_uuid', vmUuid);
  return (await failureOf(api.call('VM.start', ref, false, false))).message;
}

/** Asks vCenter itself what changed between the clean and the final snapshot: bytes and areas, disk by disk. */
export function changedSince(bench: Bench, then: MigrationStatus, now: MigrationStatus) {
  const [vcenter = ''] = Object.keys(bench.config.vcenters);
  return Promise.all(
    then.disks.map(async ({ deviceKey, capacityBytes, changeId = '' }) => {
      const snapshotMoRef = now.artifacts.finalSnapshot ?? '';
      const { moRef: vmMoRef } = await bench.vsphere.vm(now.vm);
      const areas = bench.deps
        .vsphere(vcenter)
        .queryChangedAreas({ vmMoRef, snapshotMoRef, deviceKey, changeId, capacityBytes });
      let [bytes, count] = [0, 0];
      for (const { length } of await areas) {
        bytes += length;
        count += 1;
      }
      return { bytes, count };
    }),
  );
}

/** Requests about some objects, as vCenter logged them. */
export async function callsOn(bench: Bench, objects: string[]): Promise<LabCall[]> {
  return (await bench.vsphere.calls()).filter(({ object }) => objects.includes(object));
}

/** Activities in the order in which history has them. */
export async function orderOf(bench: Bench, run: Run): Promise<string[]> {
  const { events } = await bench.temporal.workflow.getHandle(run.id).fetchHistory();
  return (events ?? []).flatMap(
    ({ activityTaskScheduledEventAttributes: scheduled }) => scheduled?.activityType?.name ?? [],
  );
}

export function sample(bench: Bench, id: string) {
  const samples: { percent: number; guideStage: string; stage: string; attribute: string; power: string }[] = [];
  let isOn = true;
  const done = (async () => {
    while (isOn) {
      const { status, stage: attribute, vm } = await bench.client.status(id);
      const power = await bench.vsphere.powerState(vm);
      if (status) {
        const { percent, guideStage, stage } = status;
        samples.push({ percent, guideStage, stage, attribute, power });
      }
      await sleep(500);
    }
  })();
  // Where the journey fails first, its own error counts.
  done.catch(() => undefined);
  return {
    samples,
    stop: async () => {
      isOn = false;
      await done;
    },
  };
}

/** Watches the migration from a shell that is killed again and again, then once to the end. */
export async function killWatchers(bench: Bench, vm: string) {
  const args = ['watch', vm, '--json', '--config', configFileOf(bench)];
  const delays = [0, randomInt(2_000), randomInt(8_000)];
  for (const delayMs of delays) {
    const watcher = spawnCli(args, cliOf(bench));
    await Promise.race([new Promise((heard) => watcher.stdout.once('data', heard)), watcher]);
    await sleep(delayMs);
    watcher.kill('SIGKILL');
    const { signal } = await watcher;
    if (signal !== 'SIGKILL') throw new Error(`a watcher ended by itself after ${delayMs} ms`);
  }
  const { exitCode, stdout } = await runCli(args, cliOf(bench));
  return { delays, exitCode, lines: stdout.split('\n').map((line) => JSON.parse(line) as Record<string, unknown>) };
}
