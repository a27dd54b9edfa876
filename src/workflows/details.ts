import { deltaWords, findingLine, formatBytes, formatDuration } from '../shared/index.js';
import type { MigrationStatus, WaitingFor } from '../shared/index.js';
import { MESSAGES } from './messages.js';
import type { MessageName } from './messages.js';

/** What the person does at each gate, in the words of a headline. */
const TASK: Record<WaitingFor, string> = {
  none: 'nothing to do for you',
  warnings: 'acknowledge the warnings',
  'snapshot-removal': 'approve the removal of snapshots',
  'tools-removal': 'remove VMware Tools',
  verification: 'test the copy',
  'cutover-approval': 'approve the cutover',
  'power-off': 'shut the source down',
  acceptance: 'accept the migrated VM',
  decision: 'decide after a failure',
  resume: 'resume it when the reason of the pause is gone',
};

const RECENT = 8;

/** Possible at any time, so they would only be in the way among the answers. */
const ALWAYS = ['addNote', 'pause', 'setLimit', 'switchTransport'];

/**
 * Current Details as the Web UI shows them in half a page's width: Markdown without tables (UI 2.50 draws no borders) and
 * with few paragraphs (it spaces them widely). What to do first, then how far it is, then what happened.
 */
export function renderDetails(s: MigrationStatus): string {
  const warnings = s.findings.filter(({ severity }) => severity !== 'info');
  return [
    headline(s),
    s.waitingFor === 'none' ? undefined : answers(s),
    s.outcome === 'running' ? position(s) : undefined,
    ...section('Notes', s.notes.map(noteLine)),
    ...section(
      'Findings',
      warnings.map((f) => `${f.severity} ${findingLine(f)}`),
    ),
    ...section('Disks', s.disks.map(diskLine)),
    ...section(
      'If it is cancelled now',
      s.undo.map(({ summary }) => summary),
    ),
    ...section(
      'Latest first',
      s.record
        .slice(-RECENT)
        .reverse()
        .map(({ at, text, by }) => `${minute(at)} ${text}${by === undefined ? '' : ` (${by})`}`),
    ),
  ]
    .filter((part) => part !== undefined)
    .join('\n\n');
}

function headline({ vm, outcome, waitingFor, instruction }: MigrationStatus): string {
  if (outcome !== 'running') return `**${vm}: ${outcome}**`;
  const title = `**${vm}${waitingFor === 'none' ? '' : ' waits for you'}: ${TASK[waitingFor]}**`;
  // Two spaces and a new line: the next line, without the wide space of a paragraph.
  return instruction === undefined ? title : `${title}  \n${instruction}`;
}

function position({ stage, guideStage, percent, since, downtime }: MigrationStatus): string {
  const where = `Stage \`${stage}\` (${guideStage}) since ${minute(since)} UTC, ${percent}\u00a0% of the whole.`;
  if (downtime === undefined || downtime.seconds !== undefined) return where;
  return `${where} **Outage since ${minute(downtime.startedAt)} UTC**, budget ${formatDuration(downtime.budgetSeconds)}.`;
}

/** How to answer, in both ways. */
function answers({ vm, allowed, waitingFor }: MigrationStatus): string | undefined {
  const names = allowed.filter((name): name is MessageName => name in MESSAGES && !ALWAYS.includes(name));
  if (names.length === 0) return undefined;
  const lines = names.map((name) => {
    const [, meaning, argument] = /^(.*?): (\{.*)$/.exec(MESSAGES[name]) ?? [];
    return `- \`${name}\`: ${meaning}. \`${argument}\``;
  });
  // A power-off is observed: the only word that counts there is to give up.
  const word = waitingFor === 'power-off' ? 'rollback' : waitingFor === 'resume' ? 'resume' : 'approve';
  const name = /^[\w.-]+$/.test(vm) ? vm : `'${vm}'`;
  return [`Answer with \`surefire ${word} ${name}\`, or by More Actions, Send an Update:`, '', ...lines].join('\n');
}

function diskLine(disk: MigrationStatus['disks'][number]): string {
  const { label, capacityBytes, passes, deltaBy } = disk;
  const last = passes.at(-1);
  const state = last
    ? `${last.pass} ${formatBytes(last.bytesSent)} sent, ${last.verified ?? 'not verified yet'}`
    : 'not copied yet';
  return `${label} (${formatBytes(capacityBytes)}): ${state}${deltaBy === undefined ? '' : `; ${deltaWords(disk)}`}`;
}

function noteLine({ fix, done, text, operator }: MigrationStatus['notes'][number], index: number): string {
  const kind = fix ? (done ? 'fix, done: ' : '**open fix**: ') : '';
  return `${index + 1}. ${kind}${text} (${operator})`;
}

function section(title: string, lines: string[]): string[] {
  if (lines.length === 0) return [];
  return [[`**${title}**`, '', ...lines.map((line) => (/^\d+\. /.test(line) ? line : `- ${line}`))].join('\n')];
}

/** `2026-11-24 03:09`, from ISO 8601 in UTC. */
const minute = (iso: string): string => iso.slice(0, 16).replace('T', ' ');
