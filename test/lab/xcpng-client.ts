import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { connect, type TLSSocket } from 'node:tls';
import { startServer, type RunningServer, type ServerAddress, type ServerOptions } from '../../lab/xcpng/server.js';

/** What an API failure looks like to these tests: `CODE(param, ...)`. */
export class ApiFailure extends Error {
  readonly code: string;
  readonly params: string[];

  constructor(code: string, params: string[]) {
    super(`${code}(${params.join(', ')})`);
    this.code = code;
    this.params = params;
  }
}

/** A plain JSON-RPC client that knows nothing but the wire. */
export class ApiClient {
  readonly address: Pick<ServerAddress, 'url' | 'username' | 'password'>;
  session = '';

  constructor(address: ApiClient['address']) {
    this.address = address;
  }

  /** A client of a pool that runs elsewhere, logged in. */
  static async connect(address: ApiClient['address']): Promise<ApiClient> {
    const client = new ApiClient(address);
    await client.login();
    return client;
  }

  async login(): Promise<void> {
    const { username, password } = this.address;
    this.session = String(await this.rpc('session.login_with_password', [username, password]));
  }

  /** One call with the session. @throws ApiFailure */
  call<T = string>(method: string, ...args: unknown[]): Promise<T> {
    return this.rpc(method, [this.session, ...args]) as Promise<T>;
  }

  async rpc(method: string, params: unknown[], url = this.address.url): Promise<unknown> {
    const body = JSON.stringify({ jsonrpc: '2.0', method, params, id: 1 });
    const { text } = await this.request('POST', '/jsonrpc', body, url);
    const answer = JSON.parse(text) as { result?: unknown; error?: { message: string; data: string[] } };
    if (answer.error !== undefined) throw new ApiFailure(answer.error.message, answer.error.data);
    return answer.result;
  }

  /** One HTTP request on a connection of its own, read until the server closes. */
  async request(method: string, target: string, body = '', url = this.address.url) {
    const exchange = await this.open(method, target, { 'content-length': String(Buffer.byteLength(body)) }, url);
    exchange.socket.write(body);
    return exchange.answer;
  }

  /** Sends a request's head and lets the test go on by hand. */
  async open(
    method: string,
    target: string,
    headers: Record<string, string> = {},
    url = this.address.url,
  ): Promise<Exchange> {
    const { hostname, port } = new URL(url);
    const socket = connect({ host: hostname, port: Number(port), rejectUnauthorized: false });
    await once(socket, 'secureConnect');
    const lines = Object.entries({ host: hostname, connection: 'close', ...headers });
    socket.write(`${method} ${target} HTTP/1.1\r\n${lines.map(([k, v]) => `${k}: ${v}\r\n`).join('')}\r\n`);
    return { socket, answer: readAnswer(socket) };
  }

  /** Opens a chunked import; the head of the answer is the caller's to await. */
  async openImport(
    vdi: string,
    query: Record<string, string> = {},
    headers: Record<string, string> = {},
    url?: string,
  ) {
    const task = await this.call('task.create', 'test import', '');
    const search = new URLSearchParams({ session_id: this.session, task_id: task, vdi, ...query });
    const exchange = await this.open('PUT', `/import_raw_vdi?${search}`, headers, url);
    return { ...exchange, task };
  }

  /** Waits until a task has ended and gives its record. */
  async taskEnd(task: string, timeoutMs?: number): Promise<TaskRecord> {
    return until(async () => {
      const record = await this.call<TaskRecord>('task.get_record', task);
      return record.status === 'pending' ? undefined : record;
    }, timeoutMs);
  }

  /** The reference of the object of that name. */
  async named(cls: string, label: string): Promise<string> {
    const [ref] = await this.call<string[]>(`${cls}.get_by_name_label`, label);
    if (ref === undefined) throw new Error(`The pool has no ${cls} named ${label}.`);
    return ref;
  }

  async createVdi(sizeBytes: number, fields: Record<string, unknown> = {}): Promise<string> {
    const SR = await this.named('SR', 'Local thin');
    const base = { SR, virtual_size: sizeBytes, type: 'user', sharable: false, read_only: false, other_config: {} };
    return this.call('VDI.create', { ...base, ...fields });
  }

  async createVm(fields: Record<string, unknown> = {}): Promise<string> {
    return this.call('VM.create', { ...VM_FIELDS, ...fields });
  }

  async createVbd(VM: string, VDI: string, fields: Record<string, unknown> = {}): Promise<string> {
    const base = { userdevice: '0', bootable: true, mode: 'RW', type: 'Disk', empty: false, other_config: {} };
    const qos = { qos_algorithm_type: '', qos_algorithm_params: {} };
    return this.call('VBD.create', { VM, VDI, ...base, ...qos, ...fields });
  }
}

/** A pool inside the test's process, with a client logged in. */
export class TestPool extends ApiClient {
  readonly server: RunningServer;
  readonly #stateDir: string;

  constructor(server: RunningServer, stateDir: string) {
    super(server.address);
    this.server = server;
    this.#stateDir = stateDir;
  }

  static async start(options: Partial<ServerOptions> = {}): Promise<TestPool> {
    const stateDir = await mkdtemp(join(tmpdir(), 'surefire-xcpng-'));
    const pool = new TestPool(await startServer({ ...options, stateDir }), stateDir);
    await pool.login();
    return pool;
  }

  async stop(): Promise<void> {
    await this.server.stop();
    await rm(this.#stateDir, { recursive: true, force: true });
  }

  /** The raw file behind a VDI. */
  async fileOf(vdi: string): Promise<string> {
    return this.server.pool.vdis.path(await this.call('VDI.get_uuid', vdi));
  }
}

export interface TaskRecord {
  status: string;
  error_info: string[];
  result: string;
  progress: number;
}

export interface Answer {
  status: number;
  head: string;
  text: string;
  /** Code of the socket's error, where it did not end cleanly. */
  error?: string;
}

export interface Exchange {
  socket: TLSSocket;
  /** Resolves when the server has closed. */
  answer: Promise<Answer>;
}

function readAnswer(socket: TLSSocket): Promise<Answer> {
  const parts: Buffer[] = [];
  let error: string | undefined;
  socket.on('data', (part: Buffer) => parts.push(part));
  socket.on('error', (failure: NodeJS.ErrnoException) => (error = failure.code ?? failure.message));
  return new Promise((resolve) =>
    socket.on('close', () => {
      const all = Buffer.concat(parts).toString('latin1');
      const end = all.indexOf('\r\n\r\n');
      const head = all.slice(0, end);
      const answer = { status: Number(head.split(' ')[1]), head, text: all.slice(end + 4) };
      resolve(error === undefined ? answer : { ...answer, error });
    }),
  );
}

/** A chunk's header. */
export function chunkHeader(offset: number | bigint, length: number): Buffer {
  const header = Buffer.alloc(12);
  header.writeBigUInt64LE(BigInt(offset), 0);
  header.writeUInt32LE(length, 8);
  return header;
}

export const END_MARKER = Buffer.alloc(12);

/** Polls until there is a value; fails when the time is up. */
export async function until<T>(probe: () => Promise<T | undefined> | T | undefined, timeoutMs = 50_000): Promise<T> {
  const deadline = Date.now() + timeoutMs;
  for (;;) {
    const value = await probe();
    if (value !== undefined) return value;
    if (Date.now() > deadline) throw new Error('The condition did not come true in time.');
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}

const MEMORY = 512 * 1024 ** 2;

/** What `VM.create` cannot do without. */
export const VM_FIELDS = {
  name_label: 'guest',
  user_version: 1,
  is_a_template: false,
  affinity: 'OpaqueRef:NULL',
  memory_static_max: MEMORY,
  memory_dynamic_max: MEMORY,
  memory_dynamic_min: MEMORY,
  memory_static_min: MEMORY,
  VCPUs_params: {},
  VCPUs_max: 1,
  VCPUs_at_startup: 1,
  actions_after_shutdown: 'destroy',
  actions_after_reboot: 'restart',
  actions_after_crash: 'destroy',
  PV_bootloader: '',
  PV_kernel: '',
  PV_ramdisk: '',
  PV_args: '',
  PV_bootloader_args: '',
  PV_legacy_args: '',
  HVM_boot_policy: 'BIOS order',
  HVM_boot_params: { order: 'c', firmware: 'bios' },
  platform: {},
  PCI_bus: '',
  other_config: {},
  recommendations: '',
};
