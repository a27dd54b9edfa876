import { hostname } from 'node:os';
import type { Deps } from '../../activities/deps.js';
import { attempt, checkPool, checkVcenter, info } from '../../activities/endpoints.js';
import type { Config } from '../../config.js';
import { hasErrors, type Finding, type Transport } from '../../shared/index.js';
import type { Context } from '../context.js';
import { EXIT } from '../exit-codes.js';
import { planMigration } from './migrate.js';

export interface CheckOptions {
  vcenter?: string;
  pool?: string;
  transport?: 'auto' | Transport;
}

/**
 * Looks at everything a migration needs: endpoints and their certificates, rights, nbdkit and its plugins, Temporal and
 * its workers; with a VM also what the preflight says of it. Changes nothing. Exits 0, 3 with warnings, 1 with errors.
 */
export async function check(context: Context, options: CheckOptions, vm?: string): Promise<number> {
  const config = context.config();
  const deps = await context.deps();
  const [sides, temporal] = await Promise.all([
    Promise.all([
      ...Object.keys(config.vcenters).map((name) => checkVcenter(deps, name)),
      ...Object.keys(config.pools).map((name) => checkPoolAndPlaces(config, deps, name)),
    ]),
    checkTemporal(context),
  ]);
  // A side that cannot be asked has nothing to say of the VM.
  const silent = sides
    .flat()
    .some(({ code, severity }) => severity === 'error' && (code === 'certificate' || code === 'endpoint'));
  const rest = vm === undefined || silent ? await checkTools(config) : await checkVm(context, deps, options, vm);
  const found = [...sides.flat(), ...temporal, ...rest];
  // The look at a VM includes both its sides: what is found twice is said once.
  const findings = [...new Map(found.map((finding) => [JSON.stringify(finding), finding])).values()];
  const errors = findings.filter(({ severity }) => severity === 'error').length;
  const warnings = findings.filter(({ severity }) => severity === 'warning').length;
  const sum = `${errors} ${errors === 1 ? 'error' : 'errors'}, ${warnings} ${warnings === 1 ? 'warning' : 'warnings'}.`;
  context.result({ findings, errors, warnings }, [...findings.map(findingText), sum].join('\n'));
  if (errors > 0) return EXIT.failed;
  return warnings > 0 ? EXIT.warnings : EXIT.done;
}

async function checkVm(context: Context, deps: Deps, options: CheckOptions, vm: string): Promise<Finding[]> {
  const { checkMigration } = await import('../../activities/preflight.js');
  const { input } = await planMigration(context, options, vm);
  return checkMigration(deps, input);
}

/** A pool, and where disks and network cards would go there. */
async function checkPoolAndPlaces(config: Config, deps: Deps, name: string): Promise<Finding[]> {
  const found = await checkPool(deps, name);
  if (hasErrors(found)) return found;
  return attempt(found, `Pool ${name}`, async () => {
    const { resolveTarget } = await import('../resolve-target.js');
    const { sr, networks } = await resolveTarget(deps, config, name, {
      networkNames: Object.keys(config.pools[name]?.networks ?? {}),
      overrides: {},
    });
    const mapped = Object.entries(networks).map(([from, to]) => `${from} -> ${to.name}`);
    return [info('pool', `Pool ${name}`, `SR ${sr.name} (${sr.uuid}); networks ${mapped.join(', ') || 'not mapped'}.`)];
  });
}

/** What this host reads disks with; another transfer host is asked by the migration itself. */
async function checkTools({ transfer, policy }: Config): Promise<Finding[]> {
  const { probeTools, toolFindings } = await import('../../nbd/index.js');
  const probe = await probeTools(transfer);
  const version = ({ version = '' }: { version?: string }) => version;
  return [
    ...(probe.nbdkit.usable ? [info('N1', hostname(), `nbdkit ${version(probe.nbdkit)}.`)] : []),
    ...(probe.https.usable ? [info('N2', hostname(), 'Transport https is usable (nbdkit curl plugin).')] : []),
    ...(probe.vddk.usable ? [info('N2', hostname(), `Transport vddk is usable, VDDK ${version(probe.vddk)}.`)] : []),
    ...toolFindings(hostname(), probe, policy.transport),
  ];
}

async function checkTemporal(context: Context): Promise<Finding[]> {
  const { temporal, transfer } = context.config();
  const object = `Temporal ${temporal.address}`;
  return attempt([], object, async () => {
    const { serverVersion, missingAttributes, workers } = await (await context.client()).health(transfer.queue);
    const expected = 'All search attributes registered, and a worker on each queue.';
    const problem = (observed: string, remedy: string): Finding => ({
      ...{ code: 'temporal', severity: 'error', object, observed, expected, remedy },
    });
    const missing = missingAttributes.join(', ');
    return [
      info('temporal', object, `server ${serverVersion}, namespace ${temporal.namespace}.`),
      ...(missing === ''
        ? []
        : [problem(`search attributes are missing: ${missing}.`, 'Run `surefire prepare`, which registers them.')]),
      ...Object.entries(workers).map(([queue, identities]) =>
        identities.length === 0
          ? problem(`no worker polls the queue ${queue}.`, 'Start it with `surefire up`.')
          : info('workers', `Queue ${queue}`, `polled by ${identities.join(', ')}.`),
      ),
    ];
  });
}

function findingText({ severity, code, object, observed, remedy }: Finding): string {
  // Something that could be better but need not be.
  const fine = remedy === '' ? 'ok      ' : 'note    ';
  const mark = { info: fine, warning: 'WARNING ', error: 'ERROR   ' }[severity];
  return `${mark} ${code.padEnd(12)} ${object}: ${observed}${remedy === '' ? '' : `\n${' '.repeat(22)}Next: ${remedy}`}`;
}
