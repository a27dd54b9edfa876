import type { MapExtent } from './types.js';

/**
 * Bytes asked for in one BLOCK_STATUS. Near 4 GiB nbdkit clips an extent to 2^32-1 and the next offset is unaligned
 * (nbdkit 1.42.3, server/protocol.c); windows must be multiples of VDDK's 64 KiB.
 */
const WINDOW_BYTES = 3 * 1024 ** 3;
const WINDOWS_AHEAD = 16;
const FLAG_HOLE = 1;
const FLAG_ZERO = 2;

export interface MappedDisk {
  readonly sizeBytes: number;
  readonly hasMap: boolean;
  blockStatus(offset: number, length: number): Promise<number[]>;
}

/** Streams the map of a disk: 16 windows of 3 GiB in flight, nothing kept but the run being merged. */
export async function* mapExtents(disk: MappedDisk): AsyncGenerator<MapExtent> {
  const { sizeBytes } = disk;
  if (sizeBytes === 0) return;
  if (!disk.hasMap) {
    yield { offset: 0, length: sizeBytes, kind: 'data' };
    return;
  }
  const ahead: Promise<number[]>[] = [];
  let asked = 0;
  const ask = () => {
    while (ahead.length < WINDOWS_AHEAD && asked < sizeBytes) {
      const length = Math.min(WINDOW_BYTES, sizeBytes - asked);
      const window = wholeWindow(disk, asked, length);
      // It is awaited later; until then a failure must not count as unhandled.
      window.catch(() => undefined);
      ahead.push(window);
      asked += length;
    }
  };
  let run: MapExtent | undefined;
  let at = 0;
  ask();
  for (let window = ahead.shift(); window !== undefined; window = ahead.shift()) {
    const pairs = await window;
    ask();
    for (let i = 0; i < pairs.length; i += 2) {
      const length = pairs[i] ?? 0;
      const kind = kindOf(pairs[i + 1] ?? 0);
      if (run?.kind === kind) run.length += length;
      else {
        if (run !== undefined) yield run;
        run = { offset: at, length, kind };
      }
      at += length;
    }
  }
  if (run !== undefined) yield run;
}

function kindOf(flags: number): MapExtent['kind'] {
  if ((flags & FLAG_ZERO) !== 0) return 'zero';
  return (flags & FLAG_HOLE) !== 0 ? 'absent' : 'data';
}

/** A reply may end early (ask for the rest) and its last extent may reach past the window (cut it). */
async function wholeWindow(disk: MappedDisk, offset: number, length: number): Promise<number[]> {
  const pairs: number[] = [];
  while (length > 0) {
    const reply = await disk.blockStatus(offset, length);
    let covered = 0;
    for (let i = 0; i < reply.length && covered < length; i += 2) {
      const part = Math.min(reply[i] ?? 0, length - covered);
      pairs.push(part, reply[i + 1] ?? 0);
      covered += part;
    }
    if (covered === 0) throw new Error(`the NBD server gave an empty map at byte ${offset}`);
    offset += covered;
    length -= covered;
  }
  return pairs;
}
