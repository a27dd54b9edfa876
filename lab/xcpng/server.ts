import { randomBytes } from 'node:crypto';
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import type { AddressInfo, Server, Socket } from 'node:net';
import { join } from 'node:path';
import { createServer } from 'node:tls';
import { openAdmin, type AdminServer } from './admin-server.js';
import { hostCertificate } from './certificates.js';
import { serveConnection } from './http.js';
import { NbdBackend } from './nbd-backend.js';
import { openNbd } from './nbd-server.js';
import { Pool, type Timing } from './pool.js';
import { bootVm } from './power.js';
import { hostHandler } from './routes.js';
import { seedPool } from './seed.js';
import { uuidOf } from './datapath.js';

/** The two hosts differ in address and share the port, as real ones do: clients replace the address alone. */
const MASTER_ADDRESS = '127.0.0.1';
const SLAVE_ADDRESS = '127.0.0.2';
const COLLECT_EVERY_MS = 60_000;

export interface ServerOptions {
  /** Everything the pool remembers, VDI files included. Made when missing. */
  stateDir: string;
  /** Port of both hosts; 0 or absent: any. */
  port?: number;
  adminPort?: number;
  timing?: Partial<Timing>;
}

/** Where to find a running pool. */
export interface ServerAddress {
  url: string;
  slaveUrl: string;
  adminUrl: string;
  username: string;
  password: string;
  fingerprintSha256: string;
  slaveFingerprintSha256: string;
}

export interface RunningServer {
  address: ServerAddress;
  pool: Pool;
  /** Ends all VMs and connections; the state stays on disk. */
  stop(): Promise<void>;
}

/** Starts the simulated pool inside this process, on the state of an earlier run where there is one. */
export async function startServer({
  stateDir,
  port = 0,
  adminPort = 0,
  timing,
}: ServerOptions): Promise<RunningServer> {
  mkdirSync(stateDir, { recursive: true });
  const password = keptPassword(stateDir);
  const pool = new Pool(stateDir, password, timing);
  if (!pool.db.load()) seedPool(pool, { master: MASTER_ADDRESS, slave: SLAVE_ADDRESS });
  pool.vdis.sweep(new Set(pool.db.entries('VDI').map(([, vdi]) => uuidOf(vdi))));
  pool.machines.recover();
  pool.machines.onRestart = (vmRef, hostRef) => void bootVm(pool, vmRef, hostRef, false).catch(() => undefined);
  // What an earlier process had under way ended with it.
  for (const cls of ['VM', 'VDI']) {
    for (const [ref] of pool.db.entries(cls)) pool.db.set(cls, ref, { current_operations: {} });
  }
  pool.db.flush();

  const nbd = new NbdBackend(pool.vdis.folder);
  const master = await openHost(pool, nbd, pool.masterRef, 'master', MASTER_ADDRESS, port);
  const slaveRef = pool.db.entries('host').find(([ref]) => ref !== pool.masterRef)?.[0] ?? '';
  const slave = await openHost(pool, nbd, slaveRef, 'slave', SLAVE_ADDRESS, master.port);
  const sockets = [master.sockets, slave.sockets];
  const admin: AdminServer = await openAdmin(pool, adminPort, () => {
    restartToolstack(pool);
    for (const set of sockets) for (const socket of set) socket.destroy();
  });
  const collector = setInterval(() => pool.tasks.collect(), COLLECT_EVERY_MS);
  return {
    pool,
    address: {
      url: `https://${MASTER_ADDRESS}:${master.port}`,
      slaveUrl: `https://${SLAVE_ADDRESS}:${slave.port}`,
      adminUrl: admin.url,
      username: 'root',
      password,
      fingerprintSha256: master.fingerprintSha256,
      slaveFingerprintSha256: slave.fingerprintSha256,
    },
    async stop() {
      clearInterval(collector);
      for (const timer of pool.lagging) clearTimeout(timer);
      for (const writer of pool.importsUnderWay.values()) writer.abandon();
      for (const set of sockets) for (const socket of set) socket.destroy();
      await pool.machines.stopAll();
      await Promise.all([closeServer(master.server), closeServer(slave.server), admin.close()]);
      await Promise.all([master.nbd.close(), slave.nbd.close()]);
      nbd.stop();
      pool.db.close();
    },
  };
}

/** What `xe-toolstack-restart` does: sessions and tasks are forgotten, imports break off, their VBDs stay attached. */
function restartToolstack(pool: Pool): void {
  for (const timer of pool.lagging) clearTimeout(timer);
  pool.lagging.clear();
  for (const writer of pool.importsUnderWay.values()) writer.abandon();
  pool.db.forgetTransient();
  pool.db.flush();
}

interface OpenHost {
  server: Server;
  port: number;
  sockets: Set<Socket>;
  nbd: { close(): Promise<void> };
  fingerprintSha256: string;
}

async function openHost(
  pool: Pool,
  backend: NbdBackend,
  hostRef: string,
  name: string,
  address: string,
  port: number,
): Promise<OpenHost> {
  const certificate = await hostCertificate(pool.stateDir, name, address);
  const { key, cert, fingerprintSha256 } = certificate;
  const sockets = new Set<Socket>();
  // A client that has said all it will say may still be waiting for the answer.
  const server = createServer({ key, cert, allowHalfOpen: true });
  const handle = hostHandler(pool, hostRef);
  server.on('secureConnection', (socket) => {
    sockets.add(socket);
    socket.on('close', () => sockets.delete(socket));
    serveConnection(socket, handle).catch(() => socket.destroy());
  });
  // A client that gives up during the handshake is its own affair.
  server.on('tlsClientError', (_error, socket) => socket.destroy());
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject);
    server.listen(port, address, resolve);
  });
  const opened = (server.address() as AddressInfo).port;
  pool.authorities.set(hostRef, `${address}:${opened}`);
  pool.certificates.set(hostRef, cert);
  const nbd = await openNbd(pool, backend, { ref: hostRef, address, certificate });
  return { server, port: opened, sockets, nbd, fingerprintSha256 };
}

function closeServer(server: Server): Promise<void> {
  return new Promise((resolve) => server.close(() => resolve()));
}

function keptPassword(stateDir: string): string {
  const file = join(stateDir, 'password');
  if (!existsSync(file)) writeFileSync(file, randomBytes(12).toString('base64url'), { mode: 0o600 });
  return readFileSync(file, 'utf8');
}
