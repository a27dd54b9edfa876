import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { cachePath } from '../../lab/cache.js';
import { makeChain } from '../../lab/vddk/chain.js';
import { makeVddkLibdir, readVddkCalls } from '../../lab/vddk/libdir.js';
import { connectDisk, openVddk } from '../../src/nbd/index.js';
import { copyPass, planFromMap } from '../../src/transfer/index.js';
import { MemoryTarget, MemoryStore } from '../transfer/harness.js';
import { onCleanup, pattern, tempDir } from './nbdkit.js';

const MIB = 2 ** 20;
const BYTES = 24 * MIB;

/** Copies the same disk as it lies under so many snapshots, through the real vddk plugin. */
async function copied(content: Buffer, snapshots: number) {
  const home = await tempDir();
  const root = join(home, 'root');
  const source = join(home, 'source.raw');
  await writeFile(source, content);
  await mkdir(join(root, 'ds/vm'), { recursive: true });
  await mkdir(join(root, '@vms'), { recursive: true });
  const place = { root, datastore: 'ds', vm: 'vm', name: 'vm', snapshot: 'snap' };
  const names = await makeChain(source, snapshots + 1, place);
  await writeFile(join(root, '@vms/vm-1'), `${names.join('\n')}\n`);
  const access = { server: '127.0.0.1', port: 443, username: 'u', password: 'p', thumbprintSha1: 'AA' };
  const libdir = await makeVddkLibdir({ dir: join(home, 'vddk'), root, ...access });
  const disk = await openVddk({
    ...{ ...access, libdir, runDir: join(home, 'run'), nbdkitCommand: cachePath('nbdkit-vddk', 'bin', 'nbdkit') },
    ...{ vmMoRef: 'vm-1', snapshotMoRef: 'snap', fileName: names[0] ?? '' },
    ...{ transports: ['nbdssl'], compression: 'none' },
  });
  onCleanup(() => disk.stop());
  const openReader = () => connectDisk(disk, { subject: 'vm' });
  const client = await openReader();
  const plan = await planFromMap('base', client.sizeBytes, client.mapExtents());
  await client.close();
  const target = new MemoryTarget(Buffer.alloc(BYTES));
  await copyPass({
    ...{ plan, openReader, pass: 'base', snapshot: 'snap', sink: target, checkpoints: new MemoryStore() },
    signal: new AbortController().signal,
  });
  await disk.stop();
  const closed = (await readVddkCalls(libdir)).filter(({ call }) => call === 'Close');
  const read = closed.reduce((sum, one) => sum + Number(one['bytes']), 0);
  return { read, plan: plan.planDigest, equal: target.content.equals(content) };
}

it('[S7] reads the same bytes of a disk under ten snapshots as under one', async () => {
  const content = pattern(BYTES);
  const [one, ten] = [await copied(content, 1), await copied(content, 10)];
  expect(one).toMatchObject({ read: BYTES, equal: true });
  expect(ten).toEqual(one);
});
