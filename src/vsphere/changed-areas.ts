import { failure } from '../shared/errors.js';
import type { Extent } from '../shared/types.js';
import { explained, isFault, snapshotRef, vmRef, type Context } from './operations.js';

export interface ChangedAreasInput {
  vmMoRef: string;
  /** May be left out only while the VM is off. */
  snapshotMoRef?: string;
  deviceKey: number;
  /** From the earlier snapshot, or `*` for everything allocated. */
  changeId: string;
  /** Capacity in the snapshot's config. */
  capacityBytes: number;
}

/** A range the server reports as changed, in bytes. */
export interface ChangedArea {
  start: number;
  length: number;
}

interface Page {
  startOffset: number;
  length: number;
  changedArea: ChangedArea[];
}

// What the server says when a position is of another epoch, tracking was off, or its map cannot be used.
const DOUBTFUL = ['FileFault', 'InvalidArgument', 'NotSupported', 'SystemError', 'CannotAccessFile'];

/**
 * Asks for all changed areas of one disk, page by page.
 *
 * An answer covers `[startOffset, startOffset + length)` and may report nothing changed in it: the end is where the
 * coverage reaches the capacity, never an empty page. Asking at the capacity itself would be a fault.
 *
 * @returns Everything that differs between `changeId` and the snapshot: sorted, disjoint, kind `data`, touching ones merged.
 * @throws ChangeTrackingReset when the position is not valid any more: the disk needs a full pass (R8).
 * @throws ChangedAreasInvalid when the answer contradicts itself or the disk.
 *
 * Source: vSphere Web Services API, VirtualMachine.QueryChangedDiskAreas.
 */
export async function queryChangedAreas({ session }: Context, input: ChangedAreasInput): Promise<Extent[]> {
  const { vmMoRef, snapshotMoRef, deviceKey, changeId, capacityBytes } = input;
  const disk = `disk ${deviceKey} of ${vmMoRef}`;
  const areas: ChangedArea[] = [];
  for (let startOffset = 0; startOffset < capacityBytes;) {
    const page = await explained(`Asking what changed on ${disk} failed.`, async () => {
      try {
        return await session.call<Page | undefined>('QueryChangedDiskAreas', vmRef(vmMoRef), {
          snapshot: snapshotMoRef === undefined ? undefined : snapshotRef(snapshotMoRef),
          deviceKey,
          startOffset,
          changeId,
        });
      } catch (error) {
        if (isFault(error, ...DOUBTFUL)) throw trackingReset(disk, changeId, `${error.type} ${error.message}`.trim());
        throw error;
      }
    });
    startOffset = coverageEnd(disk, startOffset, page);
    areas.push(...(page?.changedArea ?? []));
  }
  return extentsFromChangedAreas(areas, capacityBytes, disk);
}

function coverageEnd(disk: string, asked: number, page: Page | undefined): number {
  if (!page || page.startOffset !== asked || !(page.length > 0)) {
    const got = page ? `${page.length} bytes from ${page.startOffset}` : 'nothing';
    throw invalid(disk, `asked from byte ${asked}, the server answered about ${got}`);
  }
  return page.startOffset + page.length;
}

/**
 * Turns the areas the server reports as changed into the extents to copy.
 *
 * @param areas Byte ranges in any order; touching is fine, overlapping is not.
 * @returns Extents sorted by offset, disjoint, touching ones merged.
 * @throws ChangedAreasInvalid when two areas overlap, one is empty or unaligned, or ends past the disk.
 */
export function extentsFromChangedAreas(areas: ChangedArea[], capacityBytes: number, disk = 'the disk'): Extent[] {
  const extents: Extent[] = [];
  for (const { start, length } of [...areas].sort((a, b) => a.start - b.start)) {
    const range = `${start}+${length}`;
    if (!(length > 0) || start < 0 || start % 512 !== 0 || length % 512 !== 0) {
      throw invalid(disk, `the area ${range} is empty or not made of 512-byte sectors`);
    }
    if (start + length > capacityBytes) throw invalid(disk, `the area ${range} ends past the disk (${capacityBytes})`);
    const last = extents.at(-1);
    const end = last ? last.offset + last.length : 0;
    if (last && start < end) throw invalid(disk, `the areas ${last.offset}+${last.length} and ${range} overlap`);
    if (last && start === end) last.length += length;
    else extents.push({ offset: start, length, kind: 'data' });
  }
  return extents;
}

function invalid(disk: string, why: string): Error {
  return failure('ChangedAreasInvalid', {
    what: `The server's list of changes on ${disk} cannot be right.`,
    why: `It contradicts itself or the disk: ${why}.`,
    next: 'the disk is copied in full, or compared by hash.',
  });
}

function trackingReset(disk: string, changeId: string, reason: string): Error {
  return failure(
    'ChangeTrackingReset',
    {
      what: `What changed on ${disk} since ${changeId} is not known.`,
      why: `The server says ${reason}: tracking was reset, was not on yet, or its map is unusable.`,
      next: 'the disk is copied in full, or compared by hash.',
    },
    { changeId },
  );
}
