import type { Finding, Transport } from '../shared/index.js';
import { FLOORS } from './probe.js';
import type { TransportProbe } from './probe.js';

/** What travels unencrypted on those ways. */
const IN_THE_CLEAR: Record<string, string> = {
  nbd: 'the blocks cross the network from the ESXi host readable for everyone on the way',
  san: 'the blocks come from the storage as its own network carries them',
  hotadd: "the blocks come from this host's hypervisor as it reads them from the storage",
};

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
  const { usable, ways } = probe.vddk;
  if (usable && wanted !== 'https' && ways && (ways.includes('nbd') || !ways.includes('nbdssl'))) {
    const clear = ways.filter((way) => way !== 'nbdssl');
    findings.push({
      code: 'N8',
      severity: 'warning',
      object: host,
      observed: `VDDK may read disks by ${clear.join(' or ')}, without encryption: ${clear.map((way) => IN_THE_CLEAR[way]).join('; ')}.`,
      expected: 'nbdssl alone; of several ways VDDK takes the first that works, and tells nobody',
      remedy: `set transfer.vddkTransports to [nbdssl] there and open port 902, or acknowledge it. The report says which way was taken.`,
    });
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
