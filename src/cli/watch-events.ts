import type { MigrationView } from '../client.js';
import type { Paused, RecordEntry, TransferProgress } from '../shared/index.js';
import { answerCommand, shellWord } from './gates.js';
import { pausedBy } from './paused-by.js';
import { progressLine } from './progress-line.js';

/** One thing that happened since the last look. */
export type WatchEvent =
  | { event: 'stage'; at: string; stage: string }
  | ({ event: 'record' } & RecordEntry)
  | { event: 'waiting'; at: string; waitingFor: string; instruction: string; command?: string }
  | { event: 'progress'; activityId: string; progress: TransferProgress }
  | { event: 'retry'; activityId: string; attempt: number; why: string }
  | { event: 'paused'; activityId: string; by?: Paused }
  | { event: 'workers'; available: boolean; why?: string };

/** What was told already. */
export interface Seen {
  stages: number;
  record: number;
  waiting: string;
  steps: Map<string, string>;
  workersGone: boolean;
}

export function nothingSeen(): Seen {
  return { stages: 0, record: 0, waiting: '', steps: new Map(), workersGone: false };
}

/** What `view` tells beyond `seen`, oldest first; `seen` is brought up to date. */
export function newEvents(view: MigrationView, seen: Seen): WatchEvent[] {
  const { status } = view;
  const events: WatchEvent[] = [];
  const gone = status === undefined && view.execution === 'RUNNING';
  if (gone !== seen.workersGone) {
    events.push({ event: 'workers', available: !gone, why: gone ? (view.statusUnavailable ?? '') : undefined });
    seen.workersGone = gone;
  }
  if (status !== undefined) {
    const stages = status.stages
      .slice(seen.stages)
      .map(({ stage, startedAt: at }) => ({ event: 'stage' as const, at, stage }));
    const record = status.record.slice(seen.record).map((entry) => ({ event: 'record' as const, ...entry }));
    events.push(...[...stages, ...record].sort((a, b) => a.at.localeCompare(b.at)));
    seen.stages = status.stages.length;
    seen.record = status.record.length;
    const { waitingFor, instruction = '', since: at } = status;
    const waiting = `${waitingFor} ${instruction} ${at}`;
    if (waitingFor !== 'none' && waiting !== seen.waiting) {
      events.push({ event: 'waiting', at, waitingFor, instruction, command: answerCommand(waitingFor, view.vm) });
    }
    seen.waiting = waiting;
  }
  for (const { activityId, attempt, progress, lastFailure, paused, pausedBy: by } of view.steps) {
    const { text = '', phase = '' } = progress ?? {};
    const now = `${attempt} ${phase} ${text}${paused ? ' paused' : ''}`;
    const before = seen.steps.get(activityId);
    if (before === now) continue;
    seen.steps.set(activityId, now);
    // Its progress stands still, and the attempt that the pause ended is no failure.
    if (paused) {
      if (!before?.endsWith(' paused')) events.push({ event: 'paused', activityId, ...(by && { by }) });
      continue;
    }
    if (attempt > 1 && lastFailure !== undefined && !before?.startsWith(`${attempt} `)) {
      events.push({ event: 'retry', activityId, attempt, why: lastFailure });
    }
    if (progress !== undefined) events.push({ event: 'progress', activityId, progress });
  }
  return events;
}

/** One event as lines for people. */
export function eventText(event: WatchEvent, vm: string): string {
  switch (event.event) {
    case 'stage':
      return `${clock(event.at)}  ${event.stage}`;
    case 'record': {
      const by = event.by === undefined ? '' : ` (${event.by}${event.reason ? `: ${event.reason}` : ''})`;
      return `${clock(event.at)}    ${event.text}${by}`;
    }
    case 'waiting':
      return [
        `          Waiting for you: ${event.instruction}`,
        ...(event.command ? [`          ${event.command}`] : []),
      ].join('\n');
    case 'progress':
      return `          ${progressLine(vm, event.progress)}`;
    case 'retry':
      return `          ${event.activityId} tries again (attempt ${event.attempt}) after: ${event.why.split('\n')[0]}`;
    case 'paused':
      return `          ${event.activityId} is paused${event.by ? ` ${pausedBy(event.by)}` : ''}; \`surefire resume ${shellWord(vm)}\` lets it go on`;
    case 'workers':
      return event.available
        ? '          A worker answers again.'
        : `          Waiting for a worker (${event.why}). Next: check \`surefire up\`; the migration itself is kept.`;
  }
}

/** Local time of day. */
function clock(at: string): string {
  return new Date(at).toTimeString().slice(0, 8);
}
