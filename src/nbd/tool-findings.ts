import type { Finding, Transport } from '../shared/index.js';
import { FLOORS } from './probe.js';
import type { TransportProbe } from './probe.js';

/**
 * What the programs of a transfer host stop or spoil. Silent about what works.
 *
 * @param host Where they were asked, for people.
 * @param wanted A transport that is not usable is an error only where it is wanted, or where no other is left (S35).
 */
export function toolFindings(host: string, probe: TransportProbe, wanted: 'auto' | Transport): Finding[] {
  const findings: Finding[] = [];
  if (!probe.nbdkit.usable) {
    findings.push({
      code: 'N1',
      severity: 'error',
      object: host,
      observed: `nbdkit is not usable: ${probe.nbdkit.why}.`,
      expected: `nbdkit ${FLOORS.nbdkit} or newer`,
      remedy: 'install it there, or name it with transfer.nbdkit.',
    });
  } else {
    for (const transport of ['https', 'vddk'] as const) {
      if (probe[transport].usable) continue;
      const isNeeded = wanted === 'auto' ? !probe.https.usable && !probe.vddk.usable : wanted === transport;
      findings.push({
        code: 'N2',
        severity: isNeeded ? 'error' : 'info',
        object: host,
        observed: `Transport ${transport} is not usable: ${probe[transport].why}.`,
        expected:
          transport === 'vddk'
            ? `nbdkit's vddk plugin ${FLOORS['vddk plugin']} or newer, and a VDDK library it can load`
            : "nbdkit's curl plugin",
        remedy:
          transport === 'vddk'
            ? 'name an unpacked VDDK with transfer.vddkLibdir and install the plugin there, or read over https.'
            : 'install the plugin there, or read over vddk.',
      });
    }
  }
  if (!probe.nbdinfo.usable) {
    findings.push({
      code: 'N5',
      severity: 'warning',
      object: host,
      observed: `nbdinfo is not usable: ${probe.nbdinfo.why}.`,
      expected: `nbdinfo ${FLOORS.nbdinfo} or newer, for looking at disks by hand`,
      remedy: 'install libnbd-bin there; migrations do without.',
    });
  }
  return findings;
}
