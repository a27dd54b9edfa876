import { createReadStream } from 'node:fs';
import { stat } from 'node:fs/promises';
import { Blake3Hasher } from '@napi-rs/blake-hash';
import type { MigrationReport, MigrationStatus } from '../../src/shared/index.js';
import { VsphereAdmin } from '../vsphere/admin.js';
import { XcpngAdmin } from '../xcpng/admin.js';
import type { Played, Stage } from './play.js';

/** One disk on both sides, judged from the files and nothing else. */
export interface CheckedDisk {
  deltaMethod: string;
  source: string;
  target: string;
  virtualSizeBytes: number;
  allocatedBytes: number;
  bytesRead: number;
  bytesSent: number;
  baseBytesSent: number;
  deltaBytesSent: number;
  sourceDigest: string;
  targetDigest: string;
}

export interface CheckedVm {
  name: string;
  outcome: string;
  firmware: string;
  transport: string;
  testCopyBooted: boolean;
  targetBooted: boolean;
  downtimeSeconds: number;
  disks: CheckedDisk[];
  leftovers: string[];
  /** What is not as it should be; empty when all is well. */
  wrong: string[];
}

/**
 * The test copy was a clone, and its boot changed nothing in the base: leaf and base snapshot hold the same bytes, while
 * the clone's disks have moved on, or the comparison could not fail.
 *
 * @throws Error naming the disk
 */
export async function checkBaseUntouched(
  { lab, surefire }: Pick<Stage, 'lab' | 'surefire'>,
  vm: string,
): Promise<void> {
  const { status } = (await surefire.must('status', vm)) as { status?: MigrationStatus };
  const snapshot = status?.artifacts.targetSnapshots.at(-1);
  const pool = new XcpngAdmin(lab.pool.adminUrl);
  const files = await pool.vdis();
  for (const { deviceKey, vdiUuid, label } of status?.disks ?? []) {
    const base = files[vdiUuid ?? ''];
    const frozen = files[snapshot?.disks.find((disk) => disk.deviceKey === deviceKey)?.vdiUuid ?? ''];
    if (!base || !frozen) throw new Error(`${label} of ${vm} has no base or no snapshot on the pool`);
    const [now, then] = [await digestOf(base.path), await digestOf(frozen.path)];
    if (now !== then) {
      throw new Error(`${label} of ${vm}: the base has changed since its snapshot, so the test copy wrote to it`);
    }
    if (status?.disks[0]?.deviceKey !== deviceKey) continue;
    // The guest counts its boots on its root disk, so the clone of that disk must differ.
    const clones = Object.values(files).filter((file) => file.name === base.name && file !== base && file !== frozen);
    const digests = await Promise.all(clones.map(({ path }) => digestOf(path)));
    if (digests.every((digest) => digest === then)) {
      throw new Error(`${label} of ${vm}: the test copy left no trace of its boot`);
    }
  }
  const evidence = status?.testEvidence;
  if (!evidence || evidence.vifs.length === 0 || evidence.vifs.some(({ hasPif }) => hasPif)) {
    throw new Error(`the test copy of ${vm} was not on a network without a physical interface`);
  }
}

/** Compares both sides from the files, and the program's own figures with the lab's counters. */
export async function checkVm({ lab }: Pick<Stage, 'lab'>, played: Played): Promise<CheckedVm> {
  const report = played.report as unknown as MigrationReport;
  const wrong: string[] = [];
  const expect = (isRight: boolean, what: string) => {
    if (!isRight) wrong.push(what);
  };
  expect(played.outcome === 'migrated', `it ended as ${played.outcome}: ${played.failure ?? ''}`);
  expect(played.testCopyBooted, 'its test copy was not seen to boot');
  expect(played.targetBooted, 'the target was not seen to boot');
  const disks = played.outcome === 'migrated' ? await checkDisks(lab, played.vm, report, expect) : [];
  expect(disks.length > 0, 'no disk was compared');
  return {
    name: played.vm,
    outcome: played.outcome,
    firmware: report.firmware ?? 'unknown',
    transport: report.transport ?? 'unknown',
    testCopyBooted: played.testCopyBooted,
    targetBooted: played.targetBooted,
    downtimeSeconds: report.downtime?.seconds ?? 0,
    disks,
    leftovers: report.leftovers ?? [],
    wrong,
  };
}

type Expect = (isRight: boolean, what: string) => void;

async function checkDisks(
  lab: Stage['lab'],
  vm: string,
  report: MigrationReport,
  expect: Expect,
): Promise<CheckedDisk[]> {
  const pool = new XcpngAdmin(lab.pool.adminUrl);
  const [files, imports] = [await pool.vdis(), await pool.imports()];
  const source = await new VsphereAdmin(lab.vsphere.adminUrl).vm(vm);
  expect(source.powerState === 'poweredOff', 'the source still runs');
  expect(source.snapshots.length === 0, `the source still has ${source.snapshots.length} snapshots`);
  const final = report.artifacts.targetSnapshots.find(({ name }) => name === 'complete import from V2V');
  const checked: CheckedDisk[] = [];
  for (const disk of report.disks) {
    const file = source.disks.find(({ deviceKey }) => deviceKey === disk.deviceKey)?.base;
    const target = files[final?.disks.find(({ deviceKey }) => deviceKey === disk.deviceKey)?.vdiUuid ?? ''];
    if (file === undefined || target === undefined) {
      expect(false, `${disk.label} is not on both sides`);
      continue;
    }
    const size = disk.capacityBytes;
    const [base, ...deltas] = disk.passes;
    const sum = (of: 'bytesRead' | 'bytesSent') => disk.passes.reduce((total, pass) => total + pass[of], 0);
    const received = imports
      .filter(({ vdiUuid }) => vdiUuid === disk.vdiUuid)
      .reduce((total, put) => total + put.writtenBytes, 0);
    const [sourceDigest, targetDigest] = [await digestOf(file, 0, size), await digestOf(target.path, 0, size)];
    expect(sourceDigest === targetDigest, `${disk.label}: source and target differ`);
    expect(await isZero(target.path, size), `${disk.label}: the rounded-up tail of the target is not zero`);
    expect(
      base?.kind === 'base' && deltas.every(({ kind }) => kind === 'delta'),
      `${disk.label}: more than one full pass`,
    );
    expect(
      deltas.some(({ bytesSent }) => bytesSent > 0),
      `${disk.label}: no delta was sent although the guest wrote`,
    );
    // One transfer serves test and cutover: what the pool received is base plus delta, and nothing twice.
    expect(
      received === sum('bytesSent'),
      `${disk.label}: the pool received ${received} bytes, ${sum('bytesSent')} were reported`,
    );
    expect(
      disk.passes.every(({ verified }) => verified === 'read-back'),
      `${disk.label}: a pass was not read back`,
    );
    checked.push({
      deltaMethod: deltas.at(-1)?.deltaMethod ?? 'none',
      source: file,
      target: target.path,
      virtualSizeBytes: size,
      allocatedBytes: (await stat(file)).blocks * 512,
      bytesRead: sum('bytesRead'),
      bytesSent: sum('bytesSent'),
      baseBytesSent: base?.bytesSent ?? 0,
      deltaBytesSent: deltas.reduce((total, pass) => total + pass.bytesSent, 0),
      sourceDigest,
      targetDigest,
    });
  }
  return checked;
}

/** BLAKE3 of a part of a file, read here and now. */
async function digestOf(path: string, from = 0, to = Number.POSITIVE_INFINITY): Promise<string> {
  const hasher = new Blake3Hasher();
  if (to > from)
    for await (const piece of createReadStream(path, { start: from, end: to - 1 })) hasher.update(piece as Buffer);
  return hasher.digest('hex');
}

/** True when a file holds only zeroes from a place on. */
async function isZero(path: string, from: number): Promise<boolean> {
  if ((await stat(path)).size <= from) return true;
  for await (const piece of createReadStream(path, { start: from })) {
    if ((piece as Buffer).some((byte) => byte !== 0)) return false;
  }
  return true;
}
