import net from 'node:net';
import { inspect } from 'node:util';
import { ApplicationFailure } from '@temporalio/common';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { soapActionFor } from '../../src/vsphere/session.js';
import { errorOf, moRefOf, plainVm, startTestLab, type TestLab } from './lab.js';

describe('session', () => {
  let lab: TestLab;
  beforeAll(async () => {
    lab = await startTestLab({ vms: [plainVm('web01')] });
  });
  afterAll(() => lab?.end());
  beforeEach(async () => {
    await lab.admin.clearRules();
    await lab.admin.clearCalls();
  });

  const logins = async () => (await lab.admin.calls()).filter(({ method }) => method === 'Login').length;

  it('logs in once for many callers at once', async () => {
    const vsphere = lab.connect();
    const vmMoRef = await moRefOf(vsphere, 'web01');
    await Promise.all(Array.from({ length: 8 }, () => vsphere.powerState({ vmMoRef })));
    expect(await logins()).toBe(1);
    expect(await vsphere.about()).toMatchObject({
      apiVersion: expect.stringMatching(/^\d/) as string,
    });
  });

  it('tries a wrong password once and never again', async () => {
    const vsphere = lab.connect({ password: 'tiger-wrong' });
    const first = await errorOf(vsphere.listVms());
    const second = await errorOf(vsphere.listVms());
    expect(first).toMatchObject({ type: 'AuthenticationFailed', nonRetryable: true });
    expect(first.message).toContain(lab.username);
    expect(second).toBe(first);
    expect(await logins()).toBe(1);
  });

  it('never says the password in an error', async () => {
    const password = 'swordfish-0815';
    const wrong = await errorOf(lab.connect({ password }).listVms());
    await lab.admin.addRule({ method: 'Login', fault: 'SystemError' });
    const faulty = await errorOf(lab.connect({ password }).listVms());
    const nobody = await errorOf(
      lab.connect({ password, url: 'https://127.0.0.1:1/sdk', fingerprintSha256: undefined }).listVms(),
    );
    for (const error of [wrong, faulty, nobody]) {
      expect(error).toBeInstanceOf(ApplicationFailure);
      expect(inspect(error, { depth: 10 })).not.toContain(password);
    }
  });

  it('logs in again when the session has ended, also where only the properties say so', async () => {
    const vsphere = lab.connect();
    const vmMoRef = await moRefOf(vsphere, 'web01');
    expect(await lab.admin.expireSessions()).toBeGreaterThan(0);
    expect(await vsphere.powerState({ vmMoRef })).toBe('poweredOn');
    await lab.admin.expireSessions();
    const many = await Promise.all(Array.from({ length: 5 }, () => vsphere.powerState({ vmMoRef })));
    expect(new Set(many)).toEqual(new Set(['poweredOn']));
    expect(await logins()).toBe(3);
  });

  it('goes on waiting for a task when the session ends in the middle of it', async () => {
    const vsphere = lab.connect();
    const vmMoRef = await moRefOf(vsphere, 'web01');
    await lab.admin.addRule({ method: 'CreateSnapshot_Task', seconds: 1 });
    let ended = false;
    const made = await vsphere.ensureSnapshot({
      vmMoRef,
      name: 'mid-way',
      ownerId: 'm/1',
      onProgress: ({ state }) => {
        if (!ended && state === 'running') {
          ended = true;
          void lab.admin.expireSessions();
        }
      },
    });
    expect(ended).toBe(true);
    expect(made.adopted).toBe(false);
    expect(await logins()).toBe(2);
    await vsphere.removeSnapshot({ snapshotMoRef: made.snapshotMoRef });
  });

  it('gives up after one new login when the server goes on saying NotAuthenticated', async () => {
    const vsphere = lab.connect();
    const vmMoRef = await moRefOf(vsphere, 'web01');
    await lab.admin.addRule({
      method: 'ShutdownGuest',
      count: 5,
      fault: 'NotAuthenticated',
      detail: { object: { type: 'VirtualMachine', value: vmMoRef }, privilegeId: 'System.View' },
      call: true,
    });
    const error = await errorOf(vsphere.shutdownGuest({ vmMoRef }));
    expect(error).toMatchObject({ type: 'AuthenticationFailed' });
    expect(await logins()).toBe(2);
  });

  it('keeps an idle session alive', async () => {
    const vsphere = lab.connect({ keepAliveMs: 40 });
    await vsphere.listVms();
    await lab.admin.clearCalls();
    await expect
      .poll(async () => (await lab.admin.calls()).filter(({ method }) => method === 'CurrentTime').length)
      .toBeGreaterThan(1);
    await vsphere.close();
  });

  it('gives a cookie that is good, and another one when it was refused', async () => {
    const vsphere = lab.connect();
    const first = await vsphere.sessionCookie();
    expect(first).toMatch(/^vmware_soap_session=/);
    expect(await vsphere.sessionCookie()).toBe(first);
    await lab.admin.expireSessions();
    const second = await vsphere.sessionCookie({ refused: first });
    expect(second).not.toBe(first);
    // A late second report of the same old cookie costs no further login.
    expect(await vsphere.sessionCookie({ refused: first })).toBe(second);
    expect(await logins()).toBe(2);
  });

  it('logs out when closed', async () => {
    const vsphere = lab.connect();
    await vsphere.listVms();
    await vsphere.close();
    await vsphere.close();
    expect((await lab.admin.calls()).filter(({ method }) => method === 'Logout')).toHaveLength(1);
    expect((await errorOf(vsphere.listVms())).message).toContain('closed');
  });

  it('goes on after the server was killed and started again', async () => {
    const vsphere = lab.connect();
    const before = await vsphere.listVms();
    await lab.restart();
    expect(await vsphere.listVms()).toEqual(before);
    await lab.connect().listVms();
  });

  it('[S57] [S59] names host and port when nobody listens there', async () => {
    const server = net.createServer();
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    const { port } = server.address() as net.AddressInfo;
    await new Promise((resolve) => server.close(resolve));
    const error = await errorOf(lab.connect({ url: `https://127.0.0.1:${port}` }).listVms());
    expect(error).toMatchObject({ type: 'ConnectionFailed', nonRetryable: false });
    expect(error.message).toContain(`127.0.0.1:${port}`);
  });

  it('[S72] finds no right lacking for the administrator', async () => {
    expect(await lab.connect().checkPrivileges()).toEqual([]);
  });
});

describe('text that XML would misread', () => {
  const password = `a&b<c>"d'é]]>`;
  let lab: TestLab;
  beforeAll(async () => {
    lab = await startTestLab({ password, vms: [plainVm('R&D <1>')] });
  });
  afterAll(() => lab?.end());

  it('arrives as it was written, in the password, in names and in descriptions', async () => {
    const vsphere = lab.connect({ password });
    const vmMoRef = await moRefOf(vsphere, 'R&D <1>');
    const description = `Tom & Jerry's "<snapshot>" ü`;
    await vsphere.ensureSnapshot({ vmMoRef, name: 'a < b', ownerId: 'x&y', description });
    const [snapshot] = await vsphere.listSnapshots({ vmMoRef });
    expect(snapshot).toMatchObject({ name: 'a < b', description: `${description} [x&y]` });
  });
});

describe('soapActionFor', () => {
  it('takes the newest version both sides know', () => {
    const cases = { '9.0.0.0': '7.0', '8.0.3.0': '7.0', '7.0': '7.0', '6.7.3': '6.7', '6.5': '6.5', '5.5': '6.0' };
    for (const [server, used] of Object.entries(cases)) expect(soapActionFor(server)).toBe(`urn:vim25/${used}`);
  });
});
