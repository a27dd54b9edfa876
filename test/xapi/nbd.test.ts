import { mkdtemp, open, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { execa } from 'execa';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { connectExport, type NbdClient, type NbdRemote } from '../../src/nbd/index.js';
import { HEADROOM_BYTES } from '../../src/shared/blocks.js';
import { pattern } from '../nbd/nbdkit.js';
import { errorOf, EXTERNAL, MIB, startTestPool, uuidOfSr, type TestPool } from './lab.js';

interface NbdInfo {
  exportname: string;
  address: string;
  port: number;
  cert: string;
  subject: string;
}

const SIZE = 6 * MIB;
const content = Buffer.concat([Buffer.alloc(MIB), pattern(3 * MIB), Buffer.alloc(2 * MIB)]);

let pool: TestPool;
let vdiUuid: string;
let vdiRef: string;

beforeAll(async () => {
  pool = await startTestPool();
  const sr = await pool.raw.call('SR.get_by_uuid', await uuidOfSr(pool, 'Local thin'));
  vdiRef = await pool.raw.call<string>('VDI.create', {
    ...{ name_label: 'disk', SR: sr, virtual_size: SIZE, type: 'user', sharable: false, read_only: false },
    ...{ sm_config: {}, other_config: {} },
  });
  vdiUuid = await pool.raw.call<string>('VDI.get_uuid', vdiRef);
  const file = await open((await pool.admin.vdis())[vdiUuid]?.path ?? '', 'r+');
  await file.write(content, 0, SIZE, 0);
  await file.close();
});

afterAll(() => pool?.end());

async function purpose(call: 'add_purpose' | 'remove_purpose', name: string): Promise<void> {
  const [network] = await pool.raw.call<string[]>('network.get_by_name_label', EXTERNAL);
  await pool.raw.call(`network.${call}`, network, name);
}

const info = () => pool.raw.call<NbdInfo[]>('VDI.get_nbd_info', vdiRef);

function remoteOf({ address, port, exportname, cert, subject }: NbdInfo): NbdRemote {
  return { host: address, port, exportName: exportname, tls: { ca: cert }, serverName: subject };
}

const connect = (one: NbdInfo, changes: Partial<NbdRemote> = {}) =>
  connectExport({ ...remoteOf(one), ...changes }, { subject: 'the disk', timeouts: { connectMs: 20_000 } });

describe("the lab's NBD server, as XAPI's", () => {
  it('is offered on networks with that purpose only, once for each host that sees the SR', async () => {
    expect(await info()).toEqual([]);
    await purpose('add_purpose', 'nbd');
    const found = await info();
    expect(found.map(({ address, subject }) => [address, subject])).toEqual([
      ['127.0.0.1', 'lab-master'],
      ['127.0.0.2', 'lab-slave'],
    ]);
    for (const { exportname, cert } of found) {
      expect(exportname).toMatch(new RegExp(`^/${vdiUuid}\\?session_id=OpaqueRef:`));
      expect(cert).toContain('BEGIN CERTIFICATE');
    }
  });

  it('gives every byte over TLS, many reads at once, and to a client that is not ours', async () => {
    const [one] = (await info()) as [NbdInfo];
    const client = await connect(one);
    expect([client.sizeBytes, client.hasMap]).toEqual([SIZE, false]);
    const parts = await Promise.all(
      Array.from({ length: 6 }, async (_, index) => {
        const buffer = Buffer.alloc(HEADROOM_BYTES + MIB);
        await client.read(index * MIB, MIB, buffer);
        return buffer.subarray(HEADROOM_BYTES);
      }),
    );
    await client.close();
    expect(Buffer.concat(parts).equals(content)).toBe(true);

    const dir = await mkdtemp(join(tmpdir(), 'nbd-tls-'));
    await writeFile(join(dir, 'ca-cert.pem'), one.cert);
    const path = encodeURIComponent(one.exportname).replaceAll('%2F', '/');
    const uri = `nbds://${one.address}:${one.port}/${path}?tls-certificates=${dir}`;
    const { stdout } = await execa('nbdcopy', [uri, '-'], { encoding: 'buffer' });
    await rm(dir, { recursive: true });
    expect(Buffer.from(stdout).equals(content)).toBe(true);
  });

  it('holds the disk as long as a connection is open', async () => {
    const attached = () => pool.raw.call<string[]>('VDI.get_VBDs', vdiRef);
    await expect.poll(attached).toEqual([]);
    const client = await connect(((await info()) as [NbdInfo])[0]);
    expect(await attached()).toHaveLength(1);
    const refused = await errorOf(pool.raw.call('VDI.destroy', vdiRef));
    expect(refused.message).toContain('VDI_IN_USE');
    await client.close();
    await expect.poll(attached).toEqual([]);
  });

  it('closes the connection on a session that is none, on an unknown disk, and on the seventeenth client', async () => {
    const [one] = (await info()) as [NbdInfo];
    const [path] = one.exportname.split('?');
    for (const exportName of [`${path}?session_id=OpaqueRef:x`, one.exportname.replace(vdiUuid, 'nobody'), '']) {
      expect(await errorOf(connect(one, { exportName }))).toMatchObject({ type: 'ConnectionFailed' });
    }
    const clients: NbdClient[] = [];
    // A connection that was refused counts until the server has seen it end.
    const another = () => connect(one).then((client) => clients.push(client));
    while (clients.length < 16) await vi.waitFor(another, { timeout: 50_000, interval: 20 });
    expect(await errorOf(connect(one))).toMatchObject({ type: 'ConnectionFailed' });
    await Promise.all(clients.map((client) => client.close()));
  });

  it('is not talked to when it presents another certificate than the pool names', async () => {
    const [one, other] = (await info()) as [NbdInfo, NbdInfo];
    await vi.waitFor(async () => (await connect(one)).close(), { timeout: 50_000, interval: 20 });
    const error = await errorOf(connect(one, { tls: { ca: other.cert } }));
    expect(error).toMatchObject({ type: 'CertificateChanged', nonRetryable: true });
  });

  it('is not talked to in clear text, and refuses everybody where purposes contradict each other', async () => {
    const [one] = (await info()) as [NbdInfo];
    await purpose('add_purpose', 'insecure_nbd');
    expect((await errorOf(connect(one))).message).toContain('closed the connection');
    await purpose('remove_purpose', 'nbd');
    expect((await errorOf(connect(one))).message).toContain('refused option 5');
    await purpose('remove_purpose', 'insecure_nbd');
  });
});
