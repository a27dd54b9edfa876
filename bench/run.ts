import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { mkdir, readFile, rm, writeFile } from 'node:fs/promises';
import net from 'node:net';
import { dirname, join } from 'node:path';
import { createInterface } from 'node:readline';
import type { Readable } from 'node:stream';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { makeChain } from '../lab/vddk/chain.js';
import { makeVddkLibdir } from '../lab/vddk/libdir.js';
import { openVddk, startNbdkit } from '../src/nbd/index.js';
import type { Row } from './cases.js';
import type { Disk } from './disks.js';
import { cpuSecondsOf, machineSeconds } from './machine.js';
import { READY, WARM_UPS, type Job, type Taken } from './ours.js';
import type { Programs } from './programs.js';

const LONGEST_RUN_MS = 600_000;

export interface Bench {
  programs: Programs;
  /** Folder of this run: certificate, sockets, images. */
  folder: string;
  /** Where the disks are, and what qemu-img writes: memory, best. */
  disksFolder: string;
  nbdkit: string;
  certFile: string;
  keyFile: string;
  temporalAddress?: string;
  /** Checkout of Xen Orchestra with its packages installed. */
  xoDir?: string;
}

/** What one run took and moved. */
export interface Run extends Taken {
  /** Payload bytes the pass had to move, and all bytes that reached the receiver. */
  bytes: number;
  sent?: number;
  nbdkitCpu: number;
  sinkCpu?: number;
  /** CPUs in use by anything that is not ours meanwhile, and taken by the machine's host. */
  foreign: number;
  stolen: number;
}

interface Sink {
  port: number;
  pids: number[];
  puts: { wire: number; data: number; ok: boolean }[];
  stop(): Promise<void>;
}

/** Runs one row once: nbdkits, a sink and the mover are all started anew. */
export async function runRow(bench: Bench, row: Row, disk: Disk): Promise<Run> {
  const count = row.count ?? 1;
  const kits = await Promise.all(
    Array.from({ length: count }, () => (row.by === 'xo' ? startTcpNbdkit(bench, disk) : startKit(bench, row, disk))),
  );
  const sockets = kits.map((kit) => kit.address);
  const needsSink = row.by === 'ours' || row.by === 'mover' || row.by === 'xo';
  const sink = needsSink ? await startSink(bench, row) : undefined;
  const pids = { nbdkit: kits.map((kit) => kit.pid), sink: sink?.pids ?? [] };
  const look = async () => ({
    ...{ at: performance.now(), machine: await machineSeconds() },
    ...{ nbdkit: await sumOf(pids.nbdkit), sink: await sumOf(pids.sink) },
  });
  try {
    let before = look();
    const taken = await runMover(bench, row, disk, sockets, sink?.port ?? 0, () => void (before = look()));
    const [began, ended] = [await before, await look()];
    const seconds = (ended.at - began.at) / 1000;
    const warmUps = row.by === 'ours' && isWarm(row) ? WARM_UPS : 0;
    const puts = row.mapOnly === true || sink === undefined ? 0 : count + warmUps;
    for (const until = Date.now() + 5_000; sink && sink.puts.length < puts && Date.now() < until;) await sleep(10);
    // Xen Orchestra probes with an import that it breaks off.
    if (sink && (sink.puts.length < puts || (row.by !== 'xo' && sink.puts.some(({ ok }) => !ok)))) {
      throw new Error(`${row.name}: a PUT did not end well`);
    }
    const [nbdkitCpu, sinkCpu] = [ended.nbdkit - began.nbdkit, ended.sink - began.sink];
    return {
      ...taken,
      bytes: (row.delta === true ? disk.changedBytes : disk.allocatedBytes) * count,
      ...(sink === undefined || puts === 0
        ? {}
        : { sinkCpu, sent: sink.puts.slice(warmUps).reduce((sum, put) => sum + put.wire, 0) }),
      nbdkitCpu,
      foreign: Math.max(
        0,
        (ended.machine.busy - began.machine.busy - taken.user - taken.sys - nbdkitCpu - sinkCpu) / seconds,
      ),
      stolen: (ended.machine.stolen - began.machine.stolen) / seconds,
    };
  } finally {
    await Promise.all([...kits.map((kit) => kit.stop()), sink?.stop()]);
  }
}

interface Kit {
  /** Path of its socket, or its port. */
  address: string;
  pid: number;
  stop(): Promise<void>;
}

async function startKit({ nbdkit, folder }: Bench, { readMs, links }: Row, { path }: Disk): Promise<Kit> {
  if (links !== undefined) return startVddk(nbdkit, folder, path, links);
  const kit = await startNbdkit({
    ...{ nbdkitCommand: nbdkit, runDir: join(folder, 'run'), subject: path, plugin: ['file', path] },
    ...(readMs === undefined ? {} : { filters: ['delay'], extraArgs: [`rdelay=${readMs}ms`] }),
  });
  return { address: kit.socketPath, pid: kit.pid, stop: kit.stop };
}

/** Through the real vddk plugin and the lab's library, from a chain of links that hold the disk together. */
async function startVddk(nbdkitCommand: string, folder: string, path: string, links: number): Promise<Kit> {
  // Beside the disk: in memory as well, and gone with it.
  const root = `${path}.chain-${links}`;
  await mkdir(join(root, 'ds/vm'), { recursive: true });
  await mkdir(join(root, '@vms'), { recursive: true });
  const place = { root, datastore: 'ds', vm: 'vm', name: 'vm', snapshot: 'snap' };
  const [fileName = '', ...older] = await makeChain(path, links, place);
  await writeFile(join(root, '@vms/vm-1'), `${[fileName, ...older].join('\n')}\n`);
  const access = { server: '127.0.0.1', port: 443, username: 'u', password: 'p', thumbprintSha1: 'AA' };
  const libdir = await makeVddkLibdir({ dir: join(root, 'vddk'), root, ...access });
  const source = await openVddk({
    ...{
      ...access,
      libdir,
      nbdkitCommand,
      runDir: join(folder, 'run'),
      vmMoRef: 'vm-1',
      snapshotMoRef: 'snap',
      fileName,
    },
    ...{ transports: ['nbdssl'], compression: 'none' },
  });
  const pid = Number(await readFile(join(dirname(source.socketPath), 'pid'), 'utf8'));
  const stop = async () => {
    await source.stop();
    await rm(root, { recursive: true, force: true });
  };
  return { address: source.socketPath, pid, stop };
}

/** As Xen Orchestra starts it: TCP, and one thread. */
async function startTcpNbdkit({ nbdkit }: Bench, { path }: Disk): Promise<Kit> {
  const port = await freePort();
  const args = [
    '-r',
    '-f',
    '--exit-with-parent',
    '-i',
    '127.0.0.1',
    '-p',
    String(port),
    '--threads',
    '1',
    'file',
    path,
  ];
  const child = spawn(nbdkit, args, { stdio: 'ignore' });
  await untilListening(port);
  return { address: String(port), pid: child.pid ?? 0, stop: () => ended(child) };
}

function isWarm(row: Row): boolean {
  return row.fresh !== true && row.mapOnly !== true;
}

/** @param onReady Called when the mover says that the clock starts. */
function runMover(
  bench: Bench,
  row: Row,
  disk: Disk,
  sockets: string[],
  port: number,
  onReady: () => void,
): Promise<Taken> {
  const [socket = ''] = sockets;
  const { programs } = bench;
  const uri = `nbd+unix:///?socket=${socket}`;
  const measured = (...command: string[]) => answerOf(programs.measure, command, 3);
  switch (row.by) {
    case 'ours': {
      const job: Job = {
        ...{ sockets, port, caFile: bench.certFile, digests: row.digests === true, warm: isWarm(row) },
        ...(row.mapOnly === true ? { mapOnly: true } : {}),
        ...(row.delta === true ? { areasFile: disk.areasFile } : {}),
        ...(row.limits === undefined ? {} : { limits: row.limits }),
        ...(row.temporal === true ? { temporal: { address: bench.temporalAddress ?? '' } } : {}),
      };
      return answerOf(
        process.execPath,
        [fileURLToPath(new URL('./ours.js', import.meta.url)), JSON.stringify(job)],
        1,
        onReady,
      );
    }
    case 'mover':
      return measured(programs.mover, socket, String(port), '8', ...(row.delta === true ? [disk.areasFile] : []));
    case 'nbdcopy':
      return measured('nbdcopy', uri, 'null:');
    case 'nbdinfo':
      return measured('nbdinfo', '--map', '--json', uri);
    case 'qemu-img':
      return measured(
        'qemu-img',
        'convert',
        '-f',
        'raw',
        '-O',
        'raw',
        `${uri}`,
        join(bench.disksFolder, 'convert.raw'),
      );
    case 'xo': {
      const script = fileURLToPath(new URL('../../bench/xo.mjs', import.meta.url));
      return answerOf(
        process.execPath,
        [script, bench.xoDir ?? '', socket, String(port), String(disk.virtualBytes)],
        1,
      );
    }
  }
}

/** Runs a program and takes the JSON line that it writes on the descriptor. */
async function answerOf(command: string, args: string[], descriptor: 1 | 3, onReady?: () => void): Promise<Taken> {
  const child = spawn(command, args, {
    stdio: ['ignore', descriptor === 1 ? 'pipe' : 'ignore', 'pipe', ...(descriptor === 3 ? ['pipe' as const] : [])],
    timeout: LONGEST_RUN_MS,
    killSignal: 'SIGKILL',
  });
  let taken: (Taken & { status?: number }) | undefined;
  createInterface({ input: child.stdio[descriptor] as Readable }).on('line', (line) => {
    if (line === READY) onReady?.();
    else if (line.startsWith('{')) taken = JSON.parse(line) as Taken;
  });
  const complaints = textOf(child.stderr as Readable);
  const [code] = (await once(child, 'close')) as [number | null];
  if (code === 0 && taken !== undefined && (taken.status ?? 0) === 0) return taken;
  throw new Error(`${command} ${args.join(' ').slice(0, 200)} failed (${code}): ${(await complaints).slice(-600)}`);
}

async function textOf(stream: Readable): Promise<string> {
  let text = '';
  for await (const piece of stream) text += String(piece);
  return text;
}

/** The receiver; with stunnel as a XAPI host has it: TLS ends in stunnel, and the receiver behind it speaks plain HTTP. */
async function startSink({ programs, certFile, keyFile, folder }: Bench, row: Row): Promise<Sink> {
  const children: ChildProcess[] = [];
  const puts: Sink['puts'] = [];
  const child = spawn(programs.sink, row.stunnel === true ? ['plain'] : ['tls', certFile, keyFile], {
    stdio: ['ignore', 'pipe', 'inherit'],
    env: { ...process.env, SINK_WRITE_US: String((row.writeMs ?? 0) * 1000) },
  });
  children.push(child);
  let port = await new Promise<number>((resolve, reject) => {
    child.once('exit', () => reject(new Error('the sink ended')));
    createInterface({ input: child.stdout as Readable }).on('line', (line) => {
      if (line.startsWith('{')) puts.push(JSON.parse(line) as Sink['puts'][number]);
      else resolve(Number(line));
    });
  });
  if (row.stunnel === true) {
    const accept = await freePort();
    const conf = join(folder, 'stunnel.conf');
    await writeFile(
      conf,
      [
        ...['foreground = yes', 'pid =', 'debug = 3', 'sslVersion = TLSv1.2', 'curves = secp384r1', '[xapi]'],
        ...['ciphers = ECDHE-RSA-AES256-GCM-SHA384:ECDHE-RSA-AES128-GCM-SHA256', 'TIMEOUTclose = 0'],
        ...[`accept = 127.0.0.1:${accept}`, `connect = 127.0.0.1:${port}`, `cert = ${certFile}`, `key = ${keyFile}`],
      ].join('\n'),
    );
    children.push(spawn('stunnel', [conf], { stdio: ['ignore', 'ignore', 'ignore'] }));
    port = accept;
    await untilListening(port);
  }
  return {
    ...{ port, puts, pids: children.map(({ pid }) => pid ?? 0) },
    async stop() {
      await Promise.all(children.map(ended));
    },
  };
}

async function ended(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null) return;
  child.kill('SIGKILL');
  await once(child, 'exit');
}

async function sumOf(pids: number[]): Promise<number> {
  return (await Promise.all(pids.map(cpuSecondsOf))).reduce((sum, seconds) => sum + seconds, 0);
}

async function freePort(): Promise<number> {
  const server = net.createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as net.AddressInfo;
  server.close();
  await once(server, 'close');
  return port;
}

async function untilListening(port: number): Promise<void> {
  for (const until = Date.now() + 5_000; ;) {
    const socket = net.connect(port, '127.0.0.1');
    const open = await new Promise<boolean>((resolve) =>
      socket.once('connect', () => resolve(true)).once('error', () => resolve(false)),
    );
    socket.destroy();
    if (open) return;
    if (Date.now() > until) throw new Error(`nobody listens on port ${port}`);
    await sleep(20);
  }
}
