import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { open, readdir, readFile, readlink, stat } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { execa } from 'execa';
import { cachePath } from '../../lab/cache.js';
import type { Bench } from './harness.js';

// What there is, past surefire's own adapters and its word.

interface Tree {
  snapshot: { value: string };
  name: string;
  state: string;
  childSnapshotList?: Tree[];
}

/** The source as govc and the lab's own door show it. A snapshot's `state` is `poweredOff` where it holds no memory. */
export async function lookAtSource(bench: Bench, vm: string) {
  const { moRef, powerState, bootTime } = await bench.vsphere.vm(vm);
  const { url, username, password } = bench.lab.description.vsphere;
  const env = { GOVC_URL: url, GOVC_USERNAME: username, GOVC_PASSWORD: password };
  const { stdout } = await execa(
    cachePath('bin', 'govc'),
    ['object.collect', '-json', `VirtualMachine:${moRef}`, 'snapshot.rootSnapshotList'],
    { env: { ...env, GOVC_INSECURE: '1', GOVC_PERSIST_SESSION: 'false' }, timeout: 250_000 },
  );
  const [answer] = JSON.parse(stdout) as { val?: { _value?: Tree[] } }[];
  return { moRef, powerState, bootTime, snapshots: flatten(answer?.val?._value ?? []) };
}

type SeenSnapshot = { name: string; moRef: string; parent: string | undefined; state: string };

function flatten(trees: Tree[], parent?: string): SeenSnapshot[] {
  return trees.flatMap(({ snapshot, name, state, childSnapshotList = [] }) => [
    { name, moRef: snapshot.value, parent, state },
    ...flatten(childSnapshotList, name),
  ]);
}

interface XapiRecord extends Record<string, unknown> {
  uuid: string;
  name_label: string;
  other_config: Record<string, string>;
}

/** A VM on the pool as XAPI shows it, with its drives, disks, cards and snapshots. */
export async function lookAtVm({ api }: Bench, vmUuid: string) {
  const ref = await api.call('VM.get_by_uuid', vmUuid);
  const vm = await api.call<XapiRecord>('VM.get_record', ref);
  const all = (cls: string, refs: unknown) =>
    Promise.all((refs as string[]).map((one) => api.call<XapiRecord>(`${cls}.get_record`, one)));
  const vbds = await all('VBD', vm['VBDs']);
  const vifs = await all('VIF', vm['VIFs']);
  const snapshots = await all('VM', vm['snapshots']);
  const disks = vbds.filter(({ type }) => type === 'Disk');
  disks.sort((a, b) => Number(a['userdevice']) - Number(b['userdevice']));
  return {
    ref,
    vm,
    vbds,
    vifs,
    cds: vbds.filter(({ type }) => type === 'CD'),
    vdis: await all(
      'VDI',
      disks.map(({ VDI }) => VDI),
    ),
    networks: await all(
      'network',
      vifs.map(({ network }) => network),
    ),
    snapshots: snapshots.map(({ name_label: name }) => name),
  };
}

/** Which of these objects the pool still has. */
export async function stillThere({ api }: Bench, objects: { cls: string; uuid: string }[]): Promise<string[]> {
  const found = await Promise.all(
    objects.map(async ({ cls, uuid }) => {
      const there = await api.call(`${cls}.get_by_uuid`, uuid).catch(() => undefined);
      return there === undefined ? [] : [`${cls} ${uuid}`];
    }),
  );
  return found.flat();
}

/** What the guest says on its console once it has booted: that it is this disk, and that its files are whole. */
export async function bootProofOf({ lab, pool }: Bench, vm: string, vmUuid: string): Promise<string | undefined> {
  const made = lab.description.vms.find(({ name }) => name === vm);
  const place = (await pool.vms())[vmUuid];
  const said = await readFile(place?.consolePath ?? '', 'utf8').catch(() => '');
  return new RegExp(`^BOOTPROOF nonce=${made?.nonce} .*[^]*?^GUESTMETRICS `, 'm').exec(said)?.[0].split('\n')[0];
}

export const configFileOf = ({ lab }: Bench): string => join(dirname(lab.description.stateDir), 'surefire.yaml');

export interface Process {
  pid: string;
  argv: string[];
}

/** Every process of this machine whose command line can be read. */
export async function processes(): Promise<Process[]> {
  const pids = (await readdir('/proc')).filter((name) => /^\d+$/.test(name));
  return Promise.all(
    pids.map(async (pid) => {
      const text = await readFile(join('/proc', pid, 'cmdline'), 'utf8').catch(() => '');
      return { pid, argv: text.split('\0').slice(0, -1) };
    }),
  );
}

/** The nbdkit processes that read from this bench's vCenter now. */
export async function nbdkitsOf({ lab }: Bench): Promise<Process[]> {
  const { host, port } = new URL(lab.description.vsphere.url);
  const ours = (argument: string) => argument === `port=${port}` || argument.startsWith(`url=http://${host}/`);
  return (await processes()).filter(({ argv }) => argv.includes('--exit-with-parent') && argv.some(ours));
}

interface Scratch {
  bytes: number;
  files: string[];
  processCount: number;
}

/** What those nbdkits and the processes of `surefire up` keep on disk beside Temporal's own: bytes, and where. */
export async function scratchOf(bench: Bench): Promise<Scratch> {
  const nbdkits = await nbdkitsOf(bench);
  const config = configFileOf(bench);
  const up = (await processes()).filter(({ argv }) => argv.includes(config));
  const folders = nbdkits.map(({ argv }) => dirname(argv[argv.indexOf('-U') + 1] ?? ''));
  const named = await Promise.all([bench.config.transfer.runDir, ...folders].map(filesUnder));
  const held = await Promise.all([...nbdkits, ...up].map(({ pid }) => openFilesOf(pid)));
  const files = [...new Set([...named.flat(), ...held.flat()])];
  // Through /proc also a file that has no name any more has a size.
  const sizes = await Promise.all(
    files.map((file) =>
      stat(file).then(
        ({ size }) => size,
        () => 0,
      ),
    ),
  );
  return { bytes: sizes.reduce((sum, size) => sum + size, 0), files, processCount: nbdkits.length + up.length };
}

async function filesUnder(folder: string): Promise<string[]> {
  const entries = await readdir(folder, { recursive: true, withFileTypes: true }).catch(() => []);
  return entries.filter((entry) => entry.isFile()).map((entry) => join(entry.parentPath, entry.name));
}

/** Regular files that a process has open for writing, but for its log. */
async function openFilesOf(pid: string): Promise<string[]> {
  const folder = join('/proc', pid, 'fd');
  const numbers = (await readdir(folder).catch(() => [])).filter((number) => Number(number) > 2);
  const found = await Promise.all(
    numbers.map(async (number) => {
      const info = await readFile(join('/proc', pid, 'fdinfo', number), 'utf8').catch(() => '');
      const isWritten = (parseInt(/^flags:\s*(\d+)/m.exec(info)?.[1] ?? '0', 8) & 3) !== 0;
      const path = await readlink(join(folder, number)).catch(() => '');
      const isRegular = path.startsWith('/') && !path.startsWith('/dev/') && !path.startsWith('/proc/');
      return isWritten && isRegular ? [join(folder, number)] : [];
    }),
  );
  return found.flat();
}

/** Mounts that this machine and every process of `surefire up` sees. */
export async function mountsSeen(bench: Bench): Promise<string[]> {
  const config = configFileOf(bench);
  const up = (await processes()).filter(({ argv }) => argv.includes(config));
  const tables = await Promise.all(
    ['self', ...up.map(({ pid }) => pid)].map((pid) => readFile(join('/proc', pid, 'mounts'), 'utf8')),
  );
  return [...new Set(tables.flatMap((table) => table.trim().split('\n')))].sort();
}

export async function digestOf(path: string): Promise<string> {
  const hash = createHash('sha256');
  for await (const piece of createReadStream(path)) hash.update(piece as Buffer);
  return hash.digest('hex');
}

export async function bytesAt(path: string, offset: number, length: number): Promise<Buffer> {
  const file = await open(path);
  try {
    const { buffer } = await file.read(Buffer.alloc(length), 0, length, offset);
    return buffer;
  } finally {
    await file.close();
  }
}

/** Where a raw file holds data, as the file system tells qemu-img. */
export async function allocationOf(path: string): Promise<{ bytes: number; extents: number }> {
  const { stdout } = await execa('qemu-img', ['map', '-f', 'raw', '--output=json', path]);
  const areas = (JSON.parse(stdout) as { length: number; data: boolean }[]).filter(({ data }) => data);
  return { bytes: areas.reduce((sum, { length }) => sum + length, 0), extents: areas.length };
}
