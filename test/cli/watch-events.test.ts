import { describe, expect, it } from 'vitest';
import type { MigrationView, PendingStep } from '../../src/client.js';
import { eventText, newEvents, nothingSeen } from '../../src/cli/watch-events.js';
import { progressLine } from '../../src/cli/progress-line.js';
import { EXIT, exitCodeOf, exitCodeOfOutcome } from '../../src/cli/exit-codes.js';
import { failure, type MigrationStatus, type TransferProgress } from '../../src/shared/index.js';

const GIB = 1024 ** 3;
const progress: TransferProgress = {
  ...{ text: '61 %', phase: 'copy', disk: 'disk 2/3', doneBytes: 41.2 * GIB, totalBytes: 67 * GIB },
  ...{ bytesPerSecond: 212 * 1024 ** 2, attempt: 1 },
};

function view(status: Partial<MigrationStatus> | undefined, steps: PendingStep[] = []): MigrationView {
  return {
    ...{
      migrationId: 'migration/vc/vm-1',
      runId: 'r',
      vm: 'web01',
      vcenter: 'vc',
      pool: 'p',
      stage: '',
      waitingFor: '',
    },
    ...{ outcome: 'running', startedAt: '', execution: 'RUNNING', steps },
    ...(status === undefined
      ? { statusUnavailable: 'no worker answered' }
      : {
          status: { stages: [], record: [], waitingFor: 'none', since: 't0', ...status } as unknown as MigrationStatus,
        }),
  };
}

describe('watch', () => {
  it('tells stages and record once, in the order in which they happened', () => {
    const seen = nothingSeen();
    const first = view({
      stages: [{ stage: 'preflight', startedAt: '2026-01-01T00:00:00Z' }],
      record: [{ at: '2026-01-01T00:00:01Z', stage: 'preflight', text: 'Warnings.' }],
    });
    expect(newEvents(first, seen).map(({ event }) => event)).toEqual(['stage', 'record']);
    expect(newEvents(first, seen)).toEqual([]);
  });

  it('tells what is waited for again when the same gate opens a second time', () => {
    const seen = nothingSeen();
    const gate = (since: string) => view({ waitingFor: 'verification', instruction: 'Look at it.', since });
    const [event] = newEvents(gate('t1'), seen);
    expect(event).toMatchObject({ event: 'waiting', command: 'surefire approve web01' });
    expect(newEvents(gate('t1'), seen)).toEqual([]);
    expect(newEvents(gate('t2'), seen)).toHaveLength(1);
  });

  it('tells progress only when it moved, and a retry with its reason', () => {
    const seen = nothingSeen();
    const step: PendingStep = { activityId: 'copy:2000', type: 'copyDisk', attempt: 1, paused: false, progress };
    expect(newEvents(view({}, [step]), seen)).toEqual([{ event: 'progress', activityId: 'copy:2000', progress }]);
    expect(newEvents(view({}, [step]), seen)).toEqual([]);
    const again = { ...step, attempt: 2, lastFailure: 'nbdkit exited' };
    expect(newEvents(view({}, [again]), seen).map(({ event }) => event)).toEqual(['retry', 'progress']);
  });

  it('tells once that a step was paused in the Web UI, by whom, and how it goes on', () => {
    const seen = nothingSeen();
    const step: PendingStep = { activityId: 'base:disk 2', type: 'copyDisk', attempt: 1, paused: false, progress };
    newEvents(view({}, [step]), seen);
    const by = { operator: 'otto', at: '2026-01-01T00:00:00.000Z', reason: 'the SAN is slow' };
    const paused = { ...step, attempt: 2, paused: true, pausedBy: by, lastFailure: 'Activity paused' };
    const events = newEvents(view({}, [paused]), seen);
    expect(events).toEqual([{ event: 'paused', activityId: 'base:disk 2', by }]);
    expect(events.map((event) => eventText(event, 'web01').trim())).toEqual([
      'base:disk 2 is paused by otto since 2026-01-01T00:00:00.000Z: the SAN is slow; `surefire resume web01` lets it go on',
    ]);
    expect(newEvents(view({}, [paused]), seen)).toEqual([]);
    expect(newEvents(view({}, [{ ...step, attempt: 2 }]), seen).map(({ event }) => event)).toEqual(['progress']);
  });

  it('says once that no worker answers, and once that one does again', () => {
    const seen = nothingSeen();
    const [gone] = newEvents(view(undefined), seen);
    expect(gone === undefined ? '' : eventText(gone, 'web01')).toContain('Waiting for a worker (no worker answered)');
    expect(newEvents(view(undefined), seen)).toEqual([]);
    expect(newEvents(view({}), seen)).toEqual([{ event: 'workers', available: true }]);
  });

  it('names the thing and the unit in a progress line', () => {
    expect(progressLine('web01', progress)).toBe(
      'web01 disk 2/3  copy  41.2 of 67.0 GiB  212.0 MiB/s  about 2 min 5 s left',
    );
    const early = { ...progress, doneBytes: 0, bytesPerSecond: 0 };
    expect(progressLine('web01', early)).toBe('web01 disk 2/3  copy  0 B of 67.0 GiB  0 B/s');
  });
});

describe('exit codes', () => {
  it.each([
    ['ConfigInvalid', 2],
    ['EndpointUnknown', 2],
    ['TemporalUnreachable', 10],
    ['SourceNotFound', 11],
    ['MigrationNotFound', 11],
    ['MigrationRunning', 12],
    ['EvidenceMissing', 13],
    ['WrongStage', 13],
    ['AlreadyMigrated', 13],
    ['ConnectionFailed', 1],
  ] as const)('%s is %i', (type, code) => {
    expect(exitCodeOf(failure(type, { what: 'x' }))).toBe(code);
  });

  it('of a migration follow its outcome and what it left', () => {
    expect(exitCodeOfOutcome('migrated')).toBe(EXIT.done);
    expect(exitCodeOfOutcome('migrated', ['a snapshot'])).toBe(EXIT.warnings);
    expect(exitCodeOfOutcome('rolled-back')).toBe(EXIT.failed);
  });
});
