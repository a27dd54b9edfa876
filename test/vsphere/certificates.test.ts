import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import https from 'node:https';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { generate } from 'selfsigned';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { fetchCertificate, pinnedTlsOptions, trustFor, type PinnedTls } from '../../src/shared/pinned-tls.js';
import { createVsphere } from '../../src/vsphere/index.js';
import { errorOf, plainVm, startTestLab, type TestLab } from './lab.js';

describe('certificate pinning against the lab', () => {
  let lab: TestLab;
  beforeAll(async () => {
    lab = await startTestLab({ vms: [plainVm('web01')] });
  });
  afterAll(() => lab?.end());

  it('shows the presented certificate before anybody trusts it', async () => {
    expect(await fetchCertificate(lab.url)).toMatchObject({
      fingerprintSha256: lab.fingerprintSha256,
      thumbprintSha1: lab.thumbprintSha1,
      selfSigned: true,
      pem: expect.stringMatching(/^-----BEGIN CERTIFICATE-----\n/) as string,
    });
  });

  it('accepts the pin in either spelling', async () => {
    const bare = lab.fingerprintSha256.replaceAll(':', '').toLowerCase();
    expect(await lab.connect({ fingerprintSha256: bare }).listVms()).toHaveLength(1);
  });

  it('refuses another certificate than the pinned one, before any password is sent', async () => {
    await lab.admin.clearCalls();
    const pinned = `00${lab.fingerprintSha256.slice(2)}`;
    const error = await errorOf(lab.connect({ fingerprintSha256: pinned }).listVms());
    expect(error).toMatchObject({ type: 'CertificateChanged', nonRetryable: true });
    expect(error.message).toContain(pinned);
    expect(error.message).toContain(lab.fingerprintSha256);
    expect(error.message).toContain('Next: ');
    expect(await lab.admin.calls()).toEqual([]);
  });

  it('refuses a self-signed certificate without a pin, and says its fingerprint', async () => {
    const error = await errorOf(createVsphere({ ...lab, fingerprintSha256: undefined }).listVms());
    expect(error).toMatchObject({ type: 'CertificateUntrusted', nonRetryable: true });
    expect(error.message).toContain(lab.fingerprintSha256);
  });

  it('gives the pinned certificate for VDDK, and no other', async () => {
    expect((await lab.connect().certificate()).thumbprintSha1).toBe(lab.thumbprintSha1);
    const other = lab.connect({ fingerprintSha256: `00${lab.fingerprintSha256.slice(2)}` });
    expect(await errorOf(other.certificate())).toMatchObject({ type: 'CertificateChanged' });
  });
});

describe('certificate pinning with an authority', () => {
  let server: https.Server;
  let url: string;
  let leaf: { cert: string; private: string };
  let other: { cert: string; private: string };
  let folder: string;
  let authority: string;

  beforeAll(async () => {
    const ca = await generate([{ name: 'commonName', value: 'Test Authority' }], {
      extensions: [{ name: 'basicConstraints', cA: true, critical: true }],
    });
    const signed = { ca: { key: ca.private, cert: ca.cert } };
    // The name is deliberately not the address: the pin says more than a name.
    leaf = await generate([{ name: 'commonName', value: 'vcenter.example' }], signed);
    other = await generate([{ name: 'commonName', value: 'vcenter.example' }], signed);
    authority = ca.cert;
    folder = await mkdtemp(join(tmpdir(), 'surefire-ca-'));
    server = https.createServer({ key: leaf.private, cert: leaf.cert }, (_request, response) => response.end('hello'));
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    url = `https://127.0.0.1:${(server.address() as AddressInfo).port}/sdk`;
  });
  afterAll(async () => {
    server?.closeAllConnections();
    await new Promise((resolve) => server.close(resolve));
    await rm(folder, { recursive: true, force: true });
  });

  const get = (tls: PinnedTls) =>
    new Promise<number | undefined>((resolve, reject) => {
      const request = https.get(url, { ...pinnedTlsOptions(tls), agent: false }, (response) => {
        response.resume();
        resolve(response.statusCode);
      });
      request.on('error', reject);
    });

  it('trusts the pinned leaf alone, whoever signed it', async () => {
    const { fingerprintSha256, selfSigned } = await fetchCertificate(url);
    expect(selfSigned).toBe(false);
    const tls = await trustFor({ url, fingerprintSha256 });
    expect(pinnedTlsOptions(tls)).not.toHaveProperty('rejectUnauthorized');
    expect(await get(tls)).toBe(200);
  });

  it('refuses a sibling that the same authority signed', async () => {
    const { fingerprintSha256 } = await fetchCertificate(url);
    const tls = await trustFor({ url, fingerprintSha256 });
    server.setSecureContext({ key: other.private, cert: other.cert });
    await expect(get(tls)).rejects.toThrow();
    server.setSecureContext({ key: leaf.private, cert: leaf.cert });
    expect(await get(tls)).toBe(200);
  });

  it('says CertificateChanged when the certificate is exchanged while we run', async () => {
    const { fingerprintSha256 } = await fetchCertificate(url);
    const vsphere = createVsphere({ url, username: 'u', password: 'p', fingerprintSha256 });
    const before = await errorOf(vsphere.listVms());
    expect(before).toMatchObject({ type: 'ConnectionFailed' });
    server.setSecureContext({ key: other.private, cert: other.cert });
    server.closeAllConnections();
    expect(await errorOf(vsphere.listVms())).toMatchObject({ type: 'CertificateChanged' });
    server.setSecureContext({ key: leaf.private, cert: leaf.cert });
    await vsphere.close();
  });

  it('compares the name when only the authority is given', async () => {
    const caFile = join(folder, 'ca.pem');
    await writeFile(caFile, authority);
    const tls = await trustFor({ url, caFile });
    await expect(get(tls)).rejects.toThrow(/altnames|does not match|Hostname/i);
  });
});
