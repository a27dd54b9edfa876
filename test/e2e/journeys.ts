import { stat } from 'node:fs/promises';
import { readVddkCalls, setVddkFaults } from '../../lab/vddk/libdir.js';
import type { MigrationStatus } from '../../src/shared/index.js';
import { runCli } from '../cli/harness.js';
import { failureOf, isSameContent, Run, waitFor, type Bench } from './harness.js';
import { CANARY } from './secret-scan.js';
import {
  callsOn,
  changedSince,
  cliOf,
  copyUnderWay,
  killWatchers,
  orderOf,
  sample,
  startDirectly,
} from './watching.js';
import { bootProofOf, bytesAt, configFileOf, digestOf, lookAtSource, lookAtVm, mountsSeen } from './world.js';
import { allocationOf, nbdkitsOf, scratchOf, stillThere } from './world.js';

const KIB = 1024;
/** Three places in every disk's scratch range, written before the clean snapshot, while it is copied, and afterwards. */
const WRITES = { before: 0, during: 128 * KIB, after: 256 * KIB };

/** The running UEFI VM with two disks, over https: what there was to see at each gate. */
export async function travelLive(bench: Bench, vm: string) {
  const mounts = { before: await mountsSeen(bench) };
  const found = await lookAtSource(bench, vm);
  const run = await bench.migrate(vm, { acknowledge: false, policy: { transport: 'https' } });
  const first = await bench.client.status(run.id);
  const firstAt = Date.now();
  const sampler = sample(bench, run.id);
  const watchers = killWatchers(bench, vm);
  watchers.catch(() => undefined);

  await run.reaches('warnings');
  const atWarnings = { ...(await bench.client.status(run.id)), calls: await callsOn(bench, [found.moRef]) };
  const atWarningsOnPool = await bench.onPool(vm);
  await run.say('acknowledgeWarnings', { reason: 'read' });

  await run.reaches('tools-removal');
  const atTools = { status: await run.status(), source: await lookAtSource(bench, vm) };
  const written = { before: await bench.guestWrites(vm, WRITES.before) };
  await run.removeTools();
  const rebooted = await lookAtSource(bench, vm);
  await bench.vsphere.addRule({ method: '/folder', count: 10_000, seconds: 0.3 });
  await run.say('confirmToolsRemoved', {});

  const steps = await copyUnderWay(bench, run, 2);
  const during = await bench.guestWrites(vm, WRITES.during);
  const status = await run.status();
  const midCopy = {
    steps,
    status,
    source: await lookAtSource(bench, vm),
    target: await lookAtVm(bench, targetOf(status)),
    start: await startDirectly(bench, targetOf(status)),
    nbdkits: await nbdkitsOf(bench),
    scratch: await scratchOf(bench),
  };
  await bench.vsphere.clearRules();

  const atVerification = await verification(bench, run, vm, { before: written.before, during });
  const calls = { base: await bench.vsphere.calls() };
  await run.say('acceptTestCopy', { reason: 'it boots, and the shop answers' });

  await run.reaches('cutover-approval');
  const atApproval = await afterTheTest(bench, run, vm, atVerification);
  const untilApproval = await callsOn(bench, [
    found.moRef,
    ...[...atTools.source.snapshots, ...atVerification.source.snapshots].map((snapshot) => snapshot.moRef),
  ]);
  await bench.guestWrites(vm, WRITES.after);
  await run.say('approveCutover', { reason: 'the window is open' });

  await run.reaches('power-off');
  const atPowerOff = {
    status: await run.status(),
    source: await lookAtSource(bench, vm),
    target: await lookAtVm(bench, targetOf(status)),
  };
  await bench.vsphere.shutdown(vm);

  const atAcceptance = await run.reaches('acceptance');
  const changed = await changedSince(bench, atApproval.status, atAcceptance);
  const served = await lookAtVm(bench, targetOf(status));
  const report = await run.accept();
  await sampler.stop();
  return {
    vm,
    found,
    first: { view: first, at: firstAt },
    atWarnings,
    atWarningsOnPool,
    atTools,
    rebooted,
    midCopy,
    atVerification,
    atApproval,
    atPowerOff,
    atAcceptance: { status: atAcceptance, changed, target: served },
    report,
    calls: { ...calls, untilApproval, all: await bench.vsphere.calls() },
    imports: await bench.pool.imports(),
    steps: await orderOf(bench, run),
    samples: sampler.samples,
    watchers: await watchers,
    equal: await run.comparesEqual(report),
    source: await lookAtSource(bench, vm),
    target: await lookAtVm(bench, targetOf(status)),
    mounts: { ...mounts, after: await mountsSeen(bench) },
  };
}

/** A running BIOS VM, started by the command line with nothing but its name. */
export async function travelByDefault(bench: Bench, vm: string) {
  const { vddkLibdir } = bench.lab.description;
  const { exitCode, stdout, stderr } = await runCli(
    ['migrate', vm, '--json', '--config', configFileOf(bench)],
    cliOf(bench),
  );
  if (exitCode !== 0) throw new Error(stderr);
  const run = new Run(bench, vm, (JSON.parse(stdout) as { migrationId: string }).migrationId);
  await run.reaches('tools-removal');
  await run.removeTools();
  await setVddkFaults(vddkLibdir, { read_delay_us: 300_000 });
  await run.say('confirmToolsRemoved', {});
  await copyUnderWay(bench, run, 1);
  const midCopy = {
    source: await lookAtSource(bench, vm),
    status: await run.status(),
    nbdkits: await nbdkitsOf(bench),
  };
  await setVddkFaults(vddkLibdir, {});

  const atVerification = { status: await run.reaches('verification'), vddk: await readVddkCalls(vddkLibdir) };
  const allocated = await Promise.all((await bench.sourceFiles(vm)).map(allocationOf));
  const target = await lookAtVm(bench, targetOf(atVerification.status));
  await run.say('acceptTestCopy', {});
  await run.reaches('cutover-approval');
  await bench.guestWrites(vm, WRITES.after);
  await run.say('approveCutover', {});
  await run.reaches('power-off');
  await bench.vsphere.shutdown(vm);
  await run.reaches('acceptance');
  const report = await run.accept();
  const vddk = await readVddkCalls(vddkLibdir);
  return { vm, midCopy, atVerification, allocated, target, report, vddk, equal: await run.comparesEqual(report) };
}

/** A VM that is off, with UEFI and Secure Boot. */
export async function travelCold(bench: Bench, vm: string) {
  const digests = async () => Promise.all((await bench.sourceFiles(vm)).map(digestOf));
  const before = await digests();
  const run = await bench.migrate(vm, { policy: { transport: 'vddk' } });
  const { artifacts } = await run.reaches('verification');
  const target = await lookAtVm(bench, artifacts.targetVmUuid ?? '');
  await run.say('addNote', { text: CANARY });
  await run.say('acceptTestCopy', {});
  await run.reaches('cutover-approval');
  await run.say('approveCutover', {});
  await run.reaches('acceptance');
  const report = await run.accept();
  const source = await lookAtSource(bench, vm);
  return { report, target, source, equal: await run.comparesEqual(report), before, after: await digests() };
}

const targetOf = (status: MigrationStatus): string => status.artifacts.targetVmUuid ?? '';

type Written = { offset: number; bytes: Buffer }[];

async function verification(bench: Bench, run: Run, vm: string, written: { before: Written; during: Written }) {
  const status = await run.reaches('verification');
  const testVmUuid = status.artifacts.testVmUuid ?? '';
  const bootProof = await waitFor(`${vm}'s test copy to boot`, () => bootProofOf(bench, vm, testVmUuid));
  const base = await lookAtVm(bench, targetOf(status));
  const copy = await lookAtVm(bench, testVmUuid);
  const frozen = status.artifacts.targetSnapshots.at(-1)?.disks.map(({ vdiUuid }) => vdiUuid) ?? [];
  const files = {
    source: await bench.sourceFiles(vm),
    base: await bench.vdiFiles(base.vdis.map(({ uuid }) => uuid)),
    frozen: await bench.vdiFiles(frozen),
    copy: await bench.vdiFiles(copy.vdis.map(({ uuid }) => uuid)),
  };
  const holds = async (what: Written) =>
    Promise.all(
      what.map(async ({ offset, bytes }, index) =>
        bytes.equals(await bytesAt(files.base[index] ?? '', offset, bytes.length)),
      ),
    );
  return {
    status,
    bootProof,
    base,
    copy,
    files,
    source: await lookAtSource(bench, vm),
    digests: {
      base: await Promise.all(files.base.map(digestOf)),
      frozen: await Promise.all(files.frozen.map(digestOf)),
      copy: await Promise.all(files.copy.map(digestOf)),
    },
    // With one snapshot left the base extent is the content of that snapshot.
    equalsSnapshot: await Promise.all(
      files.source.map((file, index) => isSameContent(file, files.frozen[index] ?? '')),
    ),
    allocated: await Promise.all(files.source.map(allocationOf)),
    holds: { before: await holds(written.before), during: await holds(written.during) },
    start: await startDirectly(bench, base.vm.uuid),
    cutover: await failureOf(run.say('approveCutover', {})),
  };
}

async function afterTheTest(
  bench: Bench,
  run: Run,
  vm: string,
  { copy, files }: Awaited<ReturnType<typeof verification>>,
) {
  const objects = [
    { cls: 'VM', uuid: copy.vm.uuid },
    ...copy.vbds.map(({ uuid }) => ({ cls: 'VBD', uuid })),
    ...copy.vifs.map(({ uuid }) => ({ cls: 'VIF', uuid })),
    ...copy.vdis.map(({ uuid }) => ({ cls: 'VDI', uuid })),
    ...copy.networks.map(({ uuid }) => ({ cls: 'network', uuid })),
  ];
  const exists = await Promise.all(
    files.copy.map((file) =>
      stat(file).then(
        () => true,
        () => false,
      ),
    ),
  );
  return {
    status: await run.status(),
    source: await lookAtSource(bench, vm),
    left: await stillThere(bench, objects),
    objectCount: objects.length,
    filesLeft: exists.filter(Boolean).length,
    base: await Promise.all(files.base.map(digestOf)),
  };
}
