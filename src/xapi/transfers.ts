import { setTimeout as delay } from 'node:timers/promises';
import { failure } from '../shared/errors.js';
import type { Connection } from './connection.js';
import { isGone, KEYS, recordOf, unlessGone } from './marks.js';
import { isUp } from './pool.js';
import type { PoolHost, TaskOutcome, VdiAccess, XapiRecord } from './types.js';

const POLL_MS = 200;
/** Detaching on LVM may be slow; an import's task ends only after it. */
const TASK_TIMEOUT_MS = 15 * 60_000;
const MOST_WORDS = 20;
const LONGEST_WORD = 500;

/**
 * The host that a VDI's data goes to: one and the same for all PUTs, the master where it sees the SR.
 *
 * @throws TargetBusy while no host that is up has the SR attached.
 */
export async function vdiAccess(xapi: Connection, vdiUuid: string): Promise<VdiAccess> {
  const [vdiRef, vdi] = await recordOf(xapi, 'VDI', vdiUuid);
  const sr = await xapi.call<XapiRecord>('SR.get_record', vdi['SR']);
  const seeing: string[] = [];
  for (const pbd of sr['PBDs'] as string[]) {
    const { host, currently_attached: attached } = await xapi.call<XapiRecord>('PBD.get_record', pbd);
    if (attached !== true) continue;
    if (await isUp(xapi, await xapi.call<XapiRecord>('host.get_record', host))) seeing.push(String(host));
  }
  const pool = Object.values(await xapi.call<Record<string, XapiRecord>>('pool.get_all_records'))[0];
  const master = String(pool?.['master']);
  const chosen = seeing.includes(master) ? master : seeing.sort()[0];
  if (chosen === undefined) {
    throw failure('TargetBusy', {
      what: `VDI ${vdiUuid} cannot be reached: no enabled host has SR "${String(sr['name_label'])}" attached.`,
      next: 'plug the SR in (`xe pbd-plug`), or enable a host that has it.',
    });
  }
  return {
    host: await hostOf(xapi, chosen),
    sessionId: await xapi.session(),
    vdiRef,
    virtualSizeBytes: Number(vdi['virtual_size']),
    tlsForHost: async (address) => {
      const hosts = Object.entries(await xapi.call<Record<string, XapiRecord>>('host.get_all_records'));
      const [ref] = hosts.find(([, host]) => host['address'] === address) ?? [master];
      return (await hostOf(xapi, ref)).tls;
    },
  };
}

/** Address of a host and how its certificate is recognised: the master's by our pin, the others' as the master tells (R33). */
export async function hostOf(xapi: Connection, hostRef: string): Promise<PoolHost> {
  const pool = Object.values(await xapi.call<Record<string, XapiRecord>>('pool.get_all_records'))[0];
  const master = await xapi.master();
  if (hostRef === pool?.['master']) return master;
  const url = new URL(master.url);
  url.hostname = await xapi.call<string>('host.get_address', hostRef);
  const ca = await xapi.call<string>('host.get_server_certificate', hostRef);
  return { url: url.origin, tls: { ca, allowPartialTrustChain: true } };
}

/** A task of ours, so that the outcome of an import can be asked for. */
export async function createTask(xapi: Connection, name: string, migrationId: string): Promise<string> {
  const ref = await xapi.call<string>('task.create', name, migrationId);
  await xapi.call('task.add_to_other_config', ref, KEYS.migration, migrationId);
  return ref;
}

/** Waits for the end of a task. One that has vanished, or does not end, is an unknown outcome, never a success. */
export async function taskOutcome(xapi: Connection, taskRef: string): Promise<TaskOutcome> {
  const deadline = Date.now() + TASK_TIMEOUT_MS;
  for (;;) {
    let task: XapiRecord;
    try {
      task = await xapi.call<XapiRecord>('task.get_record', taskRef);
    } catch (error) {
      return { status: 'unknown', reason: isGone(error) ? 'the task is gone' : String(error) };
    }
    if (task['status'] === 'success') return { status: 'success' };
    if (task['status'] !== 'pending' && task['status'] !== 'cancelling') {
      return { status: 'failure', errorInfo: wordsOf(task['error_info']) };
    }
    if (Date.now() > deadline) return { status: 'unknown', reason: 'the task does not end' };
    await delay(POLL_MS);
  }
}

/** Why a task failed, whatever was said; for people and for history, so of a length that both can bear. */
function wordsOf(errorInfo: unknown): string[] {
  const words: unknown[] = Array.isArray(errorInfo) ? errorInfo : [errorInfo];
  return words
    .slice(0, MOST_WORDS)
    .map((one) => (typeof one === 'string' ? one : JSON.stringify(one ?? '')).slice(0, LONGEST_WORD));
}

/** Tells XAPI that the task lives: one that shows no progress for 24 h is collected. */
export async function setTaskProgress(xapi: Connection, taskRef: string, fraction: number): Promise<void> {
  await xapi.call('task.set_progress', taskRef, fraction);
}

/** Forgets a task. XAPI keeps one that is pending until it ends, which after a refused PUT is never: it is ended first. */
export async function destroyTask(xapi: Connection, taskRef: string): Promise<void> {
  await unlessGone(async () => {
    const status = await xapi.call<string>('task.get_status', taskRef);
    if (status === 'pending') await xapi.call('task.set_status', taskRef, 'cancelled');
    await xapi.call('task.destroy', taskRef);
  }, undefined);
}
