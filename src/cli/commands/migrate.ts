import type { Config } from '../../config.js';
import type { SurefireClient } from '../../client.js';
import { failure, findingLine, formatBytes, formatDuration } from '../../shared/index.js';
import type { MigrationInput, Transport } from '../../shared/index.js';
import type { SourceVm } from '../../vsphere/index.js';
import type { Context } from '../context.js';
import { findVm } from '../find-vm.js';
import { shellWord } from '../gates.js';
import { resolveTarget, type ResolvedTarget } from '../resolve-target.js';
import { follow } from './watch.js';

export interface MigrateOptions {
  vcenter?: string;
  pool?: string;
  sr?: string;
  transport?: 'auto' | Transport;
  network?: Record<string, string>;
  acknowledgeWarnings?: string;
  repeat?: string;
  hardPowerOffConsent?: string;
  shutdownHook?: boolean;
  verify?: 'full' | 'sampled';
  dryRun?: boolean;
  watch?: boolean;
}

/** Resolves names to identities, shows or starts the migration, and follows it when asked to. */
export async function migrate(context: Context, options: MigrateOptions, vm: string): Promise<number | void> {
  const { input, source, target } = await planMigration(context, options, vm);
  if (options.dryRun)
    return context.result({ plan: { input, target, disks: source.disks } }, planText(input, source, target));
  const client = await context.client();
  await client.requireFree(input);
  await requireWorkers(context, client, input);
  await requireNoErrors(context, input);
  const started = await client.start(input);
  const { migrationId, webUrl } = started;
  if (!options.watch) {
    const next = `Next: surefire watch ${shellWord(input.vm)}`;
    return context.result({ vm: input.vm, ...started }, `Started ${migrationId}.\nWeb UI: ${webUrl}\n${next}`);
  }
  if (context.json) context.result({ vm: input.vm, event: 'started', ...started }, '');
  else context.say(`Started ${migrationId}.\nWeb UI: ${webUrl}`);
  return follow(context, client, migrationId);
}

/** A migration that nobody works on would wait without a word. */
async function requireWorkers(context: Context, client: SurefireClient, input: MigrationInput): Promise<void> {
  const { workers } = await client.health(input.transferQueue);
  for (const [queue, identities] of Object.entries(workers)) {
    if (identities.length > 0) continue;
    throw failure('TemporalUnreachable', {
      what: `The migration of ${input.vm} was not started: no worker polls the queue "${queue}".`,
      why: 'Temporal runs, but nobody there would do the work.',
      next: `start one (\`surefire up\`), or set transfer.queue in ${context.config().path} to the queue of the transfer host.`,
    });
  }
}

/** What the workflow would end with in its first stage is said at once. The workflow looks again: its check is the one that counts. */
async function requireNoErrors(context: Context, input: MigrationInput): Promise<void> {
  const { refusals } = await import('../../activities/preflight.js');
  const errors = await refusals(await context.deps(), input);
  if (errors.length === 0) return;
  throw failure(
    'PreflightFailed',
    {
      what: `Preflight of ${input.vm} found what must be mended first:`,
      why: errors.map(findingLine).join('\n'),
      next: `mend it and start again; \`surefire check ${shellWord(input.vm)}\` shows everything. Nothing was started.`,
    },
    { findings: errors },
  );
}

/** The whole input of a migration, from what was typed, the configuration and both inventories. */
export async function planMigration(context: Context, options: MigrateOptions, text: string) {
  const config = context.config();
  const pool = poolName(config, options.pool);
  requireHook(config, options);
  const { vcenter, vm } = await findVm(context, text, options.vcenter);
  const deps = await context.deps();
  const source = await deps.vsphere(vcenter).inspectVm({ vmMoRef: vm.moRef });
  const target = await resolveTarget(deps, config, pool, {
    networkNames: source.nics.map((nic) => nic.networkName),
    sr: options.sr,
    overrides: options.network ?? {},
  });
  const requestedBy = context.operator();
  const { transport, ...limits } = config.policy;
  const input: MigrationInput = {
    vm: vm.name,
    schema: 1,
    source: { vcenter, vmMoRef: vm.moRef },
    target: {
      pool,
      srUuid: target.sr.uuid,
      networks: Object.fromEntries(Object.entries(target.networks).map(([name, { uuid }]) => [name, uuid])),
    },
    transferQueue: config.transfer.queue,
    policy: {
      ...limits,
      transport: options.transport ?? transport,
      verify: options.verify ?? limits.verify,
      shutdownHook: options.shutdownHook ?? false,
      hardPowerOffConsent: options.hardPowerOffConsent,
    },
    requestedBy,
    acknowledgedWarnings:
      options.acknowledgeWarnings === undefined
        ? undefined
        : { operator: requestedBy, reason: options.acknowledgeWarnings },
    repeatReason: options.repeat,
  };
  return { input, source, target };
}

function poolName(config: Config, asked: string | undefined): string {
  if (asked !== undefined) return asked;
  const names = Object.keys(config.pools);
  if (names.length === 1) return names[0]!;
  throw failure('UsageInvalid', {
    what: `${names.length} pools are configured: ${names.join(', ') || 'none'}.`,
    next: names.length === 0 ? `add one to ${config.path}.` : 'name one with --pool.',
  });
}

function requireHook(config: Config, options: MigrateOptions): void {
  if (!options.shutdownHook || config.hooks.shutdown !== undefined) return;
  throw failure('UsageInvalid', {
    what: '--shutdown-hook was given, but no hook is configured.',
    next: `set hooks.shutdown.command in ${config.path}.`,
  });
}

function planText(input: MigrationInput, source: SourceVm, target: ResolvedTarget): string {
  const total = source.disks.reduce((sum, disk) => sum + disk.capacityBytes, 0);
  const { policy } = input;
  return [
    `${input.vm} (${input.source.vmMoRef}), ${source.guestFullName}, ${source.firmware}, from ${input.source.vcenter} to ${input.target.pool}`,
    ...source.disks.map((disk) => `Disk       ${disk.label}  ${formatBytes(disk.capacityBytes)}  ${disk.fileName}`),
    `SR         ${target.sr.name} (${target.sr.uuid})`,
    ...Object.entries(target.networks).map(([from, to]) => `Network    ${from} -> ${to.name} (${to.uuid})`),
    `Transport  ${policy.transport}`,
    `Bytes      at most ${formatBytes(total)} in the first pass (what is allocated), then only what changes`,
    `Outage     budget ${formatDuration(policy.downtimeBudgetSeconds)}; the source is stopped ${shutdownText(input)}`,
    'Nothing was started.',
  ].join('\n');
}

function shutdownText({ policy }: MigrationInput): string {
  const last =
    policy.hardPowerOffConsent === undefined ? 'and never by pulling the plug' : 'and in the end by pulling the plug';
  return `${policy.shutdownHook ? 'by the configured command or by a person' : 'by a person'}, ${last}`;
}
