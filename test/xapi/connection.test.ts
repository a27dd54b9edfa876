import { X509Certificate } from 'node:crypto';
import { readFile, writeFile } from 'node:fs/promises';
import { createServer } from 'node:https';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { connect as connectTls } from 'node:tls';

import { generate } from 'selfsigned';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { pinnedTlsOptions, type PinnedTls } from '../../src/shared/pinned-tls.js';
import { hostOf } from '../../src/xapi/transfers.js';
import { Connection } from '../../src/xapi/connection.js';
import { errorOf, startTestPool, type TestPool } from './lab.js';
import { startMovingMaster } from './moving-master.js';

let pool: TestPool;
beforeAll(async () => {
  pool = await startTestPool();
});
afterAll(() => pool.end());

const handshake = (url: string, pin: PinnedTls) =>
  new Promise<void>((resolve, reject) => {
    const { hostname, port } = new URL(url);
    const socket = connectTls({ ...pinnedTlsOptions(pin), host: hostname, port: Number(port) }, () => {
      socket.destroy();
      resolve();
    });
    socket.on('error', reject);
  });
const logins = async (since: number) =>
  (await pool.calledSince(since)).filter((method) => method === 'session.login_with_password').length;
const pemOf = async (host: 'master' | 'slave') =>
  (JSON.parse(await readFile(join(pool.stateDir, `${host}.pem.json`), 'utf8')) as { cert: string }).cert;

const slaveFingerprint = async () => new X509Certificate(await pemOf('slave')).fingerprint256;

describe('trust', () => {
  it('accepts the pinned certificate, and says who is there', async () => {
    const about = await pool.connect().about();
    expect(about).toMatchObject({ poolName: 'lab', productVersion: 'XCP-ng 8.3.0' });
    expect(about.hostAddresses).toHaveLength(2);
  });

  it('refuses another fingerprint before any password is sent', async () => {
    const since = await pool.mark();
    const error = await errorOf(
      pool.connect({ fingerprintSha256: pool.fingerprintSha256.replace(/^../, '00') }).about(),
    );
    expect(error).toMatchObject({ type: 'CertificateChanged', nonRetryable: true });
    expect(error.message).toContain(pool.fingerprintSha256);
    expect(await pool.calledSince(since)).toEqual([]);
  });

  it('verifies inside xen-api as well: a server that changes after the first look gets no password', async () => {
    const caFile = join(pool.stateDir, 'other.pem');
    await writeFile(caFile, await pemOf('slave'));
    const since = await pool.mark();
    const error = await errorOf(pool.connect({ fingerprintSha256: undefined, caFile }).about());
    expect(error).toMatchObject({ type: 'CertificateUntrusted', nonRetryable: true });
    expect(await pool.calledSince(since)).toEqual([]);
  });

  it('refuses a self-signed server when neither fingerprint nor authority is configured', async () => {
    const since = await pool.mark();
    const error = await errorOf(pool.connect({ fingerprintSha256: undefined }).about());
    expect(error).toMatchObject({ type: 'CertificateUntrusted' });
    expect(await pool.calledSince(since)).toEqual([]);
  });

  it('follows a slave to no master that it was not told to trust', async () => {
    const since = await pool.mark();
    const error = await errorOf(
      pool.connect({ url: pool.slaveUrl, fingerprintSha256: await slaveFingerprint() }).about(),
    );
    expect(error).toMatchObject({ type: 'CertificateUntrusted', nonRetryable: true });
    expect(error.message).toContain('the host it names as master');
    // The slave was asked and named its master; the master never heard a password.
    const calls = (await pool.admin.calls()).slice(since);
    expect(calls.map(({ host }) => host)).toEqual(['slave']);
  });
});

describe('session', () => {
  it('sends a wrong password once and never again', async () => {
    const client = pool.connect({ password: 'wrong' });
    const since = await pool.mark();
    const errors = [await errorOf(client.about()), await errorOf(client.findSr('x')), await errorOf(client.about())];
    for (const error of errors) {
      expect(error).toMatchObject({ type: 'AuthenticationFailed', nonRetryable: true });
      expect(error.message).not.toContain('wrong');
    }
    expect(await logins(since)).toBe(1);
  });

  it('logs in once for many callers at once', async () => {
    const client = pool.connect();
    const since = await pool.mark();
    await Promise.all([client.about(), client.about(), client.about()]);
    expect(await logins(since)).toBe(1);
  });

  it('logs in again when the session has ended', async () => {
    const client = pool.connect();
    await client.about();
    await pool.admin.fault({ kind: 'expireSessions' });
    expect((await client.about()).poolName).toBe('lab');
  });

  it('goes on after the toolstack was restarted', async () => {
    const client = pool.connect();
    await client.about();
    await pool.admin.fault({ kind: 'restart' });
    expect((await client.about()).poolName).toBe('lab');
  });

  it('recovers when the pool was away while the session had ended', async () => {
    const client = pool.connect();
    await client.about();
    await pool.admin.fault({ kind: 'expireSessions' });
    await pool.admin.fault({ kind: 'call', method: 'session.login_with_password', code: 'HOST_STILL_BOOTING' });
    expect(await errorOf(client.about())).toMatchObject({ type: 'TargetBusy', nonRetryable: false });
    expect((await client.about()).poolName).toBe('lab');
  });

  it('recovers when the session is refused twice in a row', async () => {
    const client = pool.connect();
    await client.about();
    await pool.admin.fault({ kind: 'call', method: 'pool.get_all_records', code: 'SESSION_INVALID', times: 6 });
    expect(await errorOf(client.about())).toMatchObject({ nonRetryable: false });
    await pool.admin.fault({ kind: 'clear' });
    expect((await client.about()).poolName).toBe('lab');
  });

  it('follows the master to another host, whose certificate it learned while the first one was trusted', async () => {
    const two = await startMovingMaster();
    try {
      const { url, fingerprintSha256 } = two;
      const client = pool.connect({ url, fingerprintSha256 });
      expect((await client.about()).poolName).toBe('two');
      two.move();
      expect((await client.about()).poolName).toBe('two');
      expect(two.logins()[1]).toBe(1);
      const connection = new Connection({ url, username: 'root', password: 'not asked', fingerprintSha256 });
      const error = await errorOf(connection.call('pool.get_all'));
      expect(error, 'a new process knows the first host only').toMatchObject({ type: 'CertificateUntrusted' });
      expect(two.logins()[1]).toBe(1);
    } finally {
      await two.stop();
    }
  });

  it('finds the new master when the old one is gone', async () => {
    const two = await startMovingMaster();
    try {
      const client = pool.connect({ url: two.url, fingerprintSha256: two.fingerprintSha256 });
      await client.about();
      two.move();
      await two.lose();
      // Its connection was cut, so it is not known whether the call was heard: that is the caller's to decide.
      expect(await errorOf(client.about())).toMatchObject({ type: 'ConnectionFailed', nonRetryable: false });
      expect((await client.about()).hostAddresses).toEqual(two.addresses);
      expect(two.logins()).toEqual([1, 1]);
    } finally {
      await two.stop();
    }
  });

  it('tells where another host is, and knows it by its own certificate only (R33)', async () => {
    const two = await startMovingMaster();
    const { url, fingerprintSha256 } = two;
    const connection = new Connection({ url, username: 'root', password: 'not asked', fingerprintSha256 });
    try {
      const master = await hostOf(connection, 'OpaqueRef:0');
      const slave = await hostOf(connection, 'OpaqueRef:1');
      expect([master.url, slave.url]).toEqual([url, url.replace('127.0.0.1', '127.0.0.2')]);
      await handshake(slave.url, slave.tls);
      await handshake(master.url, master.tls);
      await expect(handshake(slave.url, master.tls)).rejects.toMatchObject({
        code: expect.stringMatching(/CERT|SIGN/),
      });
    } finally {
      await connection.close();
      await two.stop();
    }
  });

  it('never blames the password for a server that is not there', async () => {
    const { private: key, cert } = await generate([{ name: 'commonName', value: '127.0.0.1' }], {
      extensions: [{ name: 'subjectAltName', altNames: [{ type: 7, ip: '127.0.0.1' }] }],
    });
    const server = createServer({ key, cert });
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    const { port } = server.address() as AddressInfo;
    await new Promise((resolve) => server.close(resolve));
    const error = await errorOf(pool.connect({ url: `https://127.0.0.1:${port}` }).about());
    expect(error).toMatchObject({ type: 'ConnectionFailed', nonRetryable: false });
  });
});

describe('failures', () => {
  it.each([
    ['SR_BACKEND_FAILURE_44', 'SrOutOfSpace', true],
    ['SR_BACKEND_FAILURE_46', 'TargetBusy', false],
    ['RBAC_PERMISSION_DENIED', 'TargetRefused', true],
    ['OTHER_OPERATION_IN_PROGRESS', 'TargetBusy', false],
    ['TOO_MANY_PENDING_TASKS', 'TargetBusy', false],
    ['HANDLE_INVALID', 'TargetNotFound', true],
  ])('turns %s into %s', async (code, type, nonRetryable) => {
    const client = pool.connect();
    await client.about();
    await pool.admin.fault({ kind: 'call', method: 'host.get_all_records', code, params: ['host', 'x'] });
    const error = await errorOf(client.about());
    expect(error).toMatchObject({ type, nonRetryable, details: [{ code, params: ['host', 'x'] }] });
    expect(error.message).toContain(code);
  });
});
