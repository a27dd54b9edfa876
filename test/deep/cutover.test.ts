import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { Bench, failureOf, plain } from '../e2e/harness.js';

let bench: Bench;

beforeAll(async () => {
  // The hook is what an operator would write: a command that shuts a guest down from outside.
  const script = 'exec curl -sf -X POST "$0/vms/$SUREFIRE_VM/shutdown"';
  bench = await Bench.start(
    [
      plain('stumbler'),
      plain('regretter'),
      plain('sleeper', { poweredOn: false }),
      plain('hooked'),
      plain('stubborn'),
      { name: 'obedient', firmware: 'bios' },
    ],
    (lab) => ['sh', '-c', script, lab.description.vsphere.adminUrl],
  );
});

afterAll(() => bench?.stop());

describe.concurrent('cutover', () => {
  it('[S112] [S117] goes back to the running source on any failure before the target started, and works the next time', async () => {
    const run = await bench.migrate('stumbler');
    await run.goTo('cutover-approval');
    const before = await bench.sourceState('stumbler');
    expect(before).toMatchObject({ powerState: 'poweredOn', snapshots: [] });

    // A person changes their mind while the power-off is waited for.
    await run.say('approveCutover', {});
    expect((await run.reaches('power-off')).allowed).toEqual(['rollback', 'addNote', 'pause']);
    await run.say('rollback', { reason: 'not tonight' });
    const rolledBack = await run.reaches('cutover-approval');
    expect(rolledBack.record.some(({ text }) => /olga asked for it: not tonight.*poweredOn again/s.test(text))).toBe(
      true,
    );
    expect(await bench.sourceState('stumbler')).toEqual(before);

    // The pool refuses the start: nothing has run, so the copy is still only a copy.
    const target = rolledBack.artifacts.targetVmUuid ?? '';
    const ref = await bench.api.call('VM.get_by_uuid', target);
    const platform = await bench.api.call<Record<string, string>>('VM.get_platform', ref);
    await bench.api.call('VM.set_platform', ref, { ...platform, 'device-model': 'qemu-upstream-uefi' });
    await bench.guestWrites('stumbler');
    await run.say('approveCutover', {});
    await run.reaches('power-off');
    await bench.vsphere.shutdown('stumbler');
    await run.records('Cutover failed (TargetRefused)');
    const refused = await run.reaches('cutover-approval');
    expect(await bench.sourceState('stumbler')).toEqual(before);
    expect(refused.undo.map(({ kind }) => kind)).toContain('destroyTarget');
    expect(await bench.api.call('VM.get_name_label', ref)).toBe('[Importing...] stumbler');
    expect(Object.keys(await bench.api.call('VM.get_blocked_operations', ref)).sort()).toEqual(['start', 'start_on']);
    await bench.api.call('VM.set_platform', ref, platform);

    await run.goTo('acceptance');
    const report = await run.accept();
    expect(report.artifacts.targetSnapshots.map(({ name }) => name)).toEqual([
      'after partial import from V2V',
      'complete import from V2V',
    ]);
    expect(report.leftovers).toEqual([]);
    expect(await run.comparesEqual(report)).toEqual([true]);
  });

  it('rolls back after the target has run: stopped, blocked and kept, then the source on, never both', async () => {
    const run = await bench.migrate('regretter');
    const { artifacts } = await run.goTo('acceptance');
    const target = artifacts.targetVmUuid ?? '';
    const ref = await bench.api.call('VM.get_by_uuid', target);
    await run.say('rollback', { reason: 'the application is slow' });
    const { outcome, failure, report } = await run.ends();
    expect(outcome).toBe('rolled-back');
    expect(failure).toMatchObject({ type: 'RolledBack', message: 'Rolled back by olga: the application is slow' });

    expect(await bench.sourceState('regretter')).toEqual({
      powerState: 'poweredOn',
      changeTrackingEnabled: false,
      snapshots: [],
    });
    const vm = await bench.api.call<Record<string, unknown>>('VM.get_record', ref);
    expect(vm).toMatchObject({ power_state: 'Halted', name_label: '[Rolled back] regretter' });
    expect(Object.keys(vm['blocked_operations'] as object).sort()).toEqual(['start', 'start_on']);
    const disks = report?.disks.map(({ vdiUuid }) => vdiUuid ?? '') ?? [];
    expect(await bench.vdiFiles(disks)).toHaveLength(1);
    expect(report?.leftovers).toEqual([]);

    const { moRef } = await bench.vsphere.vm('regretter');
    const onSource = (await bench.vsphere.calls()).filter(({ object }) => object === moRef);
    const onTarget = (await bench.pool.calls()).filter(({ params }) => params[0] === ref);
    const times = [
      report?.downtime?.poweredOffAt,
      ...onTarget.filter(({ method }) => /^VM\.(start|hard_shutdown)$/.test(method)).map(({ at }) => at),
      ...onSource.filter(({ method }) => method === 'PowerOnVM_Task').map(({ time }) => time),
    ].map((text) => Date.parse(text ?? ''));
    // Source off, target on, target off, source on: once each, in this order.
    expect(times).toHaveLength(4);
    expect(times).toEqual([...times].sort((a, b) => a - b));
  });

  it('[S112] migrates a source that was found off, and leaves it off', async () => {
    const run = await bench.migrate('sleeper');
    const { sourcePower } = await run.reaches('verification');
    expect(sourcePower).toEqual({ found: 'poweredOff', now: 'poweredOff' });
    await run.say('acceptTestCopy', {});
    await run.reaches('cutover-approval');
    await run.say('approveCutover', {});
    await run.reaches('acceptance');
    const report = await run.accept();
    expect(await run.comparesEqual(report)).toEqual([true]);
    expect(await bench.vsphere.powerState('sleeper')).toBe('poweredOff');
    const { moRef } = await bench.vsphere.vm('sleeper');
    const powered = (await bench.vsphere.calls()).filter(
      ({ object, method }) => object === moRef && /^Power/.test(method),
    );
    expect(powered).toEqual([]);
  });
});

describe.concurrent('shutdown ladder', () => {
  it('[S112] asks the guest first where Tools still run', async () => {
    const run = await bench.migrate('obedient');
    await run.reaches('tools-removal');
    await run.say('confirmToolsRemoved', { override: true, reason: 'an appliance that keeps them' });
    await run.goTo('cutover-approval');
    await run.say('approveCutover', {});
    const { record } = await run.reaches('acceptance');
    expect(record.map(({ text }) => text)).toContain('The guest was asked to shut down.');
    expect(await powerCalls('obedient')).toEqual(['ShutdownGuest']);
    await run.say('rollback', { reason: 'enough seen' });
    expect((await run.ends()).outcome).toBe('rolled-back');
  });

  it('[S112] runs the command hook where nobody can ask the guest', async () => {
    const run = await bench.migrate('hooked', { policy: { shutdownHook: true } });
    await run.goTo('cutover-approval');
    await run.say('approveCutover', {});
    const { record } = await run.reaches('acceptance');
    const texts = record.map(({ text }) => text);
    expect(texts.find((text) => text.startsWith('The guest cannot be asked'))).toContain('VMware Tools do not run');
    expect(texts).toContain('The shutdown hook ran.');
    expect(await powerCalls('hooked')).toEqual([]);
    await run.say('rollback', { reason: 'enough seen' });
    expect((await run.ends()).outcome).toBe('rolled-back');
  });

  it('[S112] pulls the plug only with the consent given at the start, and says what the disks are then', async () => {
    const run = await bench.migrate('stubborn', {
      policy: { hardPowerOffConsent: 'olga: it is a cache', shutdownTimeoutSeconds: 3 },
    });
    await run.goTo('cutover-approval');
    await run.say('approveCutover', {});
    const { record } = await run.reaches('acceptance');
    expect(record.map(({ text }) => text)).toContain(
      'The source was powered off hard: its disks are crash-consistent. Consent: olga: it is a cache',
    );
    expect(await powerCalls('stubborn')).toEqual(['PowerOffVM_Task']);
    expect((await failureOf(run.say('approveCutover', {}))).type).toBe('WrongStage');
    await run.say('rollback', { reason: 'enough seen' });
    expect((await run.ends()).outcome).toBe('rolled-back');
  });
});

/** What was done to a source's power before the target started. */
async function powerCalls(vm: string): Promise<string[]> {
  const { moRef } = await bench.vsphere.vm(vm);
  const calls = (await bench.vsphere.calls()).filter(({ object }) => object === moRef);
  return calls.map(({ method }) => method).filter((method) => /^(Power|Shutdown)/.test(method));
}
