import { setTimeout as delay } from 'node:timers/promises';
import { failure } from '../shared/errors.js';
import type { Connection } from './connection.js';
import { addKey, isGone, KEYS, recordOf, setKey, unlessGone } from './marks.js';
import { xapiCode } from './failures.js';
import type { XapiRecord } from './types.js';

/** How long an attachment of the last PUT may hang on before it counts as an older attempt's (R17). */
const DETACH_GRACE_MS = 15_000;
/** Attaching on LVM, behind a busy storage manager. */
const ATTACH_MS = 120_000;
const POLL_MS = 250;

/**
 * Makes this attempt the one writer of a VDI (R17). Whoever wrote before is shut out: its mark is replaced, so that it
 * begins no further PUT, and what it has attached is detached, by force after a grace time.
 *
 * @param writerId Ends in `@MILLISECONDS`, when the attempt was scheduled: one that slept takes nothing from its successor.
 * @throws WriterConflict when a later attempt writes, or an attachment cannot be ended: two writers would be possible.
 */
export async function acquireWriter(xapi: Connection, vdiUuid: string, writerId: string): Promise<void> {
  const [ref, vdi] = await recordOf(xapi, 'VDI', vdiUuid);
  const holder = vdi.other_config[KEYS.writer];
  if (holder !== undefined && scheduledAt(holder) > scheduledAt(writerId)) assertWriter(vdi, writerId);
  if (!(await addKey(xapi, 'VDI', ref, KEYS.writer, writerId))) await setKey(xapi, 'VDI', ref, KEYS.writer, writerId);
  await awaitNoAttachment(xapi, vdiUuid, writerId);
}

function scheduledAt(writerId: string): number {
  return Number(/@(\d+)$/.exec(writerId)?.[1] ?? NaN);
}

/** @throws WriterConflict when another attempt has taken over meanwhile. */
export async function requireWriter(xapi: Connection, vdiUuid: string, writerId: string): Promise<void> {
  const [, vdi] = await recordOf(xapi, 'VDI', vdiUuid);
  assertWriter(vdi, writerId);
}

/** As `requireWriter`, of a record that was just read. @throws WriterConflict */
export function assertWriter(vdi: XapiRecord, writerId: string): void {
  if (vdi.other_config[KEYS.writer] === writerId) return;
  throw failure('WriterConflict', {
    what: `Another attempt writes to VDI ${vdi.uuid} now.`,
    why: 'This worker was away too long and was replaced.',
    next: 'nothing: the other attempt goes on.',
  });
}

/**
 * Between XAPI's early 200 and a PUT's first byte: waits until the disk is seen attached, then asks once more who the
 * writer is. In this order a worker may sleep between any two calls: who takes over before the question is named by the
 * answer, who takes over after it finds the attachment and ends it (R17). A PUT whose task has ended says why itself.
 *
 * @throws WriterConflict, or TargetBusy when the attachment does not come.
 */
export async function confirmWriter(
  xapi: Connection,
  vdiUuid: string,
  { writerId, taskRef }: { writerId: string; taskRef: string },
): Promise<void> {
  const deadline = Date.now() + ATTACH_MS;
  while ((await controlDomainVbds(xapi, vdiUuid)).length === 0) {
    if ((await xapi.call('task.get_status', taskRef)) !== 'pending') return;
    if (Date.now() > deadline) {
      throw failure('TargetBusy', {
        what: `VDI ${vdiUuid} was not attached for the import in ${ATTACH_MS / 1000} s.`,
        next: 'it is tried again; if it stays, look into /var/log/SMlog of that host.',
      });
    }
    await delay(POLL_MS);
  }
  await requireWriter(xapi, vdiUuid, writerId);
}

/**
 * Ends a pass: nobody writes any more, so what is on the disk now stays (R17).
 *
 * @throws WriterConflict when another attempt has taken over, or an older one's attachment cannot be ended.
 */
export async function releaseWriter(xapi: Connection, vdiUuid: string, writerId: string): Promise<void> {
  await requireWriter(xapi, vdiUuid, writerId);
  await awaitNoAttachment(xapi, vdiUuid, writerId);
  const [ref, vdi] = await recordOf(xapi, 'VDI', vdiUuid);
  assertWriter(vdi, writerId);
  await xapi.call('VDI.remove_from_other_config', ref, KEYS.writer);
}

/**
 * Waits until no control domain has the VDI attached; after the grace time the attachment is ended by force.
 *
 * @param writerId Whose right to force it is. One that slept through the grace time finds its successor's attachment.
 * @throws WriterConflict
 */
export async function awaitNoAttachment(xapi: Connection, vdiUuid: string, writerId?: string): Promise<void> {
  const deadline = Date.now() + DETACH_GRACE_MS;
  for (;;) {
    const attached = await controlDomainVbds(xapi, vdiUuid);
    if (attached.length === 0) return;
    if (Date.now() > deadline) {
      if (writerId !== undefined) await requireWriter(xapi, vdiUuid, writerId);
      return forceOff(xapi, vdiUuid, attached);
    }
    await delay(POLL_MS);
  }
}

async function forceOff(xapi: Connection, vdiUuid: string, vbds: string[]): Promise<void> {
  for (const vbd of vbds) {
    try {
      await xapi.call('VBD.unplug_force', vbd).catch((error: unknown) => {
        if (xapiCode(error) !== 'DEVICE_ALREADY_DETACHED') throw error;
      });
      await xapi.call('VBD.destroy', vbd);
    } catch (error) {
      if (isGone(error)) continue;
      throw failure(
        'WriterConflict',
        {
          what: `VDI ${vdiUuid} is still attached to a control domain, and cannot be detached.`,
          why: error instanceof Error ? error.message : String(error),
          next: 'detach it on the host (`xe vbd-unplug`), or copy this disk anew.',
        },
        undefined,
        error,
      );
    }
  }
}

/** References of the attachments to control domains: an import or export writes or reads there. */
export async function controlDomainVbds(xapi: Connection, vdiUuid: string): Promise<string[]> {
  const [, vdi] = await recordOf(xapi, 'VDI', vdiUuid);
  const found: string[] = [];
  for (const vbd of vdi['VBDs'] as string[]) {
    const isTheirs = async () =>
      xapi.call<boolean>('VM.get_is_control_domain', await xapi.call<string>('VBD.get_VM', vbd));
    if (await unlessGone(isTheirs, false)) found.push(vbd);
  }
  return found;
}
