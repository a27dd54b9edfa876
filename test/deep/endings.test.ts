import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { Bench, failureOf, plain } from '../e2e/harness.js';

let bench: Bench;

beforeAll(async () => {
  bench = await Bench.start([plain('abandoned'), plain('rejected'), plain('repeater')]);
});

afterAll(() => bench?.stop());

/** What a migration that was undone may leave anywhere: nothing. */
async function expectUndone(vm: string, before: Awaited<ReturnType<Bench['sourceState']>>): Promise<void> {
  expect(await bench.sourceState(vm)).toEqual(before);
  expect(await bench.onPool(vm)).toEqual([]);
}

describe.concurrent('a cancelled migration', () => {
  it('[S17] undoes everything in the middle of the base copy', async () => {
    const before = await bench.sourceState('abandoned');
    const run = await bench.migrate('abandoned');
    const [disk] = (await run.records('The target VM was created')).disks;
    await bench.pool.fault({ kind: 'slow', vdi: disk?.vdiUuid ?? '', writeMs: 250, times: 100 });
    await run.isSending();
    await run.cancel();
    const { outcome, failure, report } = await run.ends();
    expect(outcome).toBe('aborted');
    expect(failure).toEqual({ type: 'Aborted', message: 'The migration of abandoned was cancelled.' });
    expect(report?.leftovers).toEqual([]);
    expect(report?.disks[0]?.passes).toEqual([]);
    expect(report?.record.map(({ text }) => text)).toContain('Note: Cancel was asked for: changed our minds');
    await expectUndone('abandoned', before);
  });
});

describe.concurrent('a rejected test copy', () => {
  it('[S110] [S17] ends the migration where the person says abort, with their words, and nothing is left', async () => {
    const before = await bench.sourceState('rejected');
    const run = await bench.migrate('rejected');
    await run.reaches('verification');
    expect(await bench.onPool('rejected')).not.toEqual([]);
    await run.say('rejectTestCopy', { then: 'abort', reason: 'the licence is bound to VMware' });
    const { failure, report } = await run.ends();
    expect(failure?.type).toBe('Aborted');
    expect(failure?.message).toBe('olga rejected the test copy: the licence is bound to VMware');
    expect(report?.leftovers).toEqual([]);
    await expectUndone('rejected', before);
  });
});

describe.concurrent('a second start', () => {
  it('is refused while the first runs and after a success, and after a failure begins with objects of its own', async () => {
    const first = await bench.migrate('repeater');
    const { tag } = await first.goTo('acceptance');
    const running = await failureOf(bench.migrate('repeater'));
    expect(running.type).toBe('MigrationRunning');
    expect(running.message).toContain('repeater is being migrated already');
    await first.say('rollback', { reason: 'not yet' });
    const kept = (await first.ends()).report?.artifacts.targetVmUuid ?? '';

    // What the first left holds data: the second must not take it for its own.
    const second = await bench.migrate('repeater');
    const status = await second.goTo('acceptance');
    expect(status.tag).not.toBe(tag);
    expect(status.artifacts.targetVmUuid).not.toBe(kept);
    const report = await second.accept();
    expect(await second.comparesEqual(report)).toEqual([true]);
    expect(report.leftovers).toEqual([]);
    const ref = await bench.api.call('VM.get_by_uuid', kept);
    expect(await bench.api.call('VM.get_name_label', ref)).toBe('[Rolled back] repeater');
    expect(await bench.api.call('VM.get_power_state', ref)).toBe('Halted');

    expect((await failureOf(bench.migrate('repeater'))).type).toBe('AlreadyMigrated');
    const third = await bench.migrate('repeater', { acknowledge: false, repeatReason: 'the pool was lost' });
    const { findings } = await third.reaches('warnings');
    expect(findings.filter(({ code }) => ['V18', 'T8'].includes(code)).map(({ severity }) => severity)).toEqual([
      'warning',
      'warning',
    ]);
    await third.cancel();
    expect((await third.ends()).failure?.type).toBe('Aborted');
  });
});
