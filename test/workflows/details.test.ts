import { describe, expect, test } from 'vitest';
import type { MigrationStatus } from '../../src/shared/index.js';
import { renderDetails } from '../../src/workflows/details.js';

const status = (change: Partial<MigrationStatus>): MigrationStatus => ({
  schema: 1,
  vm: 'web01',
  migrationId: 'migration/a/vm-1',
  tag: 'migration/a/vm-1#1',
  stage: 'tools-removal',
  guideStage: 'prepare VMware',
  since: '2026-11-24T03:09:02.816Z',
  outcome: 'running',
  waitingFor: 'none',
  allowed: ['addNote'],
  percent: 6,
  disks: [],
  artifacts: { targetSnapshots: [] },
  findings: [],
  stages: [],
  record: [],
  notes: [],
  undo: [],
  ...change,
});

const paragraphs = (change: Partial<MigrationStatus>) => renderDetails(status(change)).split('\n\n');

describe('Current Details', () => {
  test('begin with what a person has to do, then say how', () => {
    const [first, second, list, third] = paragraphs({
      waitingFor: 'tools-removal',
      instruction: 'Uninstall them.',
      allowed: ['confirmToolsRemoved', 'revertToBaseline', 'addNote'],
    });
    expect(first).toBe('**web01 waits for you: remove VMware Tools**  \nUninstall them.');
    expect(second).toContain('`surefire approve web01`');
    expect(third).toBe('Stage `tools-removal` (prepare VMware) since 2026-11-24 03:09 UTC, 6\u00a0% of the whole.');
    expect(list?.split('\n')).toEqual([
      '- `confirmToolsRemoved`: VMware Tools are gone and the guest booted again. `{"operator":"you"}`',
      expect.stringContaining('`{"operator":"you","reason":"why"}`'),
    ]);
  });

  test('offer no way to answer when nobody is waited for', () => {
    const [first, second, third] = paragraphs({ allowed: ['rollback', 'addNote'] });
    expect(first).toBe('**web01: nothing to do for you**');
    expect(second).toMatch(/^Stage/);
    expect(third).toBeUndefined();
  });

  test('at a power-off the only word is to give up', () => {
    const text = renderDetails(status({ waitingFor: 'power-off', allowed: ['rollback', 'addNote'] }));
    expect(text).toContain('`surefire rollback web01`');
    expect(text).not.toContain('approve');
  });

  test('while it is paused the word is resume, and a pause is no answer to a gate', () => {
    const [first, second, list] = paragraphs({ waitingFor: 'resume', allowed: ['addNote', 'resume'] });
    expect(first).toBe('**web01 waits for you: resume it when the reason of the pause is gone**');
    expect(second).toContain('`surefire resume web01`');
    expect(list).toBe('- `resume`: Go on after a pause. `{"operator":"you"}`');
    const gate = renderDetails(status({ waitingFor: 'verification', allowed: ['acceptTestCopy', 'addNote', 'pause'] }));
    expect(gate).not.toContain('`pause`');
  });

  test('show the outage while it lasts', () => {
    const downtime = { startedAt: '2026-11-24T04:00:00.000Z', budgetSeconds: 300 };
    expect(renderDetails(status({ downtime }))).toContain('Outage since 2026-11-24 04:00 UTC');
    expect(renderDetails(status({ downtime: { ...downtime, seconds: 20 } }))).not.toContain('Outage');
  });

  test('hold no tables, for the Web UI draws them without borders', () => {
    const text = renderDetails(
      status({
        disks: [{ deviceKey: 2000, label: 'Hard disk 1', capacityBytes: 48 * 1024 * 1024, passes: [] }],
        notes: [{ at: '2026-11-24T04:00:00.000Z', operator: 'anna', text: 'set an address', fix: true }],
      }),
    );
    expect(text).toContain('- Hard disk 1 (48.0 MiB): not copied yet');
    expect(text).toContain('1. **open fix**: set an address (anna)');
    expect(text).not.toMatch(/^\|/m);
  });
});
