import { readFile } from 'node:fs/promises';
import type { AddressInfo, Socket } from 'node:net';
import tls, { type TLSSocket } from 'node:tls';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { NbdClient } from '../../src/nbd/index.js';
import { HEADROOM_BYTES } from '../../src/shared/blocks.js';
import { failureTypeOf } from '../../src/shared/errors.js';
import { fetchCertificate } from '../../src/shared/pinned-tls.js';
import { copyPass, planFromAreas, planWholeDisk, verifyBase, type CopyPassOptions } from '../../src/transfer/index.js';
import { exportRaw, openSegmentPut, type AskTask, type VdiTransferOptions } from '../../src/xapi/upload/index.js';
import { TestPool } from '../lab/xcpng-client.js';
import { onCleanup, pattern, rawDisk, serve } from '../nbd/nbdkit.js';
import { testCertificate } from '../nbd/tls-server.js';
import { MemoryStore } from '../transfer/harness.js';

const MiB = 1024 * 1024;
/** Odd size, holes, zeroes that are allocated. */
const SIZE = 11 * MiB + 512;
const WRITES: [number, Buffer][] = [
  [0, pattern(3 * MiB, 1)],
  [4 * MiB, Buffer.alloc(2 * MiB)],
  [7 * MiB + 4096, pattern(MiB, 2)],
  [SIZE - 512, pattern(512, 3)],
];

let pool: TestPool;
let ca: string;
beforeAll(async () => {
  pool = await TestPool.start();
  ca = (await fetchCertificate(pool.server.address.url)).pem;
});
afterAll(() => pool.stop());

const askPool =
  (task: string): AskTask =>
  async () => {
    const { status, error_info: errorInfo } = await pool.taskEnd(task);
    return status === 'success' ? { status } : { status: 'failure', errorInfo };
  };

/** Everything for one transfer of that VDI, with a task of its own. */
async function transfer(vdiRef: string): Promise<VdiTransferOptions> {
  const taskRef = await pool.call('task.create', 'test', '');
  return {
    host: { url: pool.server.address.url, tls: { ca } },
    ...{ sessionId: pool.session, taskRef, vdiRef, vdiName: 'web01 disk 0', taskOutcome: askPool(taskRef) },
  };
}

async function* exported(vdiRef: string, sizeBytes: number): AsyncGenerator<Buffer> {
  yield* exportRaw({ ...(await transfer(vdiRef)), sizeBytes });
}

/** A pass from a file behind the real nbdkit into a new VDI. */
async function pass(vdiRef: string, changes: Partial<CopyPassOptions> = {}): Promise<CopyPassOptions> {
  const nbdkit = await serve(['file', await rawDisk(SIZE, WRITES)]);
  return {
    ...{ plan: await planWholeDisk('base', SIZE), pass: 'base', snapshot: 's', checkpoints: new MemoryStore() },
    openReader: () => NbdClient.connect({ socketPath: nbdkit.socketPath }),
    sink: { open: async (_segment, signal) => openSegmentPut({ ...(await transfer(vdiRef)), signal }) },
    signal: new AbortController().signal,
    segmentBytes: 4 * MiB,
    ...changes,
  };
}

async function expectEqualToSource(vdiRef: string): Promise<void> {
  const source = await readFile(await rawDisk(SIZE, WRITES));
  const target = await readFile(await pool.fileOf(vdiRef));
  expect(target.subarray(0, SIZE).equals(source)).toBe(true);
  expect(target.subarray(SIZE).every((byte) => byte === 0)).toBe(true);
}

async function failureOf(promise: Promise<unknown>): Promise<{ type?: string; message: string }> {
  return promise.then(
    () => expect.fail('it succeeded'),
    (error: Error) => ({ type: failureTypeOf(error), message: error.message }),
  );
}

describe('a pass from nbdkit into the pool', () => {
  it('[S115] arrives byte for byte, and the read-back proves it', async () => {
    const vdi = await pool.createVdi(SIZE);
    const sizeBytes = Number(await pool.call('VDI.get_virtual_size', vdi));
    const options = await pass(vdi);
    const { chainDigest, bytesSent } = await copyPass(options);
    await expectEqualToSource(vdi);
    expect(bytesSent).toBeLessThan(5 * MiB);
    const readBack = () => exported(vdi, sizeBytes);
    const { plan, openReader } = options;
    expect(sizeBytes).toBeGreaterThan(SIZE);
    expect((await verifyBase({ plan, chainDigest, targetSizeBytes: sizeBytes, readBack })).bytesChecked).toBe(
      sizeBytes,
    );

    pool.server.pool.faults.arm({ kind: 'corruptExport', offset: MiB + 3, times: 2 });
    const mismatch = await verifyBase({ plan, chainDigest, targetSizeBytes: sizeBytes, readBack, openReader }).catch(
      (error: unknown) => error,
    );
    expect(mismatch).toMatchObject({ type: 'VerificationMismatch', details: [{ offset: MiB + 3 }] });
  });

  it.each([
    ['a closed connection', { kind: 'cut', afterBytes: 2 * MiB + 300_000, mode: 'fin' } as const],
    ['a reset', { kind: 'cut', afterBytes: 2 * MiB + 700_000, mode: 'rst' } as const],
    ['a full storage repository', { kind: 'enospc', offset: 2 * MiB + 512 } as const],
  ])('resumes after %s with the whole segment, and the disks are equal', async (_what, fault) => {
    const vdi = await pool.createVdi(SIZE);
    const options = await pass(vdi);
    pool.server.pool.faults.arm(fault);
    const failure = await failureOf(copyPass(options));
    expect(failure.type).toBe('ImportFailed');
    expect(failure.message).toContain('XCP-ng gave up the import into web01 disk 0: VDI_IO_ERROR Device I/O errors.');
    expect(await options.checkpoints.load()).toMatchObject({ done: 0, attempt: { from: 0, to: 4 * MiB } });
    await copyPass(options);
    await expectEqualToSource(vdi);
    const uuid = await pool.call('VDI.get_uuid', vdi);
    const puts = pool.server.pool.imports.records.filter((record) => record.vdiUuid === uuid);
    expect(puts[1]?.chunks).toEqual([
      { offset: 0, length: 2 * MiB },
      { offset: 2 * MiB, length: 2 * MiB },
    ]);
  });

  it('[S14] pauses with an end marker, and the task is a success', async () => {
    const vdi = await pool.createVdi(SIZE);
    const pause = new AbortController();
    pool.server.pool.faults.arm({ kind: 'slow', writeMs: 200 });
    const options = await pass(vdi, { signal: pause.signal, segmentBytes: SIZE });
    const copying = failureOf(
      copyPass({ ...options, onProgress: ({ bytesDone }) => bytesDone > 0 && pause.abort(new Error('paused')) }),
    );
    expect((await copying).message).toBe('paused');
    const uuid = await pool.call('VDI.get_uuid', vdi);
    const put = pool.server.pool.imports.records.find((record) => record.vdiUuid === uuid);
    expect(put?.outcome).toBe('success');
    const checkpoint = await options.checkpoints.load();
    expect(checkpoint?.attempt).toBeUndefined();
    expect(checkpoint?.done).toBeGreaterThan(0);
    expect(checkpoint?.done).toBeLessThan(SIZE);
    await copyPass({ ...options, signal: new AbortController().signal });
    await expectEqualToSource(vdi);
  });

  it('writes only the changed ranges of a delta', async () => {
    const vdi = await pool.createVdi(SIZE);
    const options = await pass(vdi);
    await copyPass(options);
    const changed = pattern(64 * 1024, 9);
    WRITES.push([5 * MiB, changed]);
    onCleanup(async () => void WRITES.pop());
    const areas = [{ offset: 5 * MiB, length: changed.length }];
    const { bytesSent } = await copyPass(
      await pass(vdi, {
        pass: 'delta-1',
        plan: await planFromAreas('delta', SIZE, areas),
        checkpoints: options.checkpoints,
      }),
    );
    expect(bytesSent).toBe(changed.length);
    await expectEqualToSource(vdi);
  });
});

describe('openSegmentPut', () => {
  const payload = (length = 4096) => Buffer.alloc(HEADROOM_BYTES + length, 7).subarray(HEADROOM_BYTES);

  it('follows the redirect to the host that sees the storage, with the certificate of that host', async () => {
    const { url, slaveUrl } = pool.server.address;
    const slave = { url: slaveUrl, tls: { ca: (await fetchCertificate(slaveUrl)).pem } };
    const vdi = await pool.createVdi(8 * MiB, { SR: await pool.named('SR', 'Local thick') });
    const asked: string[] = [];
    const tlsForHost = async (address: string) => (asked.push(address), { ca });
    const put = await openSegmentPut({ ...(await transfer(vdi)), host: slave, tlsForHost });
    await put.write(MiB, payload());
    await put.finish();
    expect(asked).toEqual([new URL(url).hostname]);
    expect((await readFile(await pool.fileOf(vdi))).subarray(MiB, MiB + 4096).equals(payload())).toBe(true);

    const alone = await failureOf(openSegmentPut({ ...(await transfer(vdi)), host: slave }));
    expect(alone).toMatchObject({ type: 'ImportFailed' });
  });

  it('says that the session has expired, and that nobody listens', async () => {
    const options = await transfer(await pool.createVdi(MiB));
    expect((await failureOf(openSegmentPut({ ...options, sessionId: 'OpaqueRef:none' }))).message).toContain('(401)');
    const nobody = { ...options.host, url: 'https://127.0.0.1:1' };
    expect((await failureOf(openSegmentPut({ ...options, host: nobody }))).type).toBe('ConnectionFailed');
  });

  it('doubts an import whose task has vanished', async () => {
    const vdi = await pool.createVdi(MiB);
    pool.server.pool.faults.arm({ kind: 'vanishTask' });
    const options = await transfer(vdi);
    const put = await openSegmentPut({
      ...options,
      taskOutcome: () => options.taskOutcome().catch(() => ({ status: 'unknown', reason: 'The task is gone' })),
    });
    await put.write(0, payload());
    const failure = await failureOf(put.finish());
    expect(failure.type).toBe('ImportDoubtful');
    expect(failure.message).toContain('The task is gone');
  });

  it('gives up a host that reads no more', async () => {
    const vdi = await pool.createVdi(64 * MiB);
    pool.server.pool.faults.arm({ kind: 'stall', afterBytes: 100, seconds: 2 });
    const put = await openSegmentPut({ ...(await transfer(vdi)), idleTimeoutMs: 300 });
    const writing = (async () => {
      for (let at = 0; at < 64 * MiB; at += 2 * MiB) await put.write(at, payload(2 * MiB));
      await put.finish();
    })();
    expect((await failureOf(writing)).message).toContain('no progress for 300 ms');
  });

  it('ends the opening, and only the opening, by its signal', async () => {
    const options = await transfer(await pool.createVdi(MiB));
    const signal = AbortSignal.abort(new Error('paused'));
    expect((await failureOf(openSegmentPut({ ...options, signal }))).message).toBe('paused');
    const later = new AbortController();
    const put = await openSegmentPut({ ...options, signal: later.signal });
    later.abort(new Error('paused'));
    await put.write(0, payload());
    await put.finish();
  });
});

describe('openSegmentPut with a receiver that misbehaves', () => {
  /** Opens a PUT to a TLS server that answers 200 and then does what the test says; the task always says success. */
  const OK = 'HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n';
  async function put(behave: (socket: TLSSocket, tcp: Socket) => void, answer = OK, pinned?: string) {
    const { key, cert } = await testCertificate('xcp.example');
    let tcp: Socket;
    const server = tls.createServer({ key, cert }, (socket) => {
      socket.on('error', () => undefined);
      socket.once('data', () => {
        socket.write(answer);
        behave(socket, tcp);
      });
    });
    server.on('connection', (socket: Socket) => (tcp = socket));
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    onCleanup(() => new Promise((resolve) => server.close(resolve)));
    return openSegmentPut({
      host: { url: `https://127.0.0.1:${(server.address() as AddressInfo).port}`, tls: { ca: pinned ?? cert } },
      ...{
        sessionId: 's',
        taskRef: 't',
        vdiRef: 'v',
        taskOutcome: () => Promise.resolve({ status: 'success' as const }),
      },
    });
  }
  const send = async (opened: ReturnType<typeof put>) => {
    const writer = await opened;
    await writer.write(0, Buffer.alloc(HEADROOM_BYTES + 512).subarray(HEADROOM_BYTES));
    await writer.finish();
  };

  it('believes the end marker, the empty body and the task together', async () => {
    let body = Buffer.alloc(0);
    await send(
      put((socket) =>
        socket.on('data', (data) => {
          body = Buffer.concat([body, data]);
          if (body.length === 12 + 512 + 12) socket.end();
        }),
      ),
    );
    expect(body.subarray(0, 12).toString('hex')).toBe('000000000000000000020000');
    expect(body.subarray(12 + 512).equals(Buffer.alloc(12))).toBe(true);
  });

  it.each<[string, (socket: TLSSocket, tcp: Socket) => void]>([
    ['a body', (socket) => socket.once('data', () => socket.end('HTTP/1.1 500 Internal Error\r\n\r\n'))],
    ['a body that comes with the head', (socket) => void socket.end('HTTP/1.1 400 Bad Request\r\n\r\n')],
    ['an end before our end marker', (socket) => void socket.end()],
    ['a reset', (socket, tcp) => socket.once('data', () => tcp.resetAndDestroy())],
  ])('doubts success when there is %s', async (_what, behave) => {
    expect((await failureOf(send(put(behave)))).type).toBe('ImportDoubtful');
  });

  it('sends nothing to a host with another certificate', async () => {
    let heard = false;
    const failure = await failureOf(put(() => (heard = true), OK, (await testCertificate()).cert));
    expect(failure.type).toBe('CertificateChanged');
    expect(heard).toBe(false);
  });

  it('refuses an answer that is none', async () => {
    const failure = await failureOf(put(() => undefined, 'SSH-2.0\r\n\r\n'));
    expect(failure.type).toBe('ImportFailed');
  });
});

describe('exportRaw', () => {
  it('rejects a length that is not the size of the disk, and a task that failed', async () => {
    const vdi = await pool.createVdi(2 * MiB);
    const read = async (sizeBytes: number, changes: Partial<VdiTransferOptions> = {}) => {
      for await (const _piece of exportRaw({ ...(await transfer(vdi)), sizeBytes, ...changes }));
    };
    await read(2 * MiB);
    expect((await failureOf(read(4 * MiB))).message).toContain(`ended after ${2 * MiB} of ${4 * MiB} bytes`);
    expect((await failureOf(read(MiB))).type).toBe('ExportIncomplete');
    const failed = () => Promise.resolve({ status: 'failure' as const, errorInfo: ['VDI_IO_ERROR'] });
    expect((await failureOf(read(2 * MiB, { taskOutcome: failed }))).message).toContain('VDI_IO_ERROR');
  });

  it('closes the connection when the reader stops early', async () => {
    const vdi = await pool.createVdi(64 * MiB);
    const options = await transfer(vdi);
    for await (const piece of exportRaw({ ...options, sizeBytes: 64 * MiB })) {
      expect(piece.length).toBeGreaterThan(0);
      break;
    }
    expect((await pool.taskEnd(options.taskRef)).status).toBe('failure');
  });
});
