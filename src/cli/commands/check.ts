import type { Deps } from '../../activities/deps.js';
import type { Config } from '../../config.js';
import { hasErrors, type Finding, type FindingCode } from '../../shared/findings.js';
import { failureMessageOf, type Transport } from '../../shared/index.js';
import { fetchCertificate, sameFingerprint, trustFor } from '../../shared/pinned-tls.js';
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
  const [sides, rest] = await Promise.all([
    Promise.all([
      ...Object.keys(config.vcenters).map((name) => checkVcenter(config, deps, name)),
      ...Object.keys(config.pools).map((name) => checkPool(config, deps, name)),
    ]),
    Promise.all([checkTransports(config), checkTemporal(context)]),
  ]);
  const findings = [...sides, ...rest].flat();
  // A side that cannot be asked has nothing to say of the VM.
  const silent = sides
    .flat()
    .some(({ code, severity }) => severity === 'error' && /^(certificate|endpoint)$/.test(code));
  if (vm !== undefined && !silent) findings.push(...(await checkVm(context, deps, options, vm)));
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
  const { findings } = await checkMigration(deps, input);
  return findings;
}

async function checkVcenter(config: Config, deps: Deps, name: string): Promise<Finding[]> {
  const trusted = await checkCertificate(config, 'vcenters', name);
  if (hasErrors(trusted)) return trusted;
  return attempt(trusted, `vCenter ${name}`, async () => {
    const { productName, apiVersion } = await deps.vsphere(name).about();
    const rights = await deps.vsphere(name).checkPrivileges();
    return [info('vcenter', `vCenter ${name}`, `${productName}, API ${apiVersion}, logged in.`), ...rights];
  });
}

async function checkPool(config: Config, deps: Deps, name: string): Promise<Finding[]> {
  const trusted = await checkCertificate(config, 'pools', name);
  if (hasErrors(trusted)) return trusted;
  return attempt(trusted, `Pool ${name}`, async () => {
    const { resolveTarget } = await import('../resolve-target.js');
    const { sr, networks } = await resolveTarget(deps, config, name, {
      networkNames: Object.keys(config.pools[name]?.networks ?? {}),
      overrides: {},
    });
    const { productVersion, hostAddresses } = await deps.xapi(name).about();
    const mapped = Object.entries(networks).map(([from, to]) => `${from} -> ${to.name}`);
    const places = `SR ${sr.name} (${sr.uuid}); networks ${mapped.join(', ') || 'not mapped'}`;
    return [info('pool', `Pool ${name}`, `${productVersion}, ${hostAddresses.length} hosts, logged in; ${places}.`)];
  });
}

/** What the server presents, and how to trust it when nothing says so yet. */
async function checkCertificate(config: Config, kind: 'vcenters' | 'pools', name: string): Promise<Finding[]> {
  const endpoint = config[kind][name]!;
  const object = `${kind === 'pools' ? 'Pool' : 'vCenter'} ${name}`;
  return attempt([], object, async () => {
    const presented = await fetchCertificate(endpoint.url);
    const seen = `presents ${presented.fingerprintSha256} (${presented.subject}, ${presented.selfSigned ? 'self-signed' : `by ${presented.issuer}`}, until ${presented.validTo})`;
    const { fingerprintSha256: pin, caFile } = endpoint;
    if (pin !== undefined && sameFingerprint(pin, presented.fingerprintSha256))
      return [info('certificate', object, `${seen}; that is the pinned one.`)];
    if (pin === undefined && (caFile !== undefined || !presented.selfSigned)) {
      await trustFor({ url: endpoint.url, caFile });
      return [info('certificate', object, `${seen}; the configured authorities are asked at login.`)];
    }
    const why = pin === undefined ? 'nothing says that it is to be trusted' : `pinned is ${pin}`;
    const remedy = `Compare it with the server's own console; if it is the same, set ${kind}.${name}.fingerprintSha256: "${presented.fingerprintSha256}".`;
    const expected = 'A certificate of a trusted authority, or a pinned one.';
    return [{ code: 'certificate', severity: 'error', object, observed: `${seen}; ${why}.`, expected, remedy }];
  });
}

async function checkTransports(config: Config): Promise<Finding[]> {
  const { probeTransports } = await import('../../activities/transports.js');
  const { nbdkit, https, vddk } = await probeTransports({ config });
  const finding = (severity: Finding['severity'], object: string, observed: string, remedy = ''): Finding => ({
    ...{ code: 'N2', severity, object, observed, remedy },
    expected: 'At least one transport can read.',
  });
  if (nbdkit === undefined) {
    return [
      finding('error', config.transfer.nbdkit, 'nbdkit does not run.', 'Install nbdkit, or set transfer.nbdkit.'),
    ];
  }
  // One is enough; none leaves nothing to read with.
  const severity = https.usable || vddk.usable ? 'info' : 'error';
  return [
    finding('info', config.transfer.nbdkit, `${nbdkit}.`),
    https.usable
      ? finding('info', 'https', 'usable (nbdkit curl plugin).')
      : finding(severity, 'https', `not usable: ${https.why}.`, "Install nbdkit's curl plugin."),
    vddk.usable
      ? finding('info', 'vddk', `usable, VDDK library ${vddk.version}.`)
      : finding(
          severity,
          'vddk',
          `not usable: ${vddk.why}.`,
          'Set transfer.vddkLibdir to an unpacked VDDK, or read over https.',
        ),
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

/** An endpoint that fails is a finding like the others, so that one look shows them all. */
async function attempt(before: Finding[], object: string, look: () => Promise<Finding[]>): Promise<Finding[]> {
  try {
    return [...before, ...(await look())];
  } catch (error) {
    const [observed = '', ...rest] = failureMessageOf(error).split('\n');
    const remedy = rest.find((line) => line.startsWith('Next: '))?.slice('Next: '.length) ?? '';
    const why = rest.filter((line) => !line.startsWith('Next: ')).join(' ');
    const expected = 'It answers, and we may log in.';
    return [
      ...before,
      { code: 'endpoint', severity: 'error', object, observed: `${observed} ${why}`.trim(), expected, remedy },
    ];
  }
}

function info(code: FindingCode, object: string, observed: string): Finding {
  return { code, severity: 'info', object, observed, expected: '', remedy: '' };
}

function findingText({ severity, code, object, observed, remedy }: Finding): string {
  // Something that could be better but need not be.
  const fine = remedy === '' ? 'ok      ' : 'note    ';
  const mark = { info: fine, warning: 'WARNING ', error: 'ERROR   ' }[severity];
  return `${mark} ${code.padEnd(12)} ${object}: ${observed}${remedy === '' ? '' : `\n${' '.repeat(22)}Next: ${remedy}`}`;
}
