import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { XcpngAdmin } from '../../lab/xcpng/admin.js';
import { startXcpng, type XcpngLab } from '../../lab/xcpng/start.js';
import { createXapi, type Xapi, type XapiOptions } from '../../src/xapi/index.js';
import { Connection } from '../../src/xapi/connection.js';
import type { XapiRecord } from '../../src/xapi/types.js';

export const MIB = 2 ** 20;
export const GIB = 2 ** 30;

export interface TestPool extends XcpngLab {
  stateDir: string;
  admin: XcpngAdmin;
  /** A client of ours with the lab's credentials and pin; closed with the lab. */
  connect(changes?: Partial<XapiOptions>): Xapi;
  /** The pool as it is, past the adapter: what a test compares with. */
  raw: Connection;
  records(type: string): Promise<[ref: string, record: XapiRecord][]>;
  record(type: string, uuid: string): Promise<XapiRecord>;
  /** Methods called since the last `forget`, oldest first. */
  calledSince(mark: number): Promise<string[]>;
  mark(): Promise<number>;
  end(): Promise<void>;
}

/** The lab's pool as a process of its own, over TLS: master on 127.0.0.1, slave on 127.0.0.2. */
export async function startTestPool(): Promise<TestPool> {
  const stateDir = await mkdtemp(join(tmpdir(), 'surefire-xcpng-'));
  const lab = await startXcpng({ stateDir });
  const { url, username, password, fingerprintSha256 } = lab;
  const admin = new XcpngAdmin(lab.adminUrl);
  const raw = new Connection({ url, username, password, fingerprintSha256 });
  const clients: { close(): Promise<void> }[] = [raw];
  return {
    ...lab,
    stateDir,
    admin,
    raw,
    connect(changes = {}) {
      const client = createXapi({ url, username, password, fingerprintSha256, ...changes });
      clients.push(client);
      return client;
    },
    async records(type) {
      return Object.entries(await raw.call<Record<string, XapiRecord>>(`${type}.get_all_records`));
    },
    async record(type, uuid) {
      return raw.call<XapiRecord>(`${type}.get_record`, await raw.call(`${type}.get_by_uuid`, uuid));
    },
    async mark() {
      return (await admin.calls()).length;
    },
    async calledSince(mark) {
      return (await admin.calls()).slice(mark).map(({ method }) => method);
    },
    async end() {
      await Promise.all(clients.map((client) => client.close()));
      await lab.stop();
      await rm(stateDir, { recursive: true, force: true });
    },
  };
}

/** The error an action ends with, as it crosses our borders. */
export async function errorOf(action: Promise<unknown>): Promise<Error & { type?: string; nonRetryable?: boolean }> {
  try {
    await action;
  } catch (error) {
    return error as Error;
  }
  throw new Error('it did not fail');
}

export const uuidOfSr = async (pool: TestPool, name: string): Promise<string> =>
  (await pool.records('SR')).find(([, sr]) => sr['name_label'] === name)![1].uuid;

export const uuidOfNetwork = async (pool: TestPool, name: string): Promise<string> =>
  (await pool.records('network')).find(([, network]) => network['name_label'] === name)![1].uuid;

export const EXTERNAL = 'Pool-wide network associated with eth0';
