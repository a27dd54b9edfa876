import { ALTERNATIVES, formatBytes } from '../shared/index.js';
import type { Finding, FindingCode } from '../shared/index.js';
import type { Connection } from './connection.js';
import { allRecords, refOf } from './marks.js';
import type { TargetPlan } from './findings.js';
import { chooseTemplate } from './target-vm.js';

/** What the pool can hold of one VM, and what the template that fits it recommends. */
export interface TargetLimits {
  /** Free positions that XAPI offers on a new VM; one position of disks is kept for the CD drive. */
  allowed: { nics: number; disks: number };
  /** Memory of the largest host that is up. */
  hostMemoryBytes: number;
  recommended: { nics: number; disks: number; memoryBytes: number; cpuCount: number };
}

/** Asks the pool and the template, rather than knowing it better (S73). */
export async function targetLimits(xapi: Connection, isWindows: boolean): Promise<TargetLimits> {
  const template = await chooseTemplate(xapi, isWindows);
  const max = recommendedMaxima(String(template?.['recommendations'] ?? ''));
  const metrics = new Map(await allRecords(xapi, 'host_metrics'));
  const memories = (await allRecords(xapi, 'host'))
    .filter(([, host]) => host['enabled'] === true)
    .map(([, host]) => metrics.get(String(host['metrics'])))
    .map((seen) => (seen?.['live'] === true ? Number(seen['memory_total']) : 0));
  const positions = async (method: string): Promise<number> =>
    // Without any template nothing can be asked before the VM exists; creating the device says it then.
    template === undefined
      ? Number.POSITIVE_INFINITY
      : (await xapi.call<string[]>(method, await refOf(xapi, 'VM', template.uuid))).length;
  return {
    allowed: {
      nics: await positions('VM.get_allowed_VIF_devices'),
      disks: (await positions('VM.get_allowed_VBD_devices')) - 1,
    },
    hostMemoryBytes: Math.max(0, ...memories),
    recommended: {
      nics: max['number-of-vifs'] ?? Number.POSITIVE_INFINITY,
      disks: max['number-of-vbds'] ?? Number.POSITIVE_INFINITY,
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

type Rule = [
  code: FindingCode,
  observed: string,
  value: number,
  most: number,
  recommended: number,
  say: (n: number) => string,
];

/** More than the pool takes stops the migration; more than the template recommends is told. */
export function limitFindings(plan: TargetPlan, { allowed, hostMemoryBytes, recommended }: TargetLimits): Finding[] {
  const { memoryBytes = 0, cpuCount = 0 } = plan;
  const cards = plan.nics.length;
  const disks = plan.disks.length;
  const memory = `${formatBytes(memoryBytes)} of memory`;
  const rules: Rule[] = [
    ['T4', `${cards} network cards`, cards, allowed.nics, recommended.nics, String],
    ['T5', `${disks} disks`, disks, allowed.disks, recommended.disks, String],
    ['T9', memory, memoryBytes, hostMemoryBytes, recommended.memoryBytes, formatBytes],
    ['T10', `${cpuCount} CPUs`, cpuCount, Number.POSITIVE_INFINITY, recommended.cpuCount, String],
  ];
  return rules.flatMap(([code, observed, value, most, advised, say]): Finding[] => {
    if (value <= Math.min(most, advised)) return [];
    const isTooMuch = value > most;
    return [
      {
        code,
        severity: isTooMuch ? 'error' : 'warning',
        object: plan.name,
        observed: `It has ${observed}.`,
        expected: isTooMuch ? `at most ${say(most)}` : `at most ${say(advised)}, as the template recommends`,
        remedy: isTooMuch
          ? `give the source less before the migration. Alternatives: ${ALTERNATIVES}`
          : 'see in the test copy whether it works.',
      },
    ];
  });
}
