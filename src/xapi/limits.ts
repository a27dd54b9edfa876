import type { Finding } from '../shared/index.js';
import { formatBytes } from '../shared/index.js';
import type { Connection } from './connection.js';
import { allRecords } from './marks.js';
import type { TargetPlan } from './findings.js';
import { chooseTemplate } from './target-vm.js';

/** What the pool can hold of one VM, and what the template that fits it recommends. */
export interface TargetLimits {
  /** Memory of the largest host that is up. */
  hostMemoryBytes: number;
  recommended: { nics: number; disks: number; memoryBytes: number; cpuCount: number };
}

/** XAPI takes card numbers 0 to 15 and disk positions 0 to 254, of which one is kept for the CD drive. */
const NIC_LIMIT = 16;
const DISK_LIMIT = 254;
/** What most templates of the product recommend, for those that do not say (S73). */
const NIC_RECOMMENDATION = 7;

/** Asks the pool and the template, rather than knowing it better (S73). */
export async function targetLimits(xapi: Connection, isWindows: boolean): Promise<TargetLimits> {
  const template = await chooseTemplate(xapi, isWindows);
  const max = recommendedMaxima(String(template?.['recommendations'] ?? ''));
  const metrics = new Map(await allRecords(xapi, 'host_metrics'));
  const memories = (await allRecords(xapi, 'host'))
    .filter(([, host]) => host['enabled'] === true)
    .map(([, host]) => metrics.get(String(host['metrics'])))
    .map((seen) => (seen?.['live'] === true ? Number(seen['memory_total']) : 0));
  return {
    hostMemoryBytes: Math.max(0, ...memories),
    recommended: {
      nics: max['number-of-vifs'] ?? NIC_RECOMMENDATION,
      disks: max['number-of-vbds'] ?? DISK_LIMIT,
      memoryBytes: max['memory-static-max'] ?? Number.POSITIVE_INFINITY,
      cpuCount: max['vcpus-max'] ?? Number.POSITIVE_INFINITY,
    },
  };
}

/** Reads `<restriction field="vcpus-max" max="32"/>` and the like out of a template's recommendations. */
export function recommendedMaxima(recommendations: string): Record<string, number> {
  const found = recommendations.matchAll(/<restriction\s+(?:field|property)="([\w-]+)"[^>]*?\smax="(\d+)"/g);
  return Object.fromEntries([...found].map(([, name, max]) => [name, Number(max)]));
}

/** More than the pool takes stops the migration; more than the template recommends is told. */
export function limitFindings(plan: TargetPlan, { hostMemoryBytes, recommended }: TargetLimits): Finding[] {
  const cards = `${plan.nics.length} network cards`;
  const disks = `${plan.disks.length} disks`;
  const { memoryBytes = 0, cpuCount = 0 } = plan;
  const rules: [code: string, observed: string, value: number, most: number, recommended: number, say: typeof plain][] =
    [
      ['T4', cards, plan.nics.length, NIC_LIMIT, recommended.nics, plain],
      ['T5', disks, plan.disks.length, DISK_LIMIT, recommended.disks, plain],
      [
        'T9',
        `${formatBytes(memoryBytes)} of memory`,
        memoryBytes,
        hostMemoryBytes,
        recommended.memoryBytes,
        formatBytes,
      ],
      ['T10', `${cpuCount} CPUs`, cpuCount, Number.POSITIVE_INFINITY, recommended.cpuCount, plain],
    ];
  return rules.flatMap(([code, observed, value, most, advised, say]) => {
    if (value <= Math.min(most, advised)) return [];
    const isTooMuch = value > most;
    return [
      {
        code,
        severity: isTooMuch ? ('error' as const) : ('warning' as const),
        object: plan.name,
        observed: `it has ${observed}`,
        expected: isTooMuch ? `at most ${say(most)}` : `at most ${say(advised)}, as the template recommends`,
        remedy: isTooMuch ? 'give the source less before the migration' : 'see in the test copy whether it works',
      },
    ];
  });
}

const plain = (value: number): string => String(value);
