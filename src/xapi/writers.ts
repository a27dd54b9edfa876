import { setTimeout as delay } from 'node:timers/promises';
import { failure } from '../shared/errors.js';
import type { Connection } from './connection.js';
import { addKey, isGone, KEYS, recordOf, setKey, unlessGone } from './marks.js';
import { xapiCode } from './failures.js';

/** How long an attachment of the last PUT may hang on before it counts as an older attempt's (R17). */
const DETACH_GRACE_MS = 15_000;
const POLL_MS = 250;

/**
 * Makes this attempt the one writer of a VDI (R17). Whoever wrote before is shut out: its mark is replaced, so that it
 * begins no further PUT, and what it has attached is detached, by force after a grace time.
 *
 * @throws WriterConflict when an attachment cannot be ended: two writers would be possible.
 */
export async function acquireWriter(xapi: Connection, vdiUuid: string, writerId: string): Promise<void> {
  const [ref] = await recordOf(xapi, 'VDI', vdiUuid);
  if (!(await addKey(xapi, 'VDI', ref, KEYS.writer, writerId))) await setKey(xapi, 'VDI', ref, KEYS.writer, writerId);
  await awaitNoAttachment(xapi, vdiUuid);
}

/** @throws WriterConflict when another attempt has taken over meanwhile. */
export async function requireWriter(xapi: Connection, vdiUuid: string, writerId: string): Promise<void> {
  const [, vdi] = await recordOf(xapi, 'VDI', vdiUuid);
  if (vdi.other_config[KEYS.writer] === writerId) return;
  throw failure('WriterConflict', {
    what: `Another attempt writes to VDI ${vdiUuid} now.`,
    why: 'This worker was away too long and was replaced.',
    next: 'nothing: the other attempt goes on.',
  });
}

/**
 * Ends a pass: nobody writes any more, so what is on the disk now stays (R17).
 *
 * @throws WriterConflict when another attempt has taken over, or an older one's attachment cannot be ended.
 */
export async function releaseWriter(xapi: Connection, vdiUuid: string, writerId: string): Promise<void> {
  await requireWriter(xapi, vdiUuid, writerId);
  await awaitNoAttachment(xapi, vdiUuid);
  const [ref] = await recordOf(xapi, 'VDI', vdiUuid);
  await xapi.call('VDI.remove_from_other_config', ref, KEYS.writer);
}

/** Waits until no control domain has the VDI attached; after the grace time the attachment is ended by force. */
export async function awaitNoAttachment(xapi: Connection, vdiUuid: string): Promise<void> {
  const deadline = Date.now() + DETACH_GRACE_MS;
  for (;;) {
    const attached = await controlDomainVbds(xapi, vdiUuid);
    if (attached.length === 0) return;
    if (Date.now() > deadline) return forceOff(xapi, vdiUuid, attached);
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
