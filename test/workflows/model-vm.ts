import { VimFault } from '../../src/vsphere/faults.js';

/** Unit of tracking and of a snapshot's own file, as in the lab. */
export const GRAIN = 64 * 1024;

interface Frozen {
  moRef: string;
  parentMoRef?: string;
  content: Buffer;
  /** Grains that the snapshot's own file holds. */
  link: Set<number>;
  changeId?: string;
  epoch: number;
  counter: number;
  stamps: Map<number, number>;
}

/** How one answer of QueryChangedDiskAreas is cut, in which order, and whether it contradicts itself. */
export interface Paging {
  span: number;
  areas: number;
  reversed: boolean;
  overlapping: boolean;
}

/**
 * One disk of a VM in vSphere, as far as deltas see it: what it holds, a chain of snapshots, change tracking with epochs.
 * A model beside the lab, so that thousands of histories can be gone through.
 */
export class ModelVm {
  readonly content: Buffer;
  snapshots: Frozen[] = [];
  paging: Paging = { span: Number.MAX_SAFE_INTEGER, areas: 2000, reversed: false, overlapping: false };
  #link = new Set<number>();
  #taken = 0;
  #epoch: number;
  #epochs = 1;
  #counter = 1;
  #stamps = new Map<number, number>();

  constructor(sizeBytes: number, tracked: boolean) {
    this.content = Buffer.alloc(sizeBytes);
    this.#epoch = tracked ? 1 : 0;
  }

  write(offset: number, length: number, value: number): void {
    const end = Math.min(offset + length, this.content.length);
    this.content.fill(value, offset, end);
    for (let grain = Math.floor(offset / GRAIN); grain * GRAIN < end; grain++) {
      this.#link.add(grain);
      if (this.#epoch > 0) this.#stamps.set(grain, this.#counter);
    }
  }

  take(): Frozen {
    const frozen = {
      moRef: `snapshot-${++this.#taken}`,
      parentMoRef: this.snapshots.at(-1)?.moRef,
      content: Buffer.from(this.content),
      link: this.#link,
      ...(this.#epoch > 0 && { changeId: `${this.#epoch}/${this.#counter}` }),
      epoch: this.#epoch,
      counter: this.#counter,
      stamps: new Map(this.#stamps),
    };
    this.#counter += 1;
    this.#link = new Set();
    this.snapshots.push(frozen);
    return frozen;
  }

  /** The file above takes in what the removed one holds. */
  remove(moRef: string): void {
    const index = this.snapshots.findIndex((snapshot) => snapshot.moRef === moRef);
    const gone = this.snapshots[index];
    if (gone === undefined) return;
    const above = this.snapshots[index + 1];
    for (const grain of gone.link) (above?.link ?? this.#link).add(grain);
    if (above) above.parentMoRef = gone.parentMoRef;
    this.snapshots.splice(index, 1);
  }

  /** Somebody reverts to the newest snapshot: what was written since is gone, and with it the epoch. */
  revert(): void {
    const newest = this.snapshots.at(-1);
    if (newest === undefined) return;
    newest.content.copy(this.content);
    this.#link = new Set();
    if (this.#epoch > 0) this.#newEpoch();
  }

  /** Somebody switches tracking off or on, or something ends its epoch. */
  track(on: boolean): void {
    if (on) this.#newEpoch();
    else this.#epoch = 0;
  }

  #newEpoch(): void {
    this.#epoch = ++this.#epochs;
    this.#counter = 1;
    this.#stamps = new Map();
  }

  /** `Session.call` as far as QueryChangedDiskAreas needs it. */
  query(snapshotMoRef: string, changeId: string, startOffset: number) {
    const frozen = this.snapshots.find(({ moRef }) => moRef === snapshotMoRef);
    if (!frozen) throw new VimFault('ManagedObjectNotFound', snapshotMoRef);
    if (frozen.epoch === 0) throw new VimFault('FileFault', 'no tracking');
    const [epoch, since] = changeId.split('/').map(Number);
    if (changeId === '*' || epoch !== frozen.epoch || Number(since) > frozen.counter)
      throw new VimFault('InvalidArgument', 'changeId');
    const capacity = this.content.length;
    if (startOffset >= capacity) throw new VimFault('InvalidArgument', 'startOffset');
    const grains = [...frozen.stamps].filter(([, stamp]) => stamp > Number(since)).map(([grain]) => grain);
    const { span, areas, reversed, overlapping } = this.paging;
    let end = Math.min(capacity, startOffset + span);
    const changedArea: { start: number; length: number }[] = [];
    for (const grain of grains.sort((a, b) => a - b)) {
      const start = Math.max(grain * GRAIN, startOffset);
      const stop = Math.min((grain + 1) * GRAIN, end);
      if (start >= stop) continue;
      if (changedArea.length === areas) {
        end = start;
        break;
      }
      changedArea.push({ start, length: stop - start });
    }
    const first = changedArea[0];
    if (overlapping && first) changedArea.push({ ...first });
    if (reversed) changedArea.reverse();
    return { startOffset, length: end - startOffset, changedArea };
  }
}
