import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import type { MigrationStatus } from '../../src/shared/index.js';
import { Pause } from '../../src/workflows/pause.js';
import { nextOnClock } from '../../src/workflows/snapshot-clock.js';
import type { Migration } from '../../src/workflows/state.js';

const HOUR_MS = 3_600_000;
const NOW = Date.parse('2026-11-24T12:00:00Z');

beforeEach(() => {
  vi.useFakeTimers({ now: NOW });
});
afterEach(() => {
  vi.useRealTimers();
});

function migrationWith(state: Partial<Migration>) {
  const notes: string[] = [];
  const migration = {
    ...{ artifacts: { targetSnapshots: [] }, input: { policy: { snapshotHours: 72 } } },
    ...{ note: (text: string) => notes.push(text), set: () => undefined },
    ...state,
  } as unknown as Migration;
  return { migration, notes };
}

const artifacts = (names: object): Migration['artifacts'] => ({ targetSnapshots: [], ...names });
const status = (change: Partial<MigrationStatus>) =>
  ({ stage: 'base-copy', outcome: 'running', waitingFor: 'none', allowed: ['addNote'], ...change }) as MigrationStatus;

describe('what is shown of a pause', () => {
  it('is the resume where nobody else is waited for, with who, since when and why', () => {
    const pause = new Pause(migrationWith({}).migration);
    expect(pause.shownIn(status({})).allowed).toEqual(['addNote', 'pause']);
    pause.begin({ operator: 'olga', reason: 'the SAN is slow' });
    expect(pause.shownIn(status({}))).toMatchObject({
      waitingFor: 'resume',
      allowed: ['addNote', 'resume'],
      paused: { operator: 'olga', at: '2026-11-24T12:00:00.000Z', reason: 'the SAN is slow' },
      instruction: 'Paused by olga since 2026-11-24 12:00 UTC: the SAN is slow. Nothing more begins until the resume.',
    });
    pause.end('Resumed.');
    expect(pause.shownIn(status({}))).toEqual(status({ allowed: ['addNote', 'pause'] }));
  });

  it('leaves an open gate to be answered, and says that the outage goes on', () => {
    const pause = new Pause(migrationWith({}).migration);
    pause.begin({ operator: 'olga' });
    const gate = pause.shownIn(status({ waitingFor: 'verification', instruction: 'Look at it.' }));
    expect(gate.waitingFor).toBe('verification');
    expect(gate.instruction).toMatch(
      /^Look at it\. Paused by olga .* What follows your answer waits for the resume\.$/,
    );
    const downtime = { startedAt: '2026-11-24T11:00:00Z', budgetSeconds: 60 };
    expect(pause.shownIn(status({ downtime })).instruction).toContain('The outage goes on meanwhile.');
    const over = { ...downtime, endedAt: '2026-11-24T11:01:00Z' };
    expect(pause.shownIn(status({ downtime: over })).instruction).not.toContain('outage');
  });

  it.each(['finish', 'rolling-back'] as const)('a pause is not offered in %s, where it would hold nothing', (stage) => {
    expect(new Pause(migrationWith({}).migration).shownIn(status({ stage })).allowed).toEqual(['addNote']);
  });
});

describe('the clock of our snapshots during a pause (R5)', () => {
  const paused = { at: '2026-11-24T00:00:00Z', operator: 'olga' };

  it('ends the clean snapshot at its time once its pass is complete, and the baseline while nothing is copied', () => {
    const at = NOW + 5 * HOUR_MS;
    const complete = { artifacts: artifacts({ cleanSnapshot: 's-2' }), cleanSnapshotDeadlineMs: at };
    expect(nextOnClock(migrationWith(complete).migration, paused)?.atMs).toBe(at);
    const early = { artifacts: artifacts({ baselineSnapshot: 's-1' }), baselineDeadlineMs: at };
    expect(nextOnClock(migrationWith(early).migration, paused)?.atMs).toBe(at);
    expect(nextOnClock(migrationWith({}).migration, paused)).toBeUndefined();
  });

  it('warns each day, and removes nothing, while an unfinished pass reads', async () => {
    const unfinished: Partial<Migration>[] = [
      { artifacts: artifacts({ baselineSnapshot: 's-1', cleanSnapshot: 's-2' }), baselineDeadlineMs: NOW - 1 },
      {
        artifacts: artifacts({ cleanSnapshot: 's-2' }),
        cleanSnapshotDeadlineMs: NOW - 1,
        pass: {} as Migration['pass'],
      },
      { artifacts: artifacts({ finalSnapshot: 's-3' }) },
    ];
    for (const state of unfinished) {
      const { migration, notes } = migrationWith(state);
      const due = nextOnClock(migration, paused);
      expect(due?.atMs).toBe(Date.parse(paused.at) + 24 * HOUR_MS);
      await due?.act();
      expect(notes).toEqual([
        expect.stringMatching(/^Paused for 1 day: \d snapshots? of ours on the source cannot go/),
      ]);
      vi.setSystemTime(due?.atMs ?? 0);
      expect(nextOnClock(migration, paused)?.atMs).toBe(Date.parse(paused.at) + 48 * HOUR_MS);
      vi.setSystemTime(NOW);
    }
  });
});
