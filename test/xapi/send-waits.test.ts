import { chmod, readFile, writeFile } from 'node:fs/promises';
import net, { type AddressInfo, type Socket } from 'node:net';
import { networkInterfaces } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, it, vi } from 'vitest';
import { SendWaits } from '../../src/xapi/upload/send-waits.js';
import { onCleanup, tempDir } from '../nbd/nbdkit.js';

const path = process.env['PATH'] ?? '';
const hasIpv6 = Object.values(networkInterfaces()).some((all) => all?.some(({ address }) => address === '::1'));
let calls: string;

/** The real `ss`, with a record of how it was called. */
beforeEach(async () => {
  const dir = await tempDir();
  calls = join(dir, 'calls');
  await writeFile(join(dir, 'ss'), `#!/bin/sh\necho "$*" >> ${calls}\nPATH=${path}:/usr/sbin:/sbin exec ss "$@"\n`);
  await chmod(join(dir, 'ss'), 0o755);
  vi.stubEnv('PATH', `${dir}:${path}`);
  vi.useFakeTimers({ toFake: ['setInterval', 'clearInterval'] });
});
afterEach(() => {
  vi.useRealTimers();
  vi.unstubAllEnvs();
});

const looks = async () => (await readFile(calls, 'utf8').catch(() => '')).split('\n').filter(Boolean);

/** Connections to someone who accepts and takes nothing, so that the window fills. */
async function stuck(host: string, count: number): Promise<Socket[]> {
  const server = net.createServer((socket) => socket.pause());
  const accepted: Socket[] = [];
  server.on('connection', (socket: Socket) => accepted.push(socket.on('error', () => undefined)));
  await new Promise<void>((resolve) => server.listen(0, host, resolve));
  const { port } = server.address() as AddressInfo;
  const sockets = await Promise.all(
    Array.from({ length: count }, async () => {
      const socket = net.connect(port, host);
      await new Promise((resolve) => socket.once('connect', resolve));
      return socket;
    }),
  );
  onCleanup(async () => {
    for (const socket of [...sockets, ...accepted]) socket.destroy();
    await new Promise((resolve) => server.close(resolve));
  });
  return sockets;
}

it('looks at all that send with one call of ss, tells each its own, and makes none while nobody sends', async () => {
  const sockets = [...(await stuck('127.0.0.1', 3)), ...(hasIpv6 ? await stuck('::1', 1) : [])];
  const [silent, ...senders] = sockets;
  const waits = sockets.map((socket) => new SendWaits(socket));
  for (const socket of senders) socket.write(Buffer.alloc(16 * 1024 * 1024));
  expect(vi.getTimerCount()).toBe(1);

  let ticks = 0;
  do {
    await vi.advanceTimersByTimeAsync(2_000);
    // The one that the tick began.
    await waits[0]?.look();
    expect(await looks()).toHaveLength(++ticks);
  } while (waits.slice(1).some(({ linkShare }) => linkShare === undefined));
  // The receiver is waited for, most of the time.
  for (const { linkShare } of waits.slice(1)) expect(linkShare).toBeLessThan(0.5);
  expect(waits[0]?.linkShare).toBeUndefined();
  const [said] = await looks();
  for (const { localPort } of [silent, ...senders] as Socket[]) expect(said).toContain(`sport = :${localPort} `);

  const before = (await looks()).length;
  await Promise.all(waits.map((one) => one.look()));
  expect(await looks()).toHaveLength(before + 1);

  for (const one of waits) one.stop();
  expect(vi.getTimerCount()).toBe(0);
});
