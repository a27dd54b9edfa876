import { counted, deltaWords, findingLine, formatBytes, formatDuration, formatRate } from '../shared/index.js';
import type {
  BootEvidence,
  DiskState,
  MigrationReport,
  MigrationStatus,
  PassRecord,
  Verdict,
} from '../shared/index.js';

/** A report's fields, as far as a migration that still runs knows them. */
export type Reportable =
  MigrationReport | (MigrationStatus & { leftovers?: undefined; reason?: undefined; warmShare?: undefined });

/** The story of one migration as Markdown: what moved, how it was checked, who said what, what is left. */
export function reportMarkdown(report: Reportable): string {
  const { downtime, warmShare } = report;
  return [
    `# ${report.vm}: ${report.outcome}`,
    '',
    ...(report.reason === undefined ? [] : [report.reason.replaceAll('\n', '  \n'), '']),
    ...bullets([
      `Migration \`${report.migrationId}\``,
      report.firmware && `Firmware ${report.firmware}`,
      report.transport && `Read over ${report.transport}`,
      report.artifacts.targetVmUuid && `Target VM \`${report.artifacts.targetVmUuid}\``,
      downtime?.seconds !== undefined &&
        `Downtime ${formatDuration(downtime.seconds)}, ${downtime.seconds > downtime.budgetSeconds ? '**over** the' : 'within the'} budget of ${formatDuration(downtime.budgetSeconds)}`,
      warmShare !== undefined && `${(warmShare * 100).toFixed(1)} % of the bytes moved while the source ran`,
      report.testEvidence && evidence('Test copy', report.testEvidence),
      report.targetEvidence && evidence('Target', report.targetEvidence),
    ]),
    ...section('Disks', report.disks.flatMap(diskLines)),
    ...section(
      'Stages',
      report.stages.map(({ stage, startedAt, endedAt }) => {
        const took =
          endedAt === undefined ? 'under way' : formatDuration((Date.parse(endedAt) - Date.parse(startedAt)) / 1000);
        return `- ${startedAt} ${stage}: ${took}`;
      }),
    ),
    ...section(
      'Findings of the preflight',
      report.findings.map((f) => `- ${f.severity} ${findingLine(f)} Wanted: ${f.expected}.`),
    ),
    ...section(
      'Notes and fixes',
      report.notes.map(({ fix, done, text, operator, at }) => {
        const box = !fix ? '' : done ? '[x] ' : '[ ] ';
        return `- ${box}${text} (${operator}, ${at}${done ? `; done by ${done.operator}, ${done.at}` : ''})`;
      }),
    ),
    ...section(
      'Record',
      report.record.map(({ at, stage, text, by, reason }) => {
        const who = by === undefined ? '' : ` (${by}${reason ? `: ${reason}` : ''})`;
        return `- ${at} ${stage}: ${text.replaceAll('\n', ' ')}${who}`;
      }),
    ),
    ...section(
      'Left for a person',
      (report.leftovers ?? []).map((leftover) => `- ${leftover}`),
    ),
  ].join('\n');
}

function bullets(lines: (string | false | undefined)[]): string[] {
  return lines.filter((line) => typeof line === 'string' && line !== '').map((line) => `- ${String(line)}`);
}

function section(title: string, lines: string[]): string[] {
  return lines.length === 0 ? [] : ['', `## ${title}`, '', ...lines];
}

function diskLines(disk: DiskState): string[] {
  return [
    `- **${disk.label}** (${formatBytes(disk.capacityBytes)})${disk.vdiUuid === undefined ? '' : `, VDI \`${disk.vdiUuid}\``}${disk.deltaBy === undefined ? '' : `, ${deltaWords(disk)}`}`,
    ...disk.passes.flatMap((pass) => [
      `  - ${pass.pass}: ${formatBytes(pass.bytesPlanned)} planned, ${formatBytes(pass.bytesRead)} read, ${formatBytes(pass.bytesSent)} sent, ${formatBytes(pass.bytesRead - pass.bytesSent)} skipped as zero, in ${counted(pass.segments, 'segment')}; extents by ${pass.deltaMethod}${pass.bytesCompared === undefined ? '' : `, ${formatBytes(pass.bytesCompared)} compared`}; ${pass.verified === undefined ? 'not verified' : `verified by ${pass.verified}`}`,
      `    - ${paceOf(pass)}`,
      `    - ${[pass.versions, ...(pass.vddkWays ?? []).map((way) => `${way}${way === 'nbdssl' ? '' : ' (not encrypted)'}`)].join(', ')}; \`${pass.nbdkit}\``,
      ...(pass.verdicts ?? []).map((verdict) => `    - ${verdict.at} ${verdictText(verdict)}`),
    ]),
  ];
}

/** `30 s at 212.0 MiB/s read; slowest: link to XCP-ng. Waited 1.2 s for ...`. */
function paceOf(pass: PassRecord): string {
  const { bytesRead, seconds, spent, bottleneck, links, esxiHost } = pass;
  const rate = seconds >= 0.001 ? ` at ${formatRate(bytesRead / seconds)}` : '';
  const waits = [
    [
      spent.read,
      `${esxiHost === undefined ? 'the source' : `the source (ESXi host ${esxiHost})`}${parts(spent.read, spent.readLink, spent.readHost)}`,
    ],
    [spent.write, `the target${parts(spent.write, spent.writeLink, spent.writeHost)}`],
    [spent.digest, 'digests'],
    [spent.limit, 'the limit'],
  ] as const;
  const carried = [
    links?.vmware && `${formatRate(links.vmware)} from VMware`,
    links?.xcpng && `${formatRate(links.xcpng)} to XCP-ng`,
  ].filter(Boolean);
  return [
    `${formatDuration(seconds)}${rate}${bottleneck === undefined ? '' : `, slowest: ${bottleneck}`}`,
    `waited ${waits.map(([time, what]) => `${time.toFixed(1)} s for ${what}`).join(', ')}`,
    ...(carried.length === 0 ? [] : [`one connection carries ${carried.join(', ')}`]),
  ].join('; ');
}

/** What of a wait was the network's, as far as that could be told. */
function parts(all: number, link: number, host: number): string {
  if (all < 0.05) return '';
  return (link + host) * 2 < all
    ? ', network or host not told apart'
    : `, ${Math.round((100 * link) / (link + host))} % of it the network`;
}

function verdictText({ scope, via, whyNotNbd, bytesChecked, detection, chainDigest, chunks }: Verdict): string {
  const without = whyNotNbd === undefined ? '' : ` (no NBD: ${whyNotNbd.split('\n')[0]})`;
  if (via === 'none') return `not read back in the outage${without}; the pool acknowledged every segment`;
  const chance = detection === 1 ? 'any' : `${(detection * 100).toFixed(1)} % of`;
  return `equal: ${scope}, ${formatBytes(bytesChecked)} by ${via}${without}, finds ${chance} single wrong sectors; ${chunks} chunks, chain \`${chainDigest}\``;
}

function evidence(what: string, seen: BootEvidence): string {
  const addresses = seen.addresses.length === 0 ? 'no address reported' : seen.addresses.join(', ');
  return `${what} ${seen.booted ? 'booted' : 'did not boot'}: ${seen.powerState}, stable for ${seen.stableSeconds} s, ${addresses}`;
}
