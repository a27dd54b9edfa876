import { formatBytes, formatDuration, formatRate } from '../shared/index.js';
import type { Bottleneck } from '../shared/index.js';
import type { Connection } from './connection.js';
import { recordOf, setKey } from './marks.js';

/**
 * Writes the speed of a pass onto the VDI, for people and for programs (S12). A pass of no time has no rate.
 */
export async function setVdiMetrics(
  xapi: Connection,
  input: {
    vdiUuid: string;
    pass: string;
    kind: 'base' | 'delta';
    bytes: number;
    seconds: number;
    bottleneck?: Bottleneck;
  },
): Promise<void> {
  const { vdiUuid, pass, kind, bytes, seconds, bottleneck } = input;
  const [ref, vdi] = await recordOf(xapi, 'VDI', vdiUuid);
  const rate = bytesPerSecond(bytes, seconds);
  const facts = {
    kind,
    bytes,
    seconds: Number(seconds.toFixed(3)),
    ...(rate !== undefined && { bytesPerSecond: rate }),
    ...(bottleneck && { bottleneck }),
  };
  await setKey(xapi, 'VDI', ref, `surefire:metrics-${pass}`, JSON.stringify(facts));
  const line = `${pass} (${kind}): ${formatBytes(bytes)} in ${formatDuration(seconds)}${rate === undefined ? '' : `, ${formatRate(rate)}`}${bottleneck ? `, slowest: ${bottleneck}` : ''}`;
  const lines = String(vdi['name_description'])
    .split('\n')
    .filter((existing) => !existing.startsWith(`${pass} (`));
  await xapi.call('VDI.set_name_description', ref, [...lines, line].join('\n'));
}

/** Undefined rather than infinite for a pass that took no measurable time. */
function bytesPerSecond(bytes: number, seconds: number): number | undefined {
  return seconds >= 0.001 ? Math.round(bytes / seconds) : undefined;
}
