import { readFile } from 'node:fs/promises';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { freePort } from '../../lab/ports.js';
import type { LabCall } from '../../lab/vsphere/admin.js';
import { STAGES } from '../../src/shared/index.js';
import { runCli } from '../cli/harness.js';
import { Bench, MIB, OPERATOR, plain, useChosenNbdkit } from './harness.js';
import { travelByDefault, travelCold, travelLive } from './journeys.js';
import { CANARY, placesOf, SecretScan, secretsOf } from './secret-scan.js';
import { cliOf } from './watching.js';

const BLOCK_BYTES = 64 * 1024;
const ODD_BYTES = 64 * MIB + 12_345 * 512;
const GUIDE_STAGES = ['install components', 'prepare VMware', 'test migration', 'final cutover'];

// Each migration is watched from beginning to end, and what was seen of the world at its gates is judged afterwards.
let bench: Bench;
let live: Awaited<ReturnType<typeof travelLive>>;
let byDefault: Awaited<ReturnType<typeof travelByDefault>>;
let cold: Awaited<ReturnType<typeof travelCold>>;
let scanned: Awaited<ReturnType<SecretScan['end']>>;
let said: Map<string, string>;
let secrets: string[];
let prometheus: string;

beforeAll(async () => {
  await useChosenNbdkit();
  const metrics = `127.0.0.1:${await freePort(0)}`;
  bench = await Bench.start(
    [
      { name: 'live', firmware: 'uefi', dataDiskBytes: [ODD_BYTES] },
      { name: 'plain-bios', firmware: 'bios' },
      { ...plain('cold', { poweredOn: false, secureBoot: true }), firmware: 'uefi' },
    ],
    undefined,
    { metrics },
  );
  const scan = new SecretScan(bench);
  [live, byDefault, cold] = await Promise.all([
    travelLive(bench, 'live'),
    travelByDefault(bench, 'plain-bios'),
    travelCold(bench, 'cold'),
  ]);
  said = await talk(['check'], ['inventory'], ['status'], ['status', 'live', '--json'], ['report', 'live']);
  said.set('watch', JSON.stringify(live.watchers.lines));
  scanned = await scan.end();
  secrets = await secretsOf(bench);
  prometheus = await (await fetch(`http://${metrics}/metrics`)).text();
}, 300_000);

afterAll(() => bench?.stop());

describe('before anything is touched', () => {
  it('[S11] answers with its progress within two seconds of the start, before the first byte', () => {
    const { view, at } = live.first;
    expect(at - Date.parse(view.startedAt)).toBeLessThan(2_000);
    expect(view.status).toMatchObject({ percent: expect.any(Number) as number, stage: 'preflight' });
    expect(view.status?.disks.flatMap(({ passes }) => passes)).toEqual([]);
  });

  it('[S75] [S76] has looked at the prerequisites, and neither side shows a trace', () => {
    expect(live.atWarnings.status?.findings.length).toBeGreaterThan(0);
    expect(live.atWarnings.calls).toEqual([]);
    expect(live.atWarningsOnPool).toEqual([]);
    expect(live.steps.slice(0, 2)).toEqual(['probeTransports', 'preflight']);
  });
});

describe('stages', () => {
  it('[S3] shows the four stages of the guide to a query, and its own as a search attribute', () => {
    expect([...new Set(live.samples.map(({ guideStage }) => guideStage))]).toEqual(GUIDE_STAGES);
    expect(live.atWarnings).toMatchObject({ stage: 'preflight', waitingFor: 'warnings' });
    const attributes = new Set(live.samples.map(({ attribute }) => attribute));
    for (const gate of ['preflight', 'tools-removal', 'verification', 'cutover', 'acceptance'])
      expect(attributes).toContain(gate);
  });

  it('[S11] never shows less progress than before', () => {
    const percents = live.samples.map(({ percent }) => percent);
    expect(percents).toEqual([...percents].sort((a, b) => a - b));
    expect(new Set(percents).size).toBeGreaterThan(3);
  });

  it('[S74] [S91] are all gone through, in order, by a VM that was started with its name and no flag', () => {
    expect(byDefault.report.stages.map(({ stage }) => stage)).toEqual([...STAGES]);
    expect(byDefault.report.record.filter(({ by }) => by === OPERATOR).map(({ text }) => text)).toEqual([
      'confirmToolsRemoved was accepted.',
      'acceptTestCopy was accepted.',
      'approveCutover was accepted.',
      'acceptMigration was accepted.',
    ]);
  });

  it('[S97] go on when the watching shell is killed, and who attaches again is told the whole story', () => {
    const { exitCode, lines, delays } = live.watchers;
    const told = lines.filter(({ event }) => event === 'stage').map(({ stage }) => stage);
    expect(told, `killed after ${delays.join(', ')} ms`).toEqual([...STAGES]);
    expect(lines.at(-1)).toMatchObject({ event: 'end', outcome: 'migrated' });
    expect(exitCode).toBe(0);
  });
});

describe('source', () => {
  it('[S79] gets a snapshot "vm starting point" without memory, whose MoRef is recorded', () => {
    const { status, source } = live.atTools;
    const moRef = status.artifacts.baselineSnapshot;
    expect(moRef).toMatch(/^snapshot-/);
    expect(source.snapshots).toEqual([{ name: 'vm starting point', moRef, parent: undefined, state: 'poweredOff' }]);
  });

  it('[S85] gets "vm without tools" on top of "vm starting point"', () => {
    expect(byDefault.midCopy.source.snapshots).toMatchObject([
      { name: 'vm starting point', parent: undefined },
      { name: 'vm without tools', parent: 'vm starting point', state: 'poweredOff' },
    ]);
  });

  it('[S87] is without Tools in "vm without tools": the evidence was recorded before it was taken', () => {
    const line = (start: string) => live.report.record.findIndex(({ text }) => text.startsWith(start));
    const evidence = line('Evidence: Tools are gone, and the guest booted since');
    expect(live.report.record[evidence]?.evidence).toMatchObject({ toolsInstalled: false });
    expect(evidence).toBeLessThan(line('Snapshot "vm without tools" was taken'));
  });

  it('[S94] never gets the automatic snapshot of the mode without gates: only the named ones are taken', () => {
    const taken = live.calls.untilApproval.filter(({ method }) => method === 'CreateSnapshot_Task');
    const named = live.report.record.filter(({ text }) => /^Snapshot "vm (starting point|without tools)"/.test(text));
    expect([named.length, taken.length]).toEqual([2, 2]);
  });

  it('[S75] has seen nothing but snapshots and its tracking flag when the cutover is approved', () => {
    const reads = ['QueryChangedDiskAreas'];
    const done = live.calls.untilApproval.map(({ method }) => method).filter((method) => !reads.includes(method));
    expect(done).toEqual([
      'ReconfigVM_Task',
      'CreateSnapshot_Task',
      'CreateSnapshot_Task',
      'RemoveSnapshot_Task',
      'RemoveSnapshot_Task',
    ]);
  });

  it('[S92] [S95] runs on, without a pause or a restart, until the cutover is approved', () => {
    expect(live.midCopy.source).toMatchObject({ powerState: 'poweredOn', bootTime: live.rebooted.bootTime });
    expect(live.atPowerOff.source).toMatchObject({ powerState: 'poweredOn', bootTime: live.rebooted.bootTime });
    const before = live.samples.filter(({ stage }) => STAGES.indexOf(stage as 'cutover') < STAGES.indexOf('cutover'));
    expect(new Set(before.map(({ power }) => power))).toEqual(new Set(['poweredOn']));
  });

  it('[S29] is opened read-only by every nbdkit, and a VM that is off keeps every bit through its migration', () => {
    const commands = [...live.midCopy.nbdkits, ...byDefault.midCopy.nbdkits].map(({ argv }) => argv);
    expect(commands.length).toBeGreaterThanOrEqual(3);
    for (const argv of commands) expect(argv).toContain('-r');
    const reading = passesOf(live, byDefault, cold).filter(({ bytesRead }) => bytesRead > 0);
    for (const { nbdkit } of reading) expect(nbdkit).toMatch(/^nbdkit -r /);
    const opened = byDefault.vddk.filter(({ call }) => call === 'ConnectEx');
    expect(new Set(opened.map(({ readOnly }) => readOnly))).toEqual(new Set(['true']));
    expect(cold.after).toEqual(cold.before);
    expect(cold.source).toMatchObject({ powerState: 'poweredOff', snapshots: [] });
    expect(cold.equal).toEqual([true]);
  });

  it('[S114] [S113] is read for the last pass only when it has been seen off, and nothing starts before', () => {
    const off = Date.parse(live.report.downtime?.poweredOffAt ?? '');
    const approved = live.report.record.find(({ text }) => text.startsWith('approveCutover was accepted'))?.at ?? '';
    const reads = live.calls.all.filter(
      ({ method, time }) => method === 'GET' && Date.parse(time) > Date.parse(approved),
    );
    expect(reads.length).toBeGreaterThan(0);
    for (const { time } of reads) expect(Date.parse(time)).toBeGreaterThan(off);
    expect(live.atPowerOff.status.disks.map(({ passes }) => passes.length)).toEqual([1, 1]);
    expect(live.atPowerOff.target.vm).toMatchObject({ power_state: 'Halted', name_label: '[Importing...] live' });
    expect(Object.keys(live.atPowerOff.target.vm['blocked_operations'] as object).sort()).toEqual([
      'start',
      'start_on',
    ]);
  });
});

describe('transfer', () => {
  it('[S1] records for each disk and pass the nbdkit command without secrets, its plugin and the VDDK version', () => {
    expect(passesOf(live).map(({ versions }) => versions)).toEqual(
      Array(4).fill(expect.stringMatching(/^nbdkit [\d.]+, curl plugin [\d.]+$/)),
    );
    expect(passesOf(byDefault).map(({ versions }) => versions)).toEqual(
      Array(2).fill(expect.stringMatching(/^nbdkit [\d.]+, vddk plugin [\d.]+, VDDK [\d.]+$/)),
    );
    for (const { nbdkit } of passesOf(byDefault)) expect(nbdkit).toMatch(/ vddk .* password=-3/);
    const { vsphere, pools } = bench.lab.description;
    const argv = [...live.midCopy.nbdkits, ...byDefault.midCopy.nbdkits].map((one) => one.argv);
    const texts = JSON.stringify([live.report, byDefault.report, argv]);
    for (const secret of [vsphere.password, ...pools.map(({ password }) => password)])
      expect(texts).not.toContain(secret);
    expect(texts).not.toContain('vmware_soap_session');
  });

  it('[S26] has ESXi compress what VDDK reads, unless told otherwise, and the record of each pass says so', () => {
    for (const { nbdkit } of passesOf(byDefault)) expect(nbdkit).toContain(' transports=nbdssl compression=fastlz ');
  });

  it('records by which way VDDK read each disk: with encryption, unless told otherwise', () => {
    expect(passesOf(byDefault).map(({ vddkWays }) => vddkWays)).toEqual([['nbdssl'], ['nbdssl']]);
    expect(passesOf(live).map(({ vddkWays }) => vddkWays)).toEqual(Array(4).fill(undefined));
  });

  it('[S2] mounts nothing', () => {
    expect(live.mounts.after).toEqual(live.mounts.before);
  });

  it('[S6] reads over https no more than what is allocated, and a block at each edge', () => {
    const served = (file: string) => bytesServed(live.calls.base, `/folder/live/${file} `);
    const read = ['live-flat.vmdk', 'live_1-flat.vmdk'].map(served);
    for (const [index, { bytes, extents }] of live.atVerification.allocated.entries()) {
      const most = bytes + 2 * extents * BLOCK_BYTES;
      expect(read[index]).toBeGreaterThan(bytes / 2);
      expect(read[index]).toBeLessThanOrEqual(most);
      expect(most, 'or it would prove nothing').toBeLessThan(live.report.disks[index]?.capacityBytes ?? 0);
    }
  });

  it('[S6] reads over VDDK no more than what is allocated, and a block at each edge', () => {
    const [{ bytes, extents } = { bytes: 0, extents: 0 }] = byDefault.allocated;
    const [disk] = byDefault.report.disks;
    const closed = byDefault.atVerification.vddk.filter(
      ({ call, path }) => call === 'Close' && String(path).includes('plain-bios/'),
    );
    const read = closed.reduce((sum, one) => sum + Number(one['bytes']), 0);
    const most = bytes + 2 * extents * BLOCK_BYTES;
    expect(read).toBeGreaterThan(bytes / 2);
    expect(read).toBeLessThanOrEqual(most);
    expect(most, 'or it would prove nothing').toBeLessThan(disk?.capacityBytes ?? 0);
  });

  it('[S8] keeps nothing of the disks on the transfer host while it copies them', () => {
    const { bytes, files, processCount } = live.midCopy.scratch;
    expect(processCount, 'surefire up, two workers, an nbdkit for each disk').toBeGreaterThanOrEqual(5);
    expect(files.length).toBeGreaterThan(0);
    expect(bytes, files.join()).toBeLessThan(MIB);
  });

  it('[S86] reads the first pass of all disks from "vm without tools", and from nothing else', () => {
    const clean = live.midCopy.source.snapshots.find(({ name }) => name === 'vm without tools')?.moRef;
    expect(live.report.disks.map(({ passes }) => passes[0]?.snapshotMoRef)).toEqual([clean, clean]);
    expect(live.atVerification.holds.before).toEqual([true, true]);
    expect(live.atVerification.equalsSnapshot).toEqual([true, true]);
    const overVddk = byDefault.midCopy.source.snapshots.find(({ name }) => name === 'vm without tools')?.moRef;
    const opened = byDefault.atVerification.vddk.filter(
      ({ call, path }) => call === 'Open' && String(path).includes('plain-bios/'),
    );
    expect(new Set(opened.map(({ snapshot }) => snapshot))).toEqual(new Set([overVddk]));
  });

  it('[S93] leaves out what is written while it copies, and the record says so', () => {
    expect(live.atVerification.holds.during).toEqual([false, false]);
    expect(live.report.record.map(({ text }) => text)).toContainEqual(
      expect.stringMatching(/^Snapshot "vm without tools" was taken at .*later writes are not in the first copy/),
    );
  });

  it('[S99] can be followed disk by disk: bytes done and to do, rate, time left', () => {
    expect(live.midCopy.steps.map(({ progress }) => progress?.disk).sort()).toEqual(['Hard disk 1', 'Hard disk 2']);
    for (const { progress } of live.midCopy.steps) {
      expect(progress?.doneBytes).toBeLessThan(progress?.totalBytes ?? 0);
      expect(progress?.bytesPerSecond).toBeGreaterThan(0);
      expect(progress?.text).toMatch(/^\d+ % · .* of .* · .*\/s, .* left( · slowest: [A-Za-z -]+)?$/);
    }
  });

  it('[S28] has moved more than nine tenths of the bytes when the source goes off, by the count of the pool', () => {
    const off = Date.parse(live.report.downtime?.poweredOffAt ?? '');
    const vdis = live.report.disks.map(({ vdiUuid }) => vdiUuid);
    const puts = live.imports.filter(({ vdiUuid }) => vdis.includes(vdiUuid));
    const bytes = (some: typeof puts) => some.reduce((sum, { writtenBytes }) => sum + writtenBytes, 0);
    expect(bytes(puts.filter(({ finishedAt = '' }) => Date.parse(finishedAt) < off)) / bytes(puts)).toBeGreaterThan(
      0.9,
    );
    expect(live.report.warmShare).toBeGreaterThan(0.9);
  });

  it('[S115] [S116] sends at cutover what vCenter says was written since, and then both sides are equal', () => {
    for (const [index, { bytes, count }] of live.atAcceptance.changed.entries()) {
      const last = live.report.disks[index]?.passes.at(-1);
      expect(last).toMatchObject({ kind: 'delta', deltaMethod: 'cbt', verified: 'read-back' });
      expect(bytes).toBeGreaterThan(0);
      expect(last?.bytesSent).toBeGreaterThan(0);
      expect(last?.bytesSent).toBeLessThanOrEqual(bytes + count * BLOCK_BYTES);
      expect(last?.bytesRead).toBeLessThanOrEqual(bytes + count * BLOCK_BYTES);
    }
    expect(live.equal).toEqual([true, true]);
    expect(byDefault.equal).toEqual([true]);
  });
});

describe('target', () => {
  it('[S98] is called [Importing...] while it is filled, and by its own name afterwards', () => {
    expect(live.midCopy.target.vm.name_label).toBe('[Importing...] live');
    expect(live.atAcceptance.target.vm.name_label).toBe('live');
  });

  it('[S100] [S102] refuses to be started until it is complete, while its test copy runs', () => {
    expect(live.midCopy.start).toContain('OPERATION_BLOCKED');
    expect(live.atVerification.start).toContain('OPERATION_BLOCKED');
    expect(live.atVerification.base.vm['power_state']).toBe('Halted');
    expect(live.atVerification.copy.vm['power_state']).toBe('Running');
    expect(live.atAcceptance.target.vm).toMatchObject({ power_state: 'Running', blocked_operations: {} });
  });

  it('[S16] boots by the firmware of its source, and never with Secure Boot forced upon it', () => {
    const boot = ({ vm }: (typeof live)['target']) => ({
      firmware: (vm['HVM_boot_params'] as Record<string, string>)['firmware'],
      ...(vm['platform'] as Record<string, string>),
    });
    const uefi = { firmware: 'uefi', 'device-model': 'qemu-upstream-uefi', secureboot: 'false' };
    expect(boot(byDefault.target)).toMatchObject({
      firmware: 'bios',
      'device-model': 'qemu-upstream-compat',
      secureboot: 'false',
    });
    expect(boot(live.midCopy.target)).toMatchObject(uefi);
    expect(cold.report.findings.map(({ observed }) => observed)).toContain('It boots by UEFI with secure boot.');
    expect(boot(cold.target)).toMatchObject(uefi);
  });

  it('[S19] has the CD drive of its source, empty', () => {
    for (const { cds } of [live.target, byDefault.target, cold.target])
      expect(cds).toMatchObject([{ type: 'CD', empty: true, VDI: 'OpaqueRef:NULL' }]);
  });

  it('[S13] [S96] [S117] has a snapshot after the first pass and one after the last, by the names of the guide', () => {
    expect(live.atVerification.base.snapshots).toEqual(['after partial import from V2V']);
    expect([...live.atAcceptance.target.snapshots].sort()).toEqual([
      'after partial import from V2V',
      'complete import from V2V',
    ]);
    expect([...live.target.snapshots].sort()).toEqual([...live.atAcceptance.target.snapshots].sort());
  });

  it('[S132] are counted where Prometheus fetches them: bytes read, sent and left out, and what was waited for', () => {
    const sum = (name: string, tag: string) =>
      prometheus
        .split('\n')
        .filter((line) => line.startsWith(`${name}{`) && line.includes(tag))
        .reduce((total, line) => total + Number(line.split(' ').at(-1)), 0);
    const passes = [live, byDefault, cold].flatMap(({ report }) => report.disks.flatMap((disk) => disk.passes));
    const total = (figure: 'bytesRead' | 'bytesSent') => passes.reduce((all, pass) => all + pass[figure], 0);
    expect(sum('surefire_transfer_bytes_total', 'kind="read"')).toBe(total('bytesRead'));
    expect(sum('surefire_transfer_bytes_total', 'kind="sent"')).toBe(total('bytesSent'));
    expect(sum('surefire_transfer_bytes_total', 'kind="zero"')).toBe(total('bytesRead') - total('bytesSent'));
    const reading = passes.reduce((all, { spent }) => all + spent.read, 0);
    expect(sum('surefire_transfer_wait_milliseconds_total', 'leg="read"') / 1000).toBeCloseTo(reading, 1);
  });

  it('[S12] carries on each VDI how much each pass moved, in what time and how fast', () => {
    for (const [index, { other_config: keys, ...vdi }] of live.target.vdis.entries()) {
      for (const { pass, kind, bytesSent: bytes } of live.report.disks[index]?.passes ?? []) {
        const facts = JSON.parse(keys[`surefire:metrics-${pass}`] ?? '{}') as Record<string, number>;
        expect(facts).toMatchObject({ kind, bytes, seconds: expect.any(Number) as number });
        expect(Number.isFinite(facts['bytesPerSecond'])).toBe(true);
        expect(vdi['name_description']).toMatch(new RegExp(`^${pass} \\(${kind}\\): .* in .*/s(, slowest: .+)?$`, 'm'));
      }
    }
  });
});

describe('test copy', () => {
  it('[S101] is a clone whose boot changed its own disks and nothing of the base', () => {
    const { digests, copy, base } = live.atVerification;
    expect(digests.base).toEqual(digests.frozen);
    expect(digests.copy[0]).not.toBe(digests.frozen[0]);
    expect(copy.vm.uuid).not.toBe(base.vm.uuid);
    expect(copy.vdis.map(({ uuid }) => uuid)).not.toEqual(base.vdis.map(({ uuid }) => uuid));
    expect(live.atApproval.base).toEqual(digests.base);
  });

  it('[S103] runs on a network without a physical interface, with the MAC of its source', () => {
    const { copy, status } = live.atVerification;
    expect(copy.networks).toMatchObject([{ PIFs: [] }]);
    const mac = bench.lab.description.vms.find(({ name }) => name === 'live')?.mac;
    expect(copy.vifs).toMatchObject([{ MAC: mac }]);
    expect(status.testEvidence?.vifs).toMatchObject([{ mac, hasPif: false }]);
  });

  it('[S104] is called crash-consistent in the record', () => {
    expect(live.report.record.map(({ text }) => text)).toContainEqual(
      expect.stringMatching(/^The test copy runs \(crash-consistent/),
    );
  });

  it('[S105] boots: the guest says so on its console with its files whole, and a picture of it is kept', async () => {
    expect(live.atVerification.bootProof).toMatch(/ firmware=uefi .* payload=ok data=ok /);
    expect(live.report.testEvidence?.booted).toBe(true);
    const picture = live.report.testEvidence?.consolePicture;
    const kept = await readFile(picture?.file ?? '');
    expect(kept.subarray(1, 4).toString()).toBe('PNG');
    expect(kept.length).toBe(picture?.bytes);
  });

  it('[S106] has a network that works: its address is seen on the isolated network', () => {
    const ip = bench.lab.description.vms.find(({ name }) => name === 'live')?.ip;
    expect(live.report.testEvidence?.addresses).toEqual([ip]);
  });

  it('[S109] is judged by a person, with name, time and words', () => {
    expect(live.report.record.find(({ text }) => text === 'acceptTestCopy was accepted.')).toMatchObject({
      stage: 'verification',
      at: expect.stringMatching(/^\d{4}-.*Z$/) as string,
      by: OPERATOR,
      reason: 'it boots, and the shop answers',
    });
  });

  it('[S91] [S111] stands in the way of the cutover until it is accepted and gone', () => {
    expect(live.atVerification.cutover).toMatchObject({ type: 'WrongStage' });
    expect(live.steps.indexOf('destroyTestCopy')).toBeGreaterThan(live.steps.indexOf('startTestCopy'));
    expect(live.steps.indexOf('destroyTestCopy')).toBeLessThan(live.steps.indexOf('requestGuestShutdown'));
  });

  it('[S110] [S111] leaves nothing when it is removed: no VM, card, drive, disk, network or file', () => {
    expect(live.atApproval.objectCount).toBeGreaterThanOrEqual(7);
    expect(live.atApproval.left).toEqual([]);
    expect(live.atApproval.filesLeft).toBe(0);
    expect(live.report.leftovers).toEqual([]);
  });
});

describe('secrets', () => {
  it('[S18] are nowhere: not in histories, process lists, logs, files or what the command line says', () => {
    expect(secrets.length, 'two passwords, and a session of each worker with each side').toBeGreaterThanOrEqual(6);
    for (const [kind, haystack] of Object.entries({ ...scanned, said }))
      for (const [index, secret] of secrets.entries())
        expect(placesOf(secret, haystack), `${kind} has secret ${index}`).toEqual([]);
  });

  it('would have been found there: what was planted, and what must be known, is seen in each place', () => {
    const { arguments: commands, environment, running, pending, history, state } = scanned;
    expect(placesOf(`argument-${CANARY}`, commands)).not.toEqual([]);
    expect(placesOf(`variable-${CANARY}`, environment)).not.toEqual([]);
    expect(placesOf(CANARY, running)).toEqual([expect.stringMatching(/decoy$/)]);
    expect(placesOf(CANARY, history)).toEqual([expect.stringMatching(/^history of /)]);
    const holding = placesOf(CANARY, state);
    expect(holding).toContainEqual(expect.stringMatching(/decoy\.log$/));
    expect(holding).toContainEqual(expect.stringMatching(/temporal\.db/));
    for (const program of ['--exit-with-parent', 'transfer', 'orchestrator', 'start-dev', 'watch'])
      expect(placesOf(program, commands), program).not.toEqual([]);
    expect(placesOf('Hard disk 1', pending), 'the heartbeat of a copy').not.toEqual([]);
    expect(placesOf('worker is ready', state).length, 'the logs of both workers').toBe(2);
    for (const [command, text] of said) expect(text.length, command).toBeGreaterThan(50);
  });

  it('are found in each spelling', () => {
    const secret = 'pa ss"wörd';
    for (const pad of ['', 'a', 'ab']) {
      const payload = Buffer.from(`${pad}${secret}.`).toString('base64');
      expect(placesOf(secret, new Map([['payload', payload]])), payload).toEqual(['payload']);
    }
    for (const text of [`x${secret}`, JSON.stringify({ secret }), `?p=${encodeURIComponent(secret)}`])
      expect(placesOf(secret, new Map([['text', text]])), text).toEqual(['text']);
    expect(placesOf(secret, new Map([['text', 'pa ss']]))).toEqual([]);
  });
});

/** What commands print on both streams, by command. */
async function talk(...commands: string[][]): Promise<Map<string, string>> {
  const texts = new Map<string, string>();
  for (const command of commands) {
    const { stdout, stderr } = await runCli([...command, '--config', bench.config.path], cliOf(bench));
    texts.set(command.join(' '), `${stdout}\n${stderr}`);
  }
  return texts;
}

const passesOf = (...journeys: { report: { disks: (typeof live.report)['disks'] } }[]) =>
  journeys.flatMap(({ report }) => report.disks.flatMap(({ passes }) => passes));

/** Sum of the ranges that were asked of one file. */
function bytesServed(calls: LabCall[], file: string): number {
  const asked = calls.filter(({ method, object }) => method === 'GET' && object.startsWith(file));
  const ranges = asked.map(({ object }) => /bytes=(\d+)-(\d+)$/.exec(object));
  return ranges.reduce((sum, range) => sum + Number(range?.[2] ?? Infinity) - Number(range?.[1] ?? 0) + 1, 0);
}
