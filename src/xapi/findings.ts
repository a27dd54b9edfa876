import type { Finding, Firmware } from '../shared/index.js';
import { ALTERNATIVES, formatBytes } from '../shared/index.js';
import type { Connection } from './connection.js';
import { limitFindings, targetLimits } from './limits.js';
import { allRecords, KEYS } from './marks.js';
import { offersNbd } from './nbd.js';
import { srFacts } from './pool.js';
import { QCOW2_LIMIT_BYTES, VHD_LIMIT_BYTES } from './target-vm.js';
import type { SrFacts } from './types.js';

const SECTOR_BYTES = 512;

/** What a migration would put onto a pool. */
export interface TargetPlan {
  name: string;
  srUuid: string;
  firmware: Firmware;
  secureBoot: boolean;
  instanceUuid: string;
  disks: { label: string; capacityBytes: number }[];
  nics: { mac: string; networkUuid: string | undefined }[];
  repeatReason?: string | undefined;
  memoryBytes?: number;
  cpuCount?: number;
  isWindows?: boolean;
  /** How passes are to be read back. */
  verify?: 'full' | 'sampled';
}

/** Everything about the target that stops a migration or that a person must know. Changes nothing. */
export async function targetFindings(xapi: Connection, plan: TargetPlan): Promise<Finding[]> {
  const sr = await srFacts(xapi, plan.srUuid);
  return [
    ...spaceFindings(plan, sr),
    ...plan.disks.flatMap((disk) => sizeFinding(disk, sr)),
    ...limitFindings(plan, await targetLimits(xapi, plan.isWindows ?? false)),
    ...firmwareFindings(plan),
    ...(await networkFindings(xapi, plan)),
    ...(await finishedFindings(xapi, plan)),
    ...(await samplingFindings(xapi, plan)),
  ];
}

/** Base, snapshot and clone all take room: all of it on a thick SR, what is written on a thin one (R26). */
export function spaceFindings({ name, disks }: Pick<TargetPlan, 'name' | 'disks'>, sr: SrFacts): Finding[] {
  const virtual = disks.reduce((sum, disk) => sum + disk.capacityBytes, 0);
  const free = sr.sizeBytes - sr.usedBytes;
  const needed = sr.thick ? 3 * virtual : virtual;
  if (free >= needed) return [];
  return [
    {
      code: 'T2',
      severity: sr.thick ? 'error' : 'warning',
      object: name,
      observed: `SR "${sr.name}" has ${formatBytes(Math.max(0, free))} free.`,
      expected: sr.thick
        ? `${formatBytes(needed)}: the disks, their snapshot and the test copy in full, because ${sr.type} is thick`
        : `${formatBytes(needed)}, should the disks be full`,
      remedy: `free ${formatBytes(needed - free)} or choose another SR with --sr.`,
    },
  ];
}

/** A disk that no format of the SR holds, or that is not made of sectors: refused here and not at 99 % (S9, S10). */
export function sizeFinding(disk: { label: string; capacityBytes: number }, sr: SrFacts): Finding[] {
  const { label, capacityBytes } = disk;
  const isOdd = !(capacityBytes > 0) || capacityBytes % SECTOR_BYTES !== 0;
  const hasQcow2 = sr.formats.includes('qcow2');
  const limit = hasQcow2 ? QCOW2_LIMIT_BYTES : VHD_LIMIT_BYTES;
  if (!isOdd && capacityBytes <= limit) return [];
  const most = `at most ${formatBytes(limit)}`;
  return [
    {
      code: 'T3',
      severity: 'error',
      object: label,
      observed: isOdd
        ? `It has ${capacityBytes} bytes.`
        : `It has ${formatBytes(capacityBytes)}, and SR "${sr.name}" (${sr.type}) keeps ${sr.formats.join(' and ')} only.`,
      expected: isOdd ? 'whole sectors of 512 bytes' : hasQcow2 ? most : `${most}, or an SR with qcow2`,
      remedy: isOdd
        ? "look at the disk's size in vSphere."
        : hasQcow2
          ? `make the disk smaller: no SR holds more. Alternatives: ${ALTERNATIVES}`
          : `choose an SR that supports qcow2 with --sr. Alternatives: ${ALTERNATIVES}`,
    },
  ];
}

function firmwareFindings({ name, firmware, secureBoot }: TargetPlan): Finding[] {
  if (firmware !== 'uefi') return [];
  return [
    {
      code: 'T6',
      severity: 'warning',
      object: name,
      observed: `UEFI variables do not travel${secureBoot ? ', and Secure Boot will be off on the target' : ''}.`,
      expected: 'a boot loader at the fallback path, or a boot entry made by hand',
      remedy: 'see in the test copy whether it boots.',
    },
  ];
}

async function networkFindings(xapi: Connection, { name, nics }: TargetPlan): Promise<Finding[]> {
  const known = new Set((await allRecords(xapi, 'network')).map(([, network]) => network.uuid));
  return nics
    .filter(({ networkUuid }) => networkUuid !== undefined && !known.has(networkUuid))
    .map(({ mac, networkUuid }) => ({
      code: 'T7',
      severity: 'error' as const,
      object: name,
      observed: `The card ${mac} would go to network ${networkUuid}, which the pool does not have.`,
      expected: 'a network of this pool',
      remedy: 'correct `networks` of the pool in surefire.yaml.',
    }));
}

/** A finished migration of the same VM is not repeated by accident, also when its record is gone (R12). */
async function finishedFindings(
  xapi: Connection,
  { instanceUuid, name, repeatReason }: TargetPlan,
): Promise<Finding[]> {
  const before = (await allRecords(xapi, 'VM')).find(
    ([, vm]) => vm.other_config[KEYS.finished] === instanceUuid && vm['is_a_snapshot'] === false,
  );
  if (!before) return [];
  return [
    {
      code: 'T8',
      severity: repeatReason ? 'warning' : 'error',
      object: name,
      observed: `It was migrated here before, as "${String(before[1]['name_label'])}" (${before[1].uuid}).`,
      expected: 'a VM that was not migrated before',
      remedy: 'if it is meant, start with --repeat "why".',
    },
  ];
}

/** A sample needs reads by range; without them more is read than was asked for, which takes time but gives up nothing. */
async function samplingFindings(xapi: Connection, { name, verify }: TargetPlan): Promise<Finding[]> {
  if (verify !== 'sampled' || (await offersNbd(xapi))) return [];
  return [
    {
      code: 'T11',
      severity: 'info',
      object: name,
      observed:
        'Read-backs were asked to be sampled, but the pool offers no NBD: every pass will be read back in full, and what changed in the outage is taken on the word of the pool until then.',
      expected: 'a network with the purpose `nbd`, and none with `insecure_nbd`',
      remedy:
        'nothing, or `xe network-param-add param-name=purpose param-key=nbd uuid=...` for the network that the transfer host uses.',
    },
  ];
}
