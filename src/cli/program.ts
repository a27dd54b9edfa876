import { readFileSync } from 'node:fs';
import { Argument, Command, InvalidArgumentError, Option } from 'commander';
import { NO_FILE_SHARE } from '../config-schema.js';
import { check } from './commands/check.js';
import { health, ROLES } from './commands/health.js';
import { inventory } from './commands/inventory.js';
import { migrate } from './commands/migrate.js';
import { prepare } from './commands/prepare.js';
import { report } from './commands/report.js';
import { status } from './commands/status.js';
import { up } from './commands/up.js';
import { watch } from './commands/watch.js';
import { approve, cancel, limit, note, pause, reject, resume, revert, rollback, transport } from './commands/words.js';
import { run } from './context.js';

/** The whole command line. Wrong usage throws commander's own error, so that the caller chooses the exit code. */
export function createProgram(): Command {
  const program = new Command('surefire')
    .description('Moves virtual machines from VMware vSphere to XCP-ng, the careful way.')
    .version(versionOf(), '--version')
    .option(
      '--config <FILE>',
      'configuration (default: $SUREFIRE_CONFIG, ./surefire.yaml, /etc/surefire/surefire.yaml)',
    )
    .option('--json', 'one JSON document on stdout, or one object per line while following')
    .option('--as <NAME>', 'who speaks, for the record (default: $SUREFIRE_OPERATOR, else your user name)')
    .option('--debug', 'show where an error came from')
    // Errors are told by whoever catches them.
    .configureOutput({ outputError: () => undefined })
    .configureHelp({ showGlobalOptions: true })
    .exitOverride();
  program.addHelpText('before', 'Example: surefire migrate web01 --watch\n');
  const command = (usage: string, description: string, example: string) =>
    program.command(usage).description(description).addHelpText('before', `Example: surefire ${example}\n`);

  command('up', 'run Temporal, its Web UI and both workers here, until Ctrl-C', 'up')
    .option('--db <FILE>', 'database of the Temporal server (default: temporal.db in state.dir)')
    .option('--port <N>', 'gRPC port, 0 for a free one (default: as in temporal.address)', port)
    .option('--ui-port <N>', 'port of the Web UI, 0 for a free one (default: as in temporal.webUrl)', port)
    .action(run(up));
  command('prepare', 'make a Temporal server ready that others run: namespace, search attributes', 'prepare').action(
    run(prepare),
  );
  command('health', 'for health checks: does the worker of this host work?', 'health transfer')
    .addArgument(new Argument('<ROLE>').choices(ROLES))
    .action(run(health));
  command('check [VM]', 'look at everything a migration needs, and with a VM at the VM itself', 'check web01')
    .option('--vcenter <NAME>', 'where the VM is')
    .option('--pool <NAME>', 'where it would go')
    .addOption(transportOption())
    .action(run(check));
  command('inventory', 'list the VMs of the vCenters', 'inventory --vcenter vcenter-a')
    .option('--vcenter <NAME>', 'only this one')
    .action(run(inventory));
  command('migrate <VM>', 'start a migration; VM is a name or a MoRef', 'migrate web01 --pool pool-1 --watch')
    .option('--vcenter <NAME>', 'where the VM is (default: all are searched)')
    .option('--pool <NAME>', 'where it goes (default: the only one configured)')
    .option('--sr <SR>', "storage repository, name or uuid (default: the pool's `sr`)")
    .addOption(transportOption())
    .option('--network <SRC=DST>', 'target network of a source network; may be repeated', network, {})
    .option('--acknowledge-warnings <REASON>', 'go on although the check warns; the reason is kept')
    .option('--repeat <REASON>', 'migrate a VM that was migrated before; the reason is kept')
    .option(
      '--hard-power-off-consent <TEXT>',
      'if all else fails at cutover, pull the plug: the copy is crash-consistent',
    )
    .option('--shutdown-hook', 'use the configured command to shut the guest down')
    .addOption(
      new Option('--verify <HOW>', 'read back everything, or what was copied and a sample').choices([
        'full',
        'sampled',
      ]),
    )
    .option('--dry-run', 'show the plan, start nothing')
    .option('--watch', 'follow it after the start')
    .action(run(migrate));
  command('status [VM]', 'where migrations stand, or everything about one', 'status web01').action(run(status));
  command('watch <VM>', 'follow a migration to its end; Ctrl-C ends only the watching', 'watch web01').action(
    run(watch),
  );
  command('approve <VM>', 'answer the gate at which a migration waits', 'approve web01')
    .option('--reason <TEXT>', 'why; kept in the record')
    .option('--override', 'open the gate although the evidence is missing; needs --reason')
    .addOption(new Option('--decision <WORD>', 'after a failure').choices(['retry', 'full', 'back', 'abort']))
    .action(run(approve));
  command('reject <VM>', 'the test copy does not work', 'reject web01 --reason "no network" --then redo')
    .requiredOption('--reason <TEXT>', 'why; kept in the record', words)
    .addOption(
      new Option('--then <WORD>', 'test again, or undo everything').choices(['redo', 'abort']).makeOptionMandatory(),
    )
    .action(run(reject));
  command(
    'revert <VM>',
    'the guest does not boot without Tools: back to `vm starting point`',
    'revert web01 --reason "no boot"',
  )
    .requiredOption('--reason <TEXT>', 'why; everything the guest wrote since is lost', words)
    .action(run(revert));
  command('note <VM> [TEXT]', 'attach a note or a fix, or tick a fix off', 'note web01 "set a static address" --fix')
    .option('--fix', 'to be applied to the migrated VM before acceptance')
    .option('--done <N>', 'tick off fix N, as `status` numbers them', positive)
    .action(run(note));
  command('pause <VM>', 'hold a migration: copies stop at a checkpoint', 'pause web01 --reason "the SAN is slow"')
    .requiredOption('--reason <TEXT>', 'why; kept in the record', words)
    .action(run(pause));
  command('resume <VM>', 'go on after a pause, also one made in the Web UI', 'resume web01')
    .option('--reason <TEXT>', 'why; kept in the record')
    .action(run(resume));
  command('limit', 'how fast the disks of a migration may move together, also while they are copied', 'limit web01 50')
    .argument('<VM>')
    .addArgument(new Argument('<RATE>', 'MiB per second, or `off`').argParser(rate))
    .option('--reason <TEXT>', 'why; kept in the record')
    .action(run(limit));
  command(
    'transport <VM>',
    'read the disks in the other way from here on; what was copied stays',
    'transport web01 https --reason "port 902 is closed"',
  )
    .addArgument(new Argument('<NAME>', 'vddk or https').choices(['vddk', 'https']))
    .requiredOption('--reason <TEXT>', 'why; kept in the record', words)
    .option('--end-baseline', 'to https in the middle of the first copy: `vm starting point` may be removed for it')
    .action(run(transport));
  command('rollback <VM>', 'back to the source', 'rollback web01 --reason "application fails"')
    .requiredOption('--reason <TEXT>', 'why; kept in the record', words)
    .action(run(rollback));
  command('cancel <VM>', 'end a migration in order: everything it made is undone', 'cancel web01 --reason "postponed"')
    .option('--reason <TEXT>', 'why; kept in the record')
    .action(run(cancel));
  command('report <VM>', 'the whole story, as Markdown', 'report web01 --out web01.md')
    .option('--out <FILE>', 'write it there')
    .action(run(report));
  return program;
}

function transportOption(): Option {
  return new Option('--transport <NAME>', 'how disks are read: auto, vddk or https').argParser((value) => {
    if (['auto', 'vddk', 'https'].includes(value)) return value;
    throw new InvalidArgumentError(/nfs|vsan/i.test(value) ? `${NO_FILE_SHARE}.` : 'It must be auto, vddk or https.');
  });
}

function network(value: string, all: Record<string, string>): Record<string, string> {
  const [from, to, ...rest] = value.split('=');
  if (!from || !to || rest.length > 0) throw new InvalidArgumentError('It must be SOURCE=TARGET.');
  return { ...all, [from]: to };
}

function words(value: string): string {
  if (value.trim() !== '') return value;
  throw new InvalidArgumentError('It must not be empty.');
}

function port(value: string): number {
  if (/^\d+$/.test(value) && Number(value) <= 65_535) return Number(value);
  throw new InvalidArgumentError('It must be a port number.');
}

function positive(value: string): number {
  if (/^[1-9]\d*$/.test(value)) return Number(value);
  throw new InvalidArgumentError('It must be a number from 1.');
}

function rate(value: string): number | 'off' {
  if (value === 'off') return value;
  if (/^\d{1,9}(\.\d+)?$/.test(value) && Number(value) > 0) return Number(value);
  throw new InvalidArgumentError('It must be a number of MiB per second above 0, or off.');
}

function versionOf(): string {
  for (const up of ['../../../package.json', '../../package.json']) {
    try {
      return (JSON.parse(readFileSync(new URL(up, import.meta.url), 'utf8')) as { version: string }).version;
    } catch {
      continue;
    }
  }
  return 'unknown';
}
