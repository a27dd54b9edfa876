import type { Connection } from './connection.js';
import { isOriginal, KEYS, recordOf, refOf, setKey } from './marks.js';
import { assertWriter } from './writers.js';

interface Kept {
  sequence: number;
  value: unknown;
}

/**
 * The newest checkpoint on a VDI, or undefined. A copy of the disk inherits the keys; there they say nothing (R16).
 */
export async function loadCheckpoint(xapi: Connection, vdiUuid: string): Promise<unknown> {
  const [, vdi] = await recordOf(xapi, 'VDI', vdiUuid);
  if (!isOriginal(vdi)) return undefined;
  return newest(vdi.other_config)?.value;
}

/**
 * Replaces the checkpoint. XAPI cannot replace a key in one call, so there are two with a sequence number: the new one is
 * there before the old one goes (R15).
 *
 * @throws WriterConflict when another attempt has taken over: what that one recorded must stay.
 */
export async function saveCheckpoint(
  xapi: Connection,
  vdiUuid: string,
  writerId: string,
  value: unknown,
): Promise<void> {
  const [ref, vdi] = await recordOf(xapi, 'VDI', vdiUuid);
  assertWriter(vdi, writerId);
  const last = newest(vdi.other_config);
  const [fresh, stale] = last?.key === KEYS.checkpoint[0] ? [KEYS.checkpoint[1], KEYS.checkpoint[0]] : KEYS.checkpoint;
  await xapi.call('VDI.remove_from_other_config', ref, fresh);
  const kept: Kept = { sequence: (last?.sequence ?? 0) + 1, value };
  await xapi.call('VDI.add_to_other_config', ref, fresh, JSON.stringify(kept));
  await xapi.call('VDI.remove_from_other_config', ref, stale);
}

/** How far this snapshot was read back, or undefined, also where somebody spoilt it. Copies inherit the key, so it names its disk (R16). */
export async function loadChecked(xapi: Connection, vdiUuid: string): Promise<unknown> {
  const [, vdi] = await recordOf(xapi, 'VDI', vdiUuid);
  const text = vdi.other_config[KEYS.checked];
  if (text === undefined) return undefined;
  try {
    const kept = JSON.parse(text) as { vdiUuid: string; value: unknown } | null;
    return kept?.vdiUuid === vdiUuid ? kept.value : undefined;
  } catch {
    return undefined;
  }
}

/** Replaces it, or removes it (`undefined`). What a crash loses between two calls is read again. */
export async function saveChecked(xapi: Connection, vdiUuid: string, value: unknown): Promise<void> {
  const ref = await refOf(xapi, 'VDI', vdiUuid);
  if (value !== undefined) return setKey(xapi, 'VDI', ref, KEYS.checked, JSON.stringify({ vdiUuid, value }));
  await xapi.call('VDI.remove_from_other_config', ref, KEYS.checked);
}

function newest(otherConfig: Record<string, string>): (Kept & { key: string }) | undefined {
  return KEYS.checkpoint
    .flatMap((key) => {
      const text = otherConfig[key];
      return text === undefined ? [] : [{ key: key as string, ...(JSON.parse(text) as Kept) }];
    })
    .sort((a, b) => b.sequence - a.sequence)[0];
}
