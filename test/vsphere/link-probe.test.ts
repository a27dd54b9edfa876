import { once } from 'node:events';
import net from 'node:net';
import { Transform } from 'node:stream';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { plainVm, startTestLab, type TestLab } from './lab.js';

const MIB = 2 ** 20;

let lab: TestLab;
beforeAll(async () => {
  lab = await startTestLab({ vms: [plainVm('web01')] });
});
afterAll(() => lab?.end());

/** A way to the lab's vCenter that carries so much to here and no more. */
async function narrowWay(bytesPerSecond: number) {
  const { hostname, port } = new URL(lab.url);
  const server = net.createServer((near) => {
    const far = net.connect(Number(port), hostname);
    let freeAt = 0;
    const slow = new Transform({
      transform(piece: Buffer, _encoding, done) {
        const now = performance.now();
        freeAt = Math.max(now, freeAt) + (1000 * piece.length) / bytesPerSecond;
        void sleep(freeAt - now).then(() => done(null, piece));
      },
    });
    near.pipe(far).pipe(slow).pipe(near);
    for (const socket of [near, far]) socket.on('error', () => (near.destroy(), far.destroy()));
  });
  await once(server.listen(0, '127.0.0.1'), 'listening');
  const { port: nearPort } = server.address() as net.AddressInfo;
  return { url: `https://127.0.0.1:${nearPort}/sdk`, close: () => server.close() };
}

describe('the probe of the network to a vCenter', () => {
  it('[S133] tells what it carries, without a login and without a byte of a datastore', async () => {
    await lab.admin.clearCalls();
    const way = await narrowWay(MIB);
    const rate = await lab.connect({ url: way.url, password: 'wrong' }).probeLink();
    way.close();
    // A busy machine carries less than the way could; nothing carries more.
    expect(rate).toBeGreaterThan(0);
    expect(rate).toBeLessThan(1.1 * MIB);
    expect(await lab.connect().probeLink()).toBeGreaterThan(2 * MIB);
    expect(await lab.admin.calls()).toEqual([]);
  });
});
