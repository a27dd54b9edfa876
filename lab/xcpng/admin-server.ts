import { createServer, type IncomingMessage } from 'node:http';
import type { AddressInfo } from 'node:net';
import { uuidOf } from './datapath.js';
import type { Fault } from './faults.js';
import type { Pool } from './pool.js';
import { numberOf } from './values.js';

/** The lab's own door, for tests and the demo: what happened, where the files are, what shall go wrong. */
export interface AdminServer {
  url: string;
  close(): Promise<void>;
}

/** A fault, or one of the acts that happen at once. */
export type AdminFault =
  Fault | { kind: 'restart' } | { kind: 'expireSessions' } | { kind: 'destroyTask'; task: string } | { kind: 'clear' };

export interface VdiPlace {
  path: string;
  name: string;
  virtualSizeBytes: number;
  allocatedBytes: number;
}

export interface VmPlace {
  name: string;
  consolePath: string;
  pid?: number;
}

export async function openAdmin(pool: Pool, port: number, restart: () => void): Promise<AdminServer> {
  const server = createServer((request, response) => {
    const answer = (status: number, body: unknown): void => {
      response.writeHead(status, { 'content-type': 'application/json' });
      response.end(`${JSON.stringify(body)}\n`);
    };
    readJson(request)
      .then((body) => serve(pool, `${request.method} ${request.url}`, body, restart))
      .then(
        (result) => (result === undefined ? answer(404, { error: 'no such resource' }) : answer(200, result)),
        (error: unknown) => answer(400, { error: String(error) }),
      );
  });
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject);
    server.listen(port, '127.0.0.1', resolve);
  });
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        server.closeAllConnections();
      }),
  };
}

function serve(pool: Pool, resource: string, body: unknown, restart: () => void): unknown {
  switch (resource) {
    case 'GET /calls':
      return pool.calls.entries;
    case 'GET /power':
      return pool.power;
    case 'GET /sessions':
      return pool.calls.sessions;
    case 'GET /imports':
      return pool.imports.records;
    case 'GET /vdis':
      return Object.fromEntries(pool.db.entries('VDI').map(([, vdi]) => [uuidOf(vdi), placeOfVdi(pool, vdi)]));
    case 'GET /vms':
      return Object.fromEntries(
        pool.db.entries('VM').map(([ref, vm]): [string, VmPlace] => {
          const uuid = uuidOf(vm);
          const pid = pool.machines.pidOf(ref);
          const place = { name: String(vm['name_label']), consolePath: pool.machines.consolePath(uuid) };
          return [uuid, pid === undefined ? place : { ...place, pid }];
        }),
      );
    case 'GET /faults':
      return pool.faults.armed;
    case 'POST /faults':
      return fault(pool, body as AdminFault, restart);
    case 'POST /console': {
      const { vm, text } = body as { vm: string; text: string };
      return { typed: pool.machines.type(pool.db.byUuid('VM', vm), text) };
    }
    default:
      return undefined;
  }
}

function placeOfVdi(pool: Pool, vdi: { [field: string]: unknown }): VdiPlace {
  const uuid = String(vdi['uuid']);
  return {
    path: pool.vdis.path(uuid),
    name: String(vdi['name_label']),
    virtualSizeBytes: numberOf(vdi as { virtual_size: number }, 'virtual_size'),
    allocatedBytes: pool.vdis.allocatedBytes(uuid),
  };
}

function fault(pool: Pool, wanted: AdminFault, restart: () => void): unknown {
  switch (wanted.kind) {
    case 'restart':
      restart();
      break;
    case 'expireSessions':
      for (const [ref] of pool.db.entries('session')) pool.db.delete('session', ref);
      break;
    case 'destroyTask':
      pool.db.delete('task', wanted.task);
      break;
    case 'clear':
      pool.faults.armed = [];
      break;
    default:
      pool.faults.arm(wanted);
  }
  return pool.faults.armed;
}

async function readJson(request: IncomingMessage): Promise<unknown> {
  let text = '';
  for await (const chunk of request) text += String(chunk);
  return text === '' ? undefined : JSON.parse(text);
}
