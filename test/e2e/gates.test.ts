import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { Bench, failureOf, isSameContent, plain, waitFor } from './harness.js';

let bench: Bench;

beforeAll(async () => {
  bench = await Bench.start([
    { name: 'gatekeeper', firmware: 'bios' },
    { name: 'reverter', firmware: 'bios' },
    { name: 'overrider', firmware: 'bios' },
    { name: 'sealed', firmware: 'bios', vsphere: { vtpm: true } },
    plain('hoarder'),
    plain('talker'),
    plain('bare'),
  ]);
});

afterAll(() => bench?.stop());

describe.concurrent('tools gate', () => {
  it('[S81] [S82] [D3] stays shut on a word alone: until Tools are seen gone and the guest has booted since', async () => {
    const run = await bench.migrate('gatekeeper');
    await run.reaches('tools-removal');
    const early = await failureOf(run.say('confirmToolsRemoved', {}));
    expect(early.type).toBe('EvidenceMissing');
    expect(early.message).toContain('VMware Tools are still installed in gatekeeper');

    // Stopped is not removed.
    await bench.vsphere.setTools('gatekeeper', 'stopped');
    expect((await failureOf(run.say('confirmToolsRemoved', {}))).message).toContain('still installed');

    await bench.vsphere.setTools('gatekeeper', 'none');
    await run.records('VMware Tools are gone');
    const unbooted = await failureOf(run.say('confirmToolsRemoved', {}));
    expect(unbooted).toMatchObject({ type: 'EvidenceMissing' });
    expect(unbooted.message).toContain('gatekeeper has not booted since VMware Tools were gone');

    await bench.vsphere.reboot('gatekeeper');
    await run.say('confirmToolsRemoved', {});
    const { record } = await run.reaches('verification');
    const evidence = record.find(({ text }) => text.startsWith('Evidence: Tools are gone'));
    expect(evidence?.evidence).toMatchObject({ toolsInstalled: false, powerState: 'poweredOn' });
    await run.cancel();
    expect((await run.ends()).failure?.type).toBe('Aborted');
  });

  it('[S75] [S81] opens by an override only with a reason, and marks it in the record', async () => {
    const run = await bench.migrate('overrider');
    await run.reaches('tools-removal');
    const bare = await failureOf(run.say('confirmToolsRemoved', { override: true }));
    expect(bare.message).toContain('an override of the evidence needs a reason');
    await run.say('confirmToolsRemoved', { override: true, reason: 'an appliance that keeps them' });
    const { record } = await run.reaches('verification');
    const mark = record.find(({ text }) => text.startsWith('Overridden without evidence'));
    expect(mark).toMatchObject({ by: 'olga', reason: 'an appliance that keeps them' });
    expect(mark?.evidence).toMatchObject({ toolsInstalled: true });
    // Snapshots and the flag of change tracking are all that the source has seen so far.
    const { moRef } = await bench.vsphere.vm('overrider');
    const calls = (await bench.vsphere.calls()).filter(({ object }) => object === moRef);
    const changes = new Set(calls.map(({ method }) => method).filter((method) => method !== 'QueryChangedDiskAreas'));
    expect(changes).toEqual(new Set(['ReconfigVM_Task', 'CreateSnapshot_Task']));
    await run.cancel();
    expect((await run.ends()).failure?.type).toBe('Aborted');
  });

  it('[S84] [S115] goes back to "vm starting point": Tools and content are there again, and it starts anew', async () => {
    const run = await bench.migrate('reverter');
    await run.reaches('tools-removal');
    await bench.guestWrites('reverter');
    await run.removeTools();
    await run.say('revertToBaseline', { reason: 'it does not boot' });
    const { record } = await run.records('The source was reverted to "vm starting point"');
    expect(record.find(({ text }) => text.startsWith('revertToBaseline was accepted'))).toMatchObject({
      by: 'olga',
      reason: 'it does not boot',
    });
    await run.reaches('tools-removal');
    expect(await bench.vsphere.vm('reverter')).toMatchObject({ tools: 'running', powerState: 'poweredOn' });
    // What was seen before the revert counts no more.
    const anew = await failureOf(run.say('confirmToolsRemoved', {}));
    expect(anew.message).toContain('VMware Tools are still installed');
    await bench.vsphere.setTools('reverter', 'none');
    await waitFor('Tools to be seen gone again', async () => {
      const { record } = await run.status();
      return record.filter(({ text }) => text.startsWith('VMware Tools are gone')).length === 2;
    });
    expect((await failureOf(run.say('confirmToolsRemoved', {}))).message).toContain('has not booted since');
    await bench.vsphere.reboot('reverter');
    await run.say('confirmToolsRemoved', {});
    await run.goTo('acceptance');
    const report = await run.accept();
    // What the guest wrote before the revert is gone: the disk is what it was made from, on both sides.
    const made = bench.lab.description.vms.find(({ name }) => name === 'reverter')?.disks[0]?.path ?? '';
    const [source = ''] = await bench.sourceFiles('reverter');
    expect(await isSameContent(made, source)).toBe(true);
    expect(await run.comparesEqual(report)).toEqual([true]);
  });
});

describe.concurrent('messages', () => {
  it('[S91] are refused in the wrong stage, nameless or twice, with the reason, also as signals', async () => {
    const run = await bench.migrate('talker');
    await run.reaches('verification');
    const early = await failureOf(run.say('approveCutover', {}));
    expect(early.type).toBe('WrongStage');
    expect(early.message).toContain('approveCutover for talker was refused: the migration is in stage verification');
    expect(early.message).toContain('It accepts now: acceptTestCopy, rejectTestCopy, addNote, pause, switchTransport.');
    expect((await failureOf(run.say('acceptTestCopy', { operator: ' ' }))).message).toContain(
      'does not say who speaks',
    );
    expect((await failureOf(run.sayRaw('acceptTestCopy', null))).message).toContain('does not say who speaks');
    const silent = await failureOf(run.say('rejectTestCopy', { then: 'redo' }));
    expect(silent).toMatchObject({ type: 'EvidenceMissing' });
    expect((await failureOf(run.say('rejectTestCopy', { then: 'later' as 'redo', reason: 'why not' }))).type).toBe(
      'EvidenceMissing',
    );
    expect((await failureOf(run.say('addNote', { text: ' ' }))).message).toContain('is empty');
    expect((await failureOf(run.say('addNote', { text: '', done: 3 }))).message).toContain('no fix number 3');

    // A signal has no answer, so its refusal is in the record.
    await run.signal('approveCutover', { operator: 'sam' });
    await run.records('Signal approveCutover was refused: approveCutover for talker was refused');
    // Two words at once: one counts.
    const both = await Promise.allSettled([run.say('acceptTestCopy', {}), run.say('acceptTestCopy', {})]);
    expect(both.map(({ status }) => status).sort()).toEqual(['fulfilled', 'rejected']);

    await run.reaches('cutover-approval');
    expect((await failureOf(run.say('acceptTestCopy', {}))).message).toContain('waiting for cutover-approval');
    await run.signal('approveCutover', { operator: 'sam', reason: 'the window is open' });
    const { record } = await run.reaches('power-off');
    const heard = record.find(({ text }) => text === 'approveCutover was accepted.');
    expect(heard).toMatchObject({ by: 'sam', reason: 'the window is open' });
    await run.cancel();
    await run.ends();
    expect((await failureOf(run.say('addNote', { text: 'too late' }))).message).toContain('has ended');
  });
});

describe.concurrent('preflight', () => {
  it('[S31] [S33] [S56] [S75] ends as PreflightFailed on an error, with nothing changed on either side', async () => {
    const before = await bench.sourceState('sealed');
    const run = await bench.migrate('sealed', { policy: { transport: 'https' } });
    const { outcome, failure, report } = await run.ends();
    expect(outcome).toBe('attention');
    expect(failure?.type).toBe('PreflightFailed');
    expect(failure?.message).toContain('V19 sealed: It has a virtual TPM.');
    expect(report?.findings.find(({ code }) => code === 'V19')).toMatchObject({ severity: 'error' });
    expect(report?.stages.map(({ stage }) => stage)).toEqual(['preflight']);
    expect(await bench.sourceState('sealed')).toEqual(before);
    expect(await bench.onPool('sealed')).toEqual([]);
    const { moRef } = await bench.vsphere.vm('sealed');
    expect((await bench.vsphere.calls()).filter(({ object }) => object === moRef)).toEqual([]);
  });

  it('[S34] [S77] [S78] waits with warnings for a name and a reason, and deletes no foreign snapshot without a word', async () => {
    await bench.foreignSnapshot('hoarder', 'before the upgrade');
    await bench.foreignSnapshot('hoarder', 'vm starting point');
    // A check that was old when somebody answered is made again.
    const run = await bench.migrate('hoarder', { acknowledge: false, policy: { checkValidMinutes: 0.001 } });
    const { findings } = await run.reaches('warnings');
    expect(findings.find(({ code }) => code === 'V1')?.observed).toContain('"before the upgrade", "vm starting point"');
    expect((await failureOf(run.say('acknowledgeWarnings', {}))).type).toBe('EvidenceMissing');
    await run.say('acknowledgeWarnings', { reason: 'read and understood' });

    const { record, instruction } = await run.reaches('snapshot-removal');
    expect(record.map(({ text }) => text)).toContain(
      'The check is repeated: it was old when its warnings were acknowledged.',
    );
    expect(record.find(({ text }) => text.startsWith('acknowledgeWarnings'))).toMatchObject({
      by: 'olga',
      reason: 'read and understood',
    });
    expect(instruction).toMatch(/"before the upgrade" of \d{4}-.*; "vm starting point" of \d{4}-/);
    expect((await bench.sourceState('hoarder')).snapshots).toEqual(['before the upgrade', 'vm starting point']);
    await run.say('approveSnapshotRemoval', {});

    await run.reaches('verification');
    expect((await bench.sourceState('hoarder')).snapshots).toEqual(['vm without tools']);
    const own = await bench.vsphere.vm('hoarder');
    expect(own.snapshots[0]?.description).toContain((await run.status()).tag);
    expect((await run.status()).record.some(({ text }) => text.startsWith('Foreign snapshots were removed'))).toBe(
      true,
    );
    await run.cancel();
    await run.ends();
  });
});

describe.concurrent('a VM without Tools', () => {
  it('[S80] skips the tools gate and the record says why', async () => {
    const run = await bench.migrate('bare');
    const { record } = await run.reaches('verification');
    expect(record.find(({ stage }) => stage === 'tools-removal')?.text).toContain('VMware Tools were never installed');
    await run.cancel();
    await run.ends();
  });
});
