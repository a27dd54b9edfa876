import { formatBytes, formatDuration } from '../shared/index.js';
import type { MigrationStatus } from '../shared/index.js';

/**
 * Current Details as the Web UI shows them: Markdown without tables (UI 2.50 draws no borders), the thing to do in the
 * first lines.
 */
export function renderDetails(s: MigrationStatus): string {
  const lines: string[] = [];
  if (s.outcome !== 'running') lines.push(`**${s.vm}: ${s.outcome}**`);
  else if (s.waitingFor === 'none') lines.push(`**${s.vm}: ${s.stage}** (${s.guideStage}), nothing to do for you`);
  else lines.push(`**${s.vm} waits for you: ${s.waitingFor}**`);
  if (s.instruction) lines.push('', s.instruction);
  if (s.allowed.length > 0) {
    lines.push('', `Accepted now (More Actions, Send an Update): ${s.allowed.map((name) => `\`${name}\``).join(', ')}`);
  }
  lines.push('', `Stage \`${s.stage}\` since ${s.since}, ${s.percent} % of the whole.`);
  if (s.downtime && s.downtime.seconds === undefined) {
    lines.push(
      '',
      `**Downtime runs since ${s.downtime.startedAt}**, budget ${formatDuration(s.downtime.budgetSeconds)}. Update \`rollback\` goes back.`,
    );
  }
  if (s.disks.length > 0) lines.push('', '**Disks**', '', fenced(s.disks.map(diskLine)));
  const warnings = s.findings.filter((finding) => finding.severity !== 'info');
  if (warnings.length > 0) {
    lines.push(
      '',
      '**Findings**',
      '',
      ...warnings.map((f) => `- ${f.severity} ${f.id} ${f.subject}: ${f.observed}. ${f.remedy}`),
    );
  }
  if (s.notes.length > 0) {
    lines.push(
      '',
      '**Notes**',
      '',
      ...s.notes.map((n, i) => `${i + 1}. ${n.fix ? `[${n.done ? 'done' : 'fix'}] ` : ''}${n.text} (${n.operator})`),
    );
  }
  if (s.undo.length > 0) lines.push('', '**If it ends now**', '', ...s.undo.map((u) => `- ${u.summary}`));
  const recent = s.record.slice(-12).reverse();
  if (recent.length > 0)
    lines.push(
      '',
      '**Record**, newest first',
      '',
      ...recent.map((r) => `- ${r.at} ${r.text}${r.by ? ` (${r.by})` : ''}`),
    );
  return lines.join('\n');
}

function diskLine(disk: MigrationStatus['disks'][number]): string {
  const last = disk.passes.at(-1);
  const state = last
    ? `${last.pass}: ${formatBytes(last.bytesRead)} read, ${formatBytes(last.bytesSent)} sent, ${last.verified ?? 'not verified yet'}`
    : 'not copied yet';
  return `${disk.label.padEnd(14)} ${formatBytes(disk.capacityBytes).padStart(10)}  ${state}`;
}

const fenced = (lines: string[]): string => ['```', ...lines, '```'].join('\n');
