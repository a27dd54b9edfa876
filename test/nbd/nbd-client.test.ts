import { createServer } from 'node:net';
import { readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { execa } from 'execa';
import { describe, expect, it } from 'vitest';
import { NbdClient } from '../../src/nbd/index.js';
import type { MapExtent } from '../../src/nbd/index.js';
import { HEADROOM_BYTES } from '../../src/shared/blocks.js';
import { failureTypeOf } from '../../src/shared/errors.js';
import { onCleanup, pattern, rawDisk, serve, tempDir } from './nbdkit.js';

const MiB = 1024 * 1024;
const GiB = 1024 * MiB;

async function connect(socketPath: string, timeouts = {}): Promise<NbdClient> {
  const client = await NbdClient.connect({ socketPath, timeouts });
  onCleanup(() => client.close());
  return client;
}

async function mapOf(client: NbdClient): Promise<MapExtent[]> {
  const map: MapExtent[] = [];
  for await (const extent of client.mapExtents()) map.push(extent);
  return map;
}

async function readBytes(client: NbdClient, offset: number, length: number): Promise<Buffer> {
  const buffer = Buffer.alloc(HEADROOM_BYTES + length);
  await client.read(offset, length, buffer);
  return buffer.subarray(HEADROOM_BYTES);
}

describe('NbdClient', () => {
  it('reads many blocks of many sizes at once, each into its own buffer', async () => {
    const bytes = pattern(9 * MiB + 512);
    const client = await connect((await serve(['file', await rawDisk(bytes.length, [[0, bytes]])])).socketPath);
    expect(client.sizeBytes).toBe(bytes.length);
    const wanted: [number, number][] = [];
    for (let at = 0, n = 1; at < bytes.length; n++) {
      const length = Math.min(512 * ((n * 977) % 2048) + 512, bytes.length - at);
      wanted.push([at, length]);
      at += length;
    }
    const read = await Promise.all(wanted.map(([offset, length]) => readBytes(client, offset, length)));
    expect(Buffer.concat(read).equals(bytes)).toBe(true);
  });

  it('maps a disk of 4 TiB in windows, merged, without gaps', async () => {
    const size = 4096 * GiB;
    const data = pattern(3 * MiB);
    // The second run lies across the border of two windows of 1 GiB.
    const path = await rawDisk(size, [
      [0, data],
      [5 * GiB - MiB, data],
      [size - 3 * MiB, data],
    ]);
    const map = await mapOf(await connect((await serve(['file', path])).socketPath));
    expect(map).toEqual([
      { offset: 0, length: 3 * MiB, kind: 'data' },
      { offset: 3 * MiB, length: 5 * GiB - 4 * MiB, kind: 'zero' },
      { offset: 5 * GiB - MiB, length: 3 * MiB, kind: 'data' },
      { offset: 5 * GiB + 2 * MiB, length: size - 5 * GiB - 5 * MiB, kind: 'zero' },
      { offset: size - 3 * MiB, length: 3 * MiB, kind: 'data' },
    ]);
  });

  it('calls the whole disk data when the server has no map', async () => {
    const nbdkit = await serve(['memory', '8M'], { filters: ['noextents'] });
    expect(await mapOf(await connect(nbdkit.socketPath))).toEqual([{ offset: 0, length: 8 * MiB, kind: 'data' }]);
  });

  it('counts the connection as lost after EIO, and a new connection reads on', async () => {
    const dir = await tempDir();
    const trigger = join(dir, 'fail');
    await writeFile(trigger, '');
    const nbdkit = await serve(['memory', '8M'], {
      filters: ['error'],
      extraArgs: ['error-pread=EIO', 'error-pread-rate=100%', `error-file=${trigger}`],
    });
    const client = await connect(nbdkit.socketPath);
    const failed = await Promise.allSettled([readBytes(client, 0, MiB), readBytes(client, MiB, MiB)]);
    expect(failed.map((result) => result.status === 'rejected' && failureTypeOf(result.reason))).toEqual([
      'NbdConnectionLost',
      'NbdConnectionLost',
    ]);
    await expect(readBytes(client, 0, 512)).rejects.toThrow('EIO');
    expect(client.lost).toBe(true);
    await client.close();
    await rm(trigger);
    expect((await readBytes(await connect(nbdkit.socketPath), 0, MiB)).every((byte) => byte === 0)).toBe(true);
    // nbdkit 1.32 aborts when a client leaves with reads in flight; ours had been drained.
    expect(nbdkit.exited()).toBeUndefined();
  });

  it('gives up a connection that makes no progress in time', async () => {
    const nbdkit = await serve(['memory', '8M'], { filters: ['delay'], extraArgs: ['delay-read=20'] });
    const client = await connect(nbdkit.socketPath, { requestMs: 200 });
    await expect(readBytes(client, 0, 512)).rejects.toThrow('No progress for 200 ms');
  });

  it('waits longer than the timeout as long as the connection makes progress', async () => {
    const nbdkit = await serve(['memory', '8M'], { filters: ['delay'], extraArgs: ['delay-read=500ms'], threads: 1 });
    const client = await connect(nbdkit.socketPath, { requestMs: 3_000 });
    const startedAt = performance.now();
    await Promise.all(Array.from({ length: 8 }, (_, i) => readBytes(client, i * 512, 512)));
    expect(performance.now() - startedAt).toBeGreaterThan(3_000);
  });

  it('rejects what is in flight when the server dies', async () => {
    const nbdkit = await serve(['memory', '8M'], { filters: ['delay'], extraArgs: ['delay-read=20'] });
    const client = await connect(nbdkit.socketPath);
    const reading = readBytes(client, 0, 512);
    process.kill(nbdkit.pid, 'SIGKILL');
    await expect(reading).rejects.toThrow('Lost the NBD connection');
  });

  it('accepts replies in several parts and holes', async () => {
    // qemu's server answers a read of a sparse file in parts; nbdkit never does.
    const data = pattern(MiB);
    const path = await rawDisk(4 * MiB, [[MiB, data]]);
    const socketPath = join(await tempDir(), 's');
    const server = execa('qemu-nbd', ['-r', '-t', '-f', 'raw', '-k', socketPath, path], { reject: false });
    onCleanup(async () => (server.kill('SIGTERM'), server));
    let client: NbdClient | undefined;
    await expect.poll(async () => (client = await connect(socketPath)).sizeBytes).toBe(4 * MiB);
    const read = await readBytes(client as NbdClient, 0, 4 * MiB);
    expect(read.equals(Buffer.concat([Buffer.alloc(MiB), data, Buffer.alloc(2 * MiB)]))).toBe(true);
    expect((await readFile(path)).equals(read)).toBe(true);
  });

  it('refuses a server that is none', async () => {
    const socketPath = join(await tempDir(), 's');
    const server = createServer((socket) =>
      socket.on('error', () => undefined).end('SSH-2.0-OpenSSH_9.2 and more of it\r\n'),
    );
    await new Promise<void>((resolve) => server.listen(socketPath, resolve));
    onCleanup(() => new Promise((resolve) => server.close(resolve)));
    await expect(NbdClient.connect({ socketPath })).rejects.toThrow('not a fixed-newstyle NBD server');
  });
});
