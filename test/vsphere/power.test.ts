import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { Vsphere } from '../../src/vsphere/index.js';
import { errorOf, moRefOf, plainVm, startTestLab, type TestLab } from './lab.js';

describe('power and marks', () => {
  let lab: TestLab;
  let vsphere: Vsphere;
  let vmMoRef: string;
  beforeAll(async () => {
    lab = await startTestLab({ vms: [plainVm('web01', { shutdownSeconds: 0 })] });
    vsphere = lab.connect();
    vmMoRef = await moRefOf(vsphere, 'web01');
  });
  afterAll(() => lab?.end());

  const off = () => expect.poll(() => vsphere.powerState({ vmMoRef })).toBe('poweredOff');

  it('asks the guest to shut down, and an off VM is content', async () => {
    await vsphere.shutdownGuest({ vmMoRef });
    await off();
    await vsphere.shutdownGuest({ vmMoRef });
    await vsphere.powerOff({ vmMoRef });
    await vsphere.powerOn({ vmMoRef });
    await vsphere.powerOn({ vmMoRef });
    expect(await vsphere.powerState({ vmMoRef })).toBe('poweredOn');
  });

  it('says ToolsUnavailable where no Tools run', async () => {
    await lab.admin.setTools('web01', 'none');
    expect(await errorOf(vsphere.shutdownGuest({ vmMoRef }))).toMatchObject({ type: 'ToolsUnavailable' });
    await lab.admin.setTools('web01', 'running');
  });

  it('waits for a task another attempt started before it acts', async () => {
    await lab.admin.addRule({ method: 'PowerOffVM_Task', seconds: 1 });
    const died = new AbortController();
    const first = vsphere.powerOff({ vmMoRef, signal: died.signal, onProgress: () => died.abort() });
    await expect(first).rejects.toThrow();
    await lab.admin.clearCalls();
    await lab.connect().powerOff({ vmMoRef });
    expect(await vsphere.powerState({ vmMoRef })).toBe('poweredOff');
    expect((await lab.admin.calls()).map(({ method }) => method)).not.toContain('PowerOffVM_Task');
  });

  it('leaves a mark in the configuration, shows it, and takes it away', async () => {
    expect((await vsphere.inspectVm({ vmMoRef })).mark).toBeUndefined();
    await vsphere.setMark({ vmMoRef, mark: 'migrated 2026-11-24' });
    await vsphere.setMark({ vmMoRef, mark: 'migrated 2026-11-24' });
    expect((await vsphere.inspectVm({ vmMoRef })).mark).toBe('migrated 2026-11-24');
    await vsphere.setMark({ vmMoRef, mark: null });
    expect((await vsphere.inspectVm({ vmMoRef })).mark).toBeUndefined();
  });
});
