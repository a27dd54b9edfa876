import { bundleWorkflowCode, DefaultLogger, makeTelemetryFilterString, Runtime, Worker } from '@temporalio/worker';
import type { WorkflowBundleWithSourceMap } from '@temporalio/worker';
import { DeterminismViolationError } from '@temporalio/workflow';
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { changedBuild, type Edit } from '../changed-build.js';

const HISTORIES = fileURLToPath(new URL('../fixtures/histories', import.meta.url));
const files = readdirSync(HISTORIES).filter((name) => name.endsWith('.json'));

/** A whole history, and how many of its events there were while the migration was parked somewhere. */
interface Recorded {
  openAt: Record<string, number>;
  events: { activityTaskScheduledEventAttributes?: { activityType: { name: string } } }[];
}

const read = (file: string) => JSON.parse(readFileSync(join(HISTORIES, file), 'utf8')) as Recorded;
const parked = files.flatMap((file) =>
  Object.entries(read(file).openAt).map(([place, count]) => ({ file, place, count })),
);

const logger = new DefaultLogger('ERROR');
let workflowBundle: WorkflowBundleWithSourceMap;
let folder: string;

beforeAll(async () => {
  const filter = makeTelemetryFilterString({ core: 'ERROR', other: 'ERROR' });
  Runtime.install({ logger, telemetryOptions: { logging: { filter } } });
  folder = mkdtempSync(join(tmpdir(), 'surefire-replay-'));
  workflowBundle = await bundle(fileURLToPath(new URL('../../src', import.meta.url)));
});

afterAll(() => rmSync(folder, { recursive: true, force: true }));

const bundle = (src: string) => bundleWorkflowCode({ workflowsPath: join(src, 'workflows'), logger });

/** The workflows of another version. */
const versionWith = async (name: string, ...edits: Edit[]) =>
  bundle(await changedBuild('src', join(folder, name), edits));

/** As a worker does that has never seen the migrations: it begins at the first event. @throws DeterminismViolationError */
async function replay(histories: Pick<Recorded, 'events'>[], version = workflowBundle): Promise<void> {
  const named = histories.map(({ events }, index) => ({ workflowId: `migration-${index}`, history: { events } }));
  for await (const { error } of Worker.runReplayHistories({ workflowBundle: version }, named)) if (error) throw error;
}

/** The history as it was while the migration was parked there. */
const openHistory = ({ file, count }: (typeof parked)[number]) => ({ events: read(file).events.slice(0, count) });

describe('histories of released versions', () => {
  test('there are some, parked at every gate and in the middle of a copy, and with every ending', () => {
    expect(new Set(parked.map(({ place }) => place.replace(/ \d+$/, '')))).toEqual(
      new Set([
        ...[
          'warnings',
          'snapshot-removal',
          'tools-removal',
          'mid-copy',
          'verification',
          'cutover-approval',
          'power-off',
        ],
        ...['acceptance', 'decision', 'paused'],
      ]),
    );
    const endings = files.map((file) => /-(migrated|rolled-back|aborted|attention)\.json$/.exec(file)?.[1]);
    expect(new Set(endings)).toEqual(new Set(['migrated', 'rolled-back', 'aborted']));
    for (const transport of ['vddk', 'https']) expect(files.join(), transport).toContain(`-${transport}-migrated`);
  });

  test.each(files)('%s replays, and did so wherever it was parked', async (file) => {
    const open = parked.filter((one) => one.file === file).map(openHistory);
    expect(open).not.toEqual([]);
    await replay([...open, read(file)]);
  });

  test.each(files)('%s does not replay when an activity has another name', async (file) => {
    const history = read(file);
    const scheduled = history.events.find((event) => event.activityTaskScheduledEventAttributes);
    if (!scheduled?.activityTaskScheduledEventAttributes) throw new Error(`${file} has no activity`);
    scheduled.activityTaskScheduledEventAttributes.activityType.name += 'Renamed';
    await expect(replay([history])).rejects.toThrow(DeterminismViolationError);
  });
});

describe('the next version', () => {
  const file = 'workflows/migrate-vm.ts';
  const stage = "  await perform(run, 'acceptance', acceptance);\n";
  const another = "await perform(run, 'cutover-approval', cutoverApproval);\n";
  const atAcceptance = parked.filter(({ place }) => place === 'acceptance').map(openHistory);
  const earlier = parked.filter(({ place }) => place === 'tools-removal').map(openHistory);

  test('may change activity options, texts and messages, and add a stage behind `patched`', async () => {
    const next = await versionWith(
      'patched',
      {
        file: 'workflows/activity-options.ts',
        from: "heartbeatTimeout = '25 seconds'",
        to: "heartbeatTimeout = '9 seconds'",
      },
      { file: 'workflows/messages.ts', from: "  addNote: 'Attach", to: "  greet: 'A new one',\n  addNote: 'Attach" },
      { file, from: stage, to: `  if (patched('a-look-before-acceptance')) ${another}${stage}` },
      { file, from: "} from '@temporalio/workflow';", to: "  patched,\n} from '@temporalio/workflow';" },
    );
    await replay(files.map(read), next);
  });

  test('may not add a stage without it: what is parked behind is found', async () => {
    const next = await versionWith('unpatched', { file, from: stage, to: `  ${another}${stage}` });
    for (const one of atAcceptance) await expect(replay([one], next)).rejects.toThrow(DeterminismViolationError);
    await replay(earlier, next);
  });

  test('may not leave a stage out: what is parked there is found, what has not come so far still replays', async () => {
    const next = await versionWith('without-a-stage', { file, from: stage, to: '' });
    expect(atAcceptance).not.toEqual([]);
    for (const one of atAcceptance) await expect(replay([one], next)).rejects.toThrow(DeterminismViolationError);
    await replay(earlier, next);
  });
});
