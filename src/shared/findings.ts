/** Every rule a check knows, by its code. `docs/operations.md` says of each what to do; a test holds the two together. */
export const FINDING_CODES = {
  // The VM
  V1: 'snapshots exist',
  V2: 'disks need consolidation',
  V3: 'change tracking is off',
  V4: 'change tracking is not supported',
  V5: 'change tracking has no effect',
  V6: 'a template',
  V7: 'suspended',
  V8: 'not connected',
  V9: 'waits for an answer',
  V10: 'VMware Tools do not run',
  V11: 'fault tolerance',
  V12: 'devices of the host',
  V13: 'host out of service',
  V14: 'held by another product',
  V15: 'managed by an extension',
  V16: 'datastore nearly full',
  V17: 'datacenter with an awkward name',
  V18: 'mark of a finished migration',
  V19: 'virtual TPM or encrypted VM',
  V20: 'UEFI',
  V21: 'no disk',
  V22: 'PVSCSI in Windows',
  V23: 'VMXNET3 in Windows',
  // Its disks
  D1: 'physical raw device mapping',
  D2: 'virtual raw device mapping',
  D3: 'independent disk',
  D4: 'nonpersistent disk',
  D5: 'multi-writer disk',
  D6: 'shared SCSI bus',
  D7: 'encrypted disk',
  D10: 'disk on vSAN',
  D11: 'disk on vVols',
  D12: 'disk in persistent memory',
  D13: 'linked clone',
  D14: 'SE sparse disk',
  D15: 'disk of an old format',
  D16: 'disk of an unknown type',
  D17: 'controller that the target does not have',
  D18: 'unreadable disk',
  D20: 'one file for two disks',
  // Rights and licences on the source
  P1: 'missing right',
  P2: 'licence that refuses changes',
  // The target
  T1: 'network without target',
  T2: 'too little space',
  T3: 'disk beyond the limit of the storage',
  T4: 'too many network cards',
  T5: 'too many disks',
  T6: 'UEFI variables',
  T7: 'unknown target network',
  T8: 'migrated here before',
  T9: 'too much memory',
  T10: 'too many CPUs',
  T11: 'no NBD for a sample',
  // What reads the disks, and the way to them
  N1: 'nbdkit',
  N2: 'transport',
  N3: 'disk that https cannot read',
  N4: 'snapshots that end early over https',
  N5: 'nbdinfo',
  N6: 'name that does not resolve',
  N7: 'closed port',
  N8: 'VDDK without encryption',
  H1: 'shutdown hook',
  // What `surefire check` says of the installation
  certificate: 'certificate of an endpoint',
  endpoint: 'endpoint that refuses',
  vcenter: 'vCenter that answers',
  pool: 'pool that answers',
  temporal: 'Temporal server',
  workers: 'workers',
} as const;

export type FindingCode = keyof typeof FINDING_CODES;

/** What a check found: one fact, what was wanted, and what a person can do about it. */
export interface Finding {
  code: FindingCode;
  /** `error` stops the migration; `warning` needs an acknowledgement; `info` is only told. */
  severity: 'error' | 'warning' | 'info';
  /** Name of the VM, disk, network card, host or storage the finding is about. */
  object: string;
  /** What was seen, as one sentence with the value in it. */
  observed: string;
  /** What would have passed. */
  expected: string;
  /** What to do next, as one sentence. */
  remedy: string;
}

/** Where people find other ways for what is refused for good: OVA, disk export, copying from inside the guest (S123). */
export const ALTERNATIVES = 'https://docs.xcp-ng.org/installation/migrate-to-xcp-ng/';

/** True when a list of findings forbids going on. */
export function hasErrors(findings: readonly Finding[]): boolean {
  return findings.some((finding) => finding.severity === 'error');
}

/** A finding in one line, for lists. */
export function findingLine({ code, object, observed, remedy }: Finding): string {
  return `${code} ${object}: ${sentence(observed)} ${remedy === '' ? '' : `Next: ${remedy}`}`.trim();
}

const sentence = (text: string): string => (/[.?!"]$/.test(text) ? text : `${text}.`);
