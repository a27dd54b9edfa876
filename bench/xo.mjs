// xo.mjs DIR NBD_PORT SINK_PORT: Xen Orchestra's import from VMware as its own code composes it, from the packages in DIR:
// NbdDisk in blocks of 2 MiB, read ahead, VHD stream (QCOW2 above 2 TiB), Xapi#putResource. Nothing of Xen Orchestra is here
// or committed; README.md says how DIR is made. Prints what ours.ts prints.
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { monitorEventLoopDelay } from 'node:perf_hooks';
import { pathToFileURL } from 'node:url';

const [dir, nbdPort, sinkPort] = process.argv.slice(2);
const { resolve } = createRequire(`${dir}/package.json`);
const load = (name) => import(pathToFileURL(resolve(name)));

const { NbdDisk } = await load('@vates/nbd-client/NbdDisk.mjs');
const { ReadAhead } = await load('@xen-orchestra/disk-transform');
const { toVhdStream } = await load('vhd-lib/disk-consumer/index.mjs');
const { toQcow2Stream } = await load('@xen-orchestra/qcow2');
const { Xapi } = await load('xen-api');

const BLOCK_BYTES = 2 * 1024 * 1024;
const VHD_LIMIT_BYTES = 2040 * 1024 ** 3;
const RESOLUTION_MS = 5;

// A client that believes it is connected: only putResource is used, and there is no XAPI behind.
const xapi = new Xapi({
  url: `https://127.0.0.1:${sinkPort}`,
  ...{ auth: { sessionId: 'OpaqueRef:s' }, allowUnauthorized: true, watchEvents: false, readOnly: false },
});
Object.assign(xapi, { _status: 'connected', _sessionId: 'OpaqueRef:s', _pool: { other_config: {} } });

console.log('ready');
const loop = monitorEventLoopDelay({ resolution: RESOLUTION_MS });
loop.enable();
const cpu = process.cpuUsage();
const startedAt = performance.now();

const source = new NbdDisk({ address: '127.0.0.1', port: Number(nbdPort), exportname: '' }, BLOCK_BYTES);
await source.init();
const disk = new ReadAhead(source);
const format = disk.getVirtualSize() > VHD_LIMIT_BYTES ? 'qcow2' : 'vhd';
const stream = await (format === 'vhd' ? toVhdStream(disk, {}) : toQcow2Stream(disk, {}));
const query = { format, vdi: 'OpaqueRef:v' };
await xapi.putResource(stream, '/import_raw_vdi/', { query, task: false });
await disk.close();

const { user, system } = process.cpuUsage(cpu);
const wall = (performance.now() - startedAt) / 1000;
const late = (nanoseconds) => Math.max(0, nanoseconds / 1e6 - RESOLUTION_MS);
const rss = Number(/^VmHWM:\s+(\d+)/m.exec(readFileSync('/proc/self/status', 'utf8'))[1]) / 1024;
const [loopP99Ms, loopMaxMs] = [late(loop.percentile(99)), late(loop.max)];
console.log(JSON.stringify({ wall, user: user / 1e6, sys: system / 1e6, rss, loopP99Ms, loopMaxMs }));
process.exit(0);
