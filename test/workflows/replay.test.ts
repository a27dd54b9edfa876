import { bundleWorkflowCode, DefaultLogger, makeTelemetryFilterString, Runtime, Worker } from '@temporalio/worker';
import type { WorkflowBundleWithSourceMap } from '@temporalio/worker';
import { DeterminismViolationError } from '@temporalio/workflow';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { beforeAll, describe, expect, test } from 'vitest';

const HISTORIES = fileURLToPath(new URL('../fixtures/histories', import.meta.url));
const files = readdirSync(HISTORIES).filter((name) => name.endsWith('.json'));

/** What of a history this test looks at. */
interface History {
  events: { activityTaskScheduledEventAttributes?: { activityType: { name: string } } }[];
}

const read = (file: string) => JSON.parse(readFileSync(join(HISTORIES, file), 'utf8')) as History;

let workflowBundle: WorkflowBundleWithSourceMap;

beforeAll(async () => {
  const logger = new DefaultLogger('ERROR');
  const filter = makeTelemetryFilterString({ core: 'ERROR', other: 'ERROR' });
  Runtime.install({ logger, telemetryOptions: { logging: { filter } } });
  const workflowsPath = fileURLToPath(new URL('../../src/workflows', import.meta.url));
  workflowBundle = await bundleWorkflowCode({ workflowsPath, logger });
});

describe('histories of released versions', () => {
  test('there is one', () => {
    expect(files).not.toEqual([]);
  });

  test.each(files)('%s replays', async (file) => {
    await Worker.runReplayHistory({ workflowBundle }, read(file));
  });

  test.each(files)('%s does not replay when an activity has another name', async (file) => {
    const history = read(file);
    const scheduled = history.events.find((event) => event.activityTaskScheduledEventAttributes);
    if (!scheduled?.activityTaskScheduledEventAttributes) throw new Error(`${file} has no activity`);
    scheduled.activityTaskScheduledEventAttributes.activityType.name += 'Renamed';
    await expect(Worker.runReplayHistory({ workflowBundle }, history)).rejects.toThrow(DeterminismViolationError);
  });
});
