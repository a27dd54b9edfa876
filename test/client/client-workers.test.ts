import { describe, expect, it } from 'vitest';
import { workersAtWork, type Sightings } from '../../src/client-workers.js';

const NOW_S = 1_800_000_000;
const RUNNING = 1;
const SHUTDOWN = 3;

const ago = (seconds: number) => ({ seconds: NOW_S - seconds });
const report = (workerIdentity: string, secondsAgo: number, status = RUNNING) => ({
  ...{ workerIdentity, status, heartbeatTime: ago(secondsAgo) },
});
const poll = (identity: string, secondsAgo: number) => ({ identity, lastAccessTime: ago(secondsAgo) });
const seen = (sightings: Partial<Sightings>) => workersAtWork({ reports: [], polls: [], ...sightings }, NOW_S * 1000);

describe('workersAtWork', () => {
  it('counts a worker whose slots are all busy: it reports, but has not polled for hours', () => {
    expect(seen({ reports: [report('7@copier', 12)] })).toEqual(['7@copier']);
  });

  it('counts a worker that was started a moment ago: it polls, but has not reported yet', () => {
    expect(seen({ polls: [poll('7@copier', 3)] })).toEqual(['7@copier']);
  });

  it('does not count the dead: neither their last report nor their last poll', () => {
    expect(seen({ reports: [report('7@copier', 120)], polls: [poll('7@copier', 5), poll('8@copier', 200)] })).toEqual(
      [],
    );
  });

  it('does not count a worker that said good-bye, although it polled just before', () => {
    expect(seen({ reports: [report('7@copier', 2, SHUTDOWN)], polls: [poll('7@copier', 5)] })).toEqual([]);
  });

  it('counts each worker once', () => {
    expect(seen({ reports: [report('7@a', 2), report('9@b', 8)], polls: [poll('9@b', 1)] })).toEqual(['7@a', '9@b']);
  });
});
