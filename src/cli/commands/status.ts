import type { MigrationView } from '../../client.js';
import { deltaWords, findingLine, formatBytes, formatDuration, formatRate } from '../../shared/index.js';
import type { DiskState, Downtime, MigrationStatus } from '../../shared/index.js';
import type { Context } from '../context.js';
import { findMigration } from '../find-migration.js';
import { answerCommand, shellWord } from '../gates.js';
import { pausedBy } from '../paused-by.js';
import { progressLine } from '../progress-line.js';
import { plainTable } from './inventory.js';

/** All migrations, or one in detail. */
export async function status(context: Context, _options: object, vm?: string): Promise<void> {
  const client = await context.client();
  if (vm !== undefined) {
    const { migrationId } = await findMigration(client, vm);
    const view = await client.status(migrationId);
    const webUrl = client.webUrl(migrationId, view.runId);
    return context.result({ ...view, webUrl }, describe(view, webUrl));
  }
  const migrations = await client.list();
  const rows = migrations.map((row) => [
    ...[row.vm, row.migrationId, row.execution === 'RUNNING' ? row.stage : row.outcome || row.execution.toLowerCase()],
    ...[row.execution === 'RUNNING' && row.waitingFor !== 'none' ? row.waitingFor : '', row.pool, row.startedAt],
  ]);
  context.result(
    { migrations },
    rows.length === 0
      ? 'No migrations yet. Next: surefire migrate VM'
      : plainTable(['VM', 'Migration', 'Stage', 'Waiting for', 'Pool', 'Started'], rows),
  );
}

function describe(view: MigrationView, webUrl: string): string {
  const { status } = view;
  const stage = status?.stage ?? view.stage;
  const waitingFor = status?.waitingFor ?? view.waitingFor;
  const answer = answerCommand(waitingFor, view.vm);
  const running = view.execution === 'RUNNING';
  return [
    `${view.vm}  ${view.migrationId}  ${running ? 'running' : view.outcome || view.execution.toLowerCase()}`,
    `Stage      ${stage}${status === undefined ? '' : `, ${status.guideStage}, ${status.percent} %, since ${status.since}`}`,
    ...(view.statusUnavailable === undefined ? [] : [`Unknown    ${view.statusUnavailable}`]),
    ...(running && status?.paused ? [`Paused     ${pausedBy(status.paused)}`] : []),
    ...(running && status?.limit ? [`Limit      ${limitLine(status.limit)}`] : []),
    ...(status?.downtime && status.downtime.endedAt === undefined ? [`Outage     ${outageLine(status.downtime)}`] : []),
    ...(running && status?.instruction ? [`To do      ${status.instruction}`] : []),
    ...(running && answer !== undefined ? [`Answer     ${answer}`] : []),
    ...view.steps.map((step) => `Now        ${stepLine(view.vm, step)}`),
    ...(status?.disks ?? []).map((disk) => `Disk       ${diskLine(disk)}`),
    ...(status?.findings ?? []).map((f) => `Finding    ${f.severity} ${findingLine(f)}`),
    ...(status?.notes ?? []).map(({ fix, done, text, operator }, index) => {
      const kind = fix ? `fix ${index + 1}, ${done ? `done by ${done.operator}` : 'open'}` : 'note';
      return `Note       ${text} (${kind}, ${operator})`;
    }),
    ...(running ? (status?.undo ?? []).map((step) => `Undo       ${step.summary}`) : []),
    `Web UI     ${webUrl}`,
    ...(running ? [] : [`Report     surefire report ${shellWord(view.vm)}`]),
  ].join('\n');
}

function stepLine(vm: string, step: MigrationView['steps'][number]): string {
  const state = `${step.paused ? `, paused${step.pausedBy ? ` ${pausedBy(step.pausedBy)}` : ''}` : ''}${step.attempt > 1 ? `, attempt ${step.attempt}` : ''}`;
  const why = step.lastFailure === undefined ? '' : `, last failure: ${step.lastFailure.split('\n')[0]}`;
  return `${step.progress === undefined ? step.type : progressLine(vm, step.progress)}${state}${why}`;
}

const limitLine = ({ mibPerSecond, operator, at }: NonNullable<MigrationStatus['limit']>): string =>
  `${formatRate(mibPerSecond * 2 ** 20)} for all its disks together, by ${operator} since ${at}`;

const outageLine = ({ startedAt, budgetSeconds }: Downtime): string =>
  `since ${startedAt}, budget ${formatDuration(budgetSeconds)}`;

function diskLine(disk: DiskState): string {
  const passes = disk.passes.map((pass) => {
    const { seconds, bytesRead, bytesSent, bytesPlanned, bottleneck } = pass;
    const checked = pass.verified === undefined ? 'not verified' : `verified by ${pass.verified}`;
    const zero = bytesRead - bytesSent;
    const pace = seconds >= 0.001 ? ` in ${formatDuration(seconds)}, ${formatRate(bytesRead / seconds)}` : '';
    return [
      `${pass.pass}: ${formatBytes(bytesPlanned)} to copy by ${pass.deltaMethod}, ${formatBytes(bytesSent)} sent${zero > 0 ? `, ${formatBytes(zero)} were zero` : ''}${pace}`,
      ...(bottleneck === undefined ? [] : [`slowest: ${bottleneck}`]),
      checked,
    ].join(', ');
  });
  const none = passes.length === 0 ? ['nothing copied yet'] : [];
  const deltas = disk.deltaBy === undefined ? [] : [deltaWords(disk)];
  return [`${disk.label}  ${formatBytes(disk.capacityBytes)}`, ...passes, ...none, ...deltas].join(
    `\n${' '.repeat(13)}`,
  );
}
