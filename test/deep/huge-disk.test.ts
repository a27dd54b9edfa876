import { open, stat } from 'node:fs/promises';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { seededBytes } from '../../lab/disks/random.js';
import { checkpointsOn, sinkFor } from '../../src/activities/target-disk.js';
import { connectExport, NbdClient } from '../../src/nbd/index.js';
import { copyPass, planFromMap, verifyRanges } from '../../src/transfer/index.js';
import { rawDisk, serve } from '../nbd/nbdkit.js';
import { EXTERNAL, GIB, MIB, startTestPool, uuidOfSr, type TestPool } from '../xapi/lab.js';

const SIZE = 8 * 1024 * GIB + 512;
const PIECES = 256;
/** Of 8 TiB between them, what a sample reads: 100 MiB. */
const SHARE = 100 / (8 * 1024 * 1024);

let pool: TestPool;
beforeAll(async () => void (pool = await startTestPool()));
afterAll(() => pool?.end());

/** Pieces of 1 MiB from the first sector to the last, most of them where 32 bits of sectors do not reach. */
const pieces = Array.from({ length: PIECES }, (_, index): [offset: number, bytes: Buffer] => {
  const offset = index === PIECES - 1 ? SIZE - MIB : Math.floor((SIZE / PIECES / 4096) * index) * 4096;
  return [offset, seededBytes(`piece ${index}`, MIB)];
});

it('[S9] a disk of 8 TiB with 256 MiB of data arrives whole, in little memory, and is read back by range', async () => {
  const source = await rawDisk(SIZE, pieces);
  const [network] = await pool.raw.call<string[]>('network.get_by_name_label', EXTERNAL);
  await pool.raw.call('network.add_purpose', network, 'nbd');
  const ref = await pool.raw.call<string>('VDI.create', {
    ...{ name_label: 'huge', SR: await pool.raw.call('SR.get_by_uuid', await uuidOfSr(pool, 'Local thin')) },
    ...{ virtual_size: SIZE, type: 'user', sharable: false, read_only: false, sm_config: {}, other_config: {} },
  });
  const vdiUuid = await pool.raw.call<string>('VDI.get_uuid', ref);
  const targetSizeBytes = Number(await pool.raw.call('VDI.get_virtual_size', ref));
  expect(targetSizeBytes).toBeGreaterThan(SIZE);

  const restBytes = process.memoryUsage.rss();
  let peakBytes = restBytes;
  const watch = setInterval(() => (peakBytes = Math.max(peakBytes, process.memoryUsage.rss())), 50);
  try {
    const { socketPath } = await serve(['file', source]);
    const openReader = () => NbdClient.connect({ socketPath });
    const mapped = await openReader();
    const plan = await planFromMap('base', SIZE, mapped.mapExtents());
    await mapped.close();
    // The last piece begins within a sector of 4096 bytes, so it grows to the left.
    expect(plan.plannedBytes - PIECES * MIB).toBeLessThan(4096);

    const xapi = pool.connect();
    await xapi.acquireWriter(vdiUuid, 'huge');
    const { chainDigest, bytesSent } = await copyPass({
      ...{ plan, openReader, pass: 'base', snapshot: 's', signal: new AbortController().signal },
      sink: sinkFor(xapi, { vdiUuid, name: 'huge', writerId: 'huge', migrationId: 'huge' }),
      checkpoints: checkpointsOn(xapi, vdiUuid, 'huge'),
      segmentBytes: 64 * MIB,
    });
    await xapi.releaseWriter(vdiUuid, 'huge');
    expect(bytesSent).toBe(plan.plannedBytes);

    const path = (await pool.admin.vdis())[vdiUuid]?.path ?? '';
    // Every piece at its place, and no room taken by anything else: what a file does not hold is zero.
    const target = await open(path, 'r+');
    const found = Buffer.alloc(MIB);
    for (const [offset, bytes] of pieces) {
      await target.read(found, 0, MIB, offset);
      expect(found.equals(bytes), `the piece at ${offset}`).toBe(true);
    }
    expect((await stat(path)).blocks * 512).toBeLessThan((PIECES + 1) * MIB);

    const [server] = await xapi.nbdServers(vdiUuid);
    if (server === undefined) throw new Error('the pool offers no NBD');
    const readBack = () =>
      verifyRanges({
        ...{ plan, chainDigest, targetSizeBytes, share: SHARE, seed: 1, openReader },
        openTarget: () => connectExport(server, { subject: 'the huge disk' }),
      });
    const verdict = await readBack();
    expect(verdict.bytesChecked).toBeGreaterThan((PIECES + 99) * MIB);
    expect(verdict.bytesChecked, 'of 8 TiB').toBeLessThan((PIECES + 200) * MIB);
    expect(verdict.share).toBeCloseTo(SHARE, 8);

    const [at] = pieces[200] as [number, Buffer];
    await target.write(Buffer.of(((pieces[200]?.[1][4000] ?? 0) ^ 1) & 0xff), 0, 1, at + 4000);
    await expect(readBack()).rejects.toThrow(`byte ${at + 4000} is not what the source holds`);
    await target.close();
  } finally {
    clearInterval(watch);
  }
  expect(peakBytes - restBytes).toBeLessThan(200 * MIB);
});
