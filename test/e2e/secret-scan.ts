import { readdir, readFile, stat, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { execa } from 'execa';
import type { Bench } from './harness.js';
import { processes } from './world.js';

/** Planted wherever the scan looks: a scan that does not find it there would find no secret either. */
export const CANARY = 'canary-0f6c-and-not-a-secret';

/** What was written in one place: the place, and its texts. */
type Haystack = Map<string, string>;

/** Each way in which a secret may be written down, longer than a few letters of it. */
function spellings(secret: string): string[] {
  const bytes = Buffer.from(secret);
  // In Base64 three bytes make four letters, so the same bytes look different at each of three places.
  const inBase64 = [0, 1, 2].map((before) => {
    const text = Buffer.concat([Buffer.alloc(before), bytes]).toString('base64');
    return text.slice(Math.ceil((before * 4) / 3), Math.floor(((before + bytes.length) * 4) / 3));
  });
  return [secret, encodeURIComponent(secret), JSON.stringify(secret).slice(1, -1), bytes.toString('hex'), ...inBase64];
}

/** What must be read nowhere: the passwords, and every session that either side ever had. */
export async function secretsOf({ lab, vsphere, pool }: Bench): Promise<string[]> {
  const passwords = [lab.description.vsphere.password, ...lab.description.pools.map(({ password }) => password)];
  return [...passwords, ...(await vsphere.sessions()), ...(await pool.sessions())];
}

/** Where in a haystack a secret is. */
export function placesOf(secret: string, haystack: Haystack): string[] {
  const forms = spellings(secret);
  return [...haystack].filter(([, text]) => forms.some((form) => text.includes(form))).map(([place]) => place);
}

/** Every text in a message of Temporal's, those in its payloads too. */
export function textOf(value: unknown): string {
  if (typeof value === 'string') return value;
  if (value instanceof Uint8Array) return Buffer.from(value).toString('latin1');
  if (typeof value !== 'object' || value === null) return '';
  return Object.entries(value)
    .map(([key, item]) => `${key}\n${textOf(item)}`)
    .join('\n');
}

/**
 * Looks, again and again while migrations run, at what others on this machine and the readers of its histories may see:
 * arguments and environments of all processes of surefire and of their children, small files they keep beside, pending
 * activities with their heartbeats. At the end also at histories, memo, attributes, database, logs and state folder.
 */
export class SecretScan {
  readonly #bench: Bench;
  readonly #seen = { arguments: new Map(), environment: new Map(), running: new Map(), pending: new Map() } as Record<
    'arguments' | 'environment' | 'running' | 'pending',
    Haystack
  >;
  #isOn = true;
  readonly #done: Promise<void>;
  readonly #decoy: { kill(signal: 'SIGKILL'): boolean };

  constructor(bench: Bench) {
    this.#bench = bench;
    // One process of ours among surefire's: it names the configuration, as they do.
    const decoy = execa(
      process.execPath,
      ['-e', 'setInterval(() => {}, 1e6)', '--', bench.config.path, `argument-${CANARY}`],
      { reject: false, stdin: 'ignore', env: { DECOY: `variable-${CANARY}` } },
    );
    this.#decoy = decoy;
    this.#done = this.#watch();
    // What fails first in the test counts; `end` tells of this.
    this.#done.catch(() => undefined);
  }

  /** Stops looking, and gives all haystacks by their kind. */
  async end() {
    this.#isOn = false;
    await this.#done;
    this.#decoy.kill('SIGKILL');
    const { config, temporal } = this.#bench;
    const history: Haystack = new Map();
    for await (const { workflowId } of temporal.workflow.list()) {
      const handle = temporal.workflow.getHandle(workflowId);
      history.set(`history of ${workflowId}`, textOf(await handle.fetchHistory()));
      history.set(`description of ${workflowId}`, textOf((await handle.describe()).raw));
    }
    await writeFile(join(config.state.dir, 'decoy.log'), CANARY);
    return { ...this.#seen, history, state: await filesUnder(config.state.dir) };
  }

  async #watch(): Promise<void> {
    for (let round = 0; this.#isOn; round += 1) {
      await this.#lookAtProcesses();
      if (round % 4 === 0) await this.#lookAtPending();
      await sleep(250);
    }
  }

  async #lookAtProcesses(): Promise<void> {
    const { path, transfer } = this.#bench.config;
    for (const { pid, argv } of await family(path)) {
      const name = argv[0] ?? pid;
      keep(this.#seen.arguments, name, argv.join('\n'));
      keep(this.#seen.environment, name, await readFile(`/proc/${pid}/environ`, 'latin1').catch(() => ''));
      // nbdkit keeps its socket in a folder of its own.
      const socket = argv[argv.indexOf('-U') + 1];
      if (argv.includes('-U') && socket !== undefined)
        for (const [file, text] of await filesUnder(dirname(socket))) keep(this.#seen.running, file, text);
    }
    await writeFile(join(transfer.runDir, 'decoy'), CANARY).catch(() => undefined);
    for (const [file, text] of await filesUnder(transfer.runDir)) keep(this.#seen.running, file, text);
  }

  async #lookAtPending(): Promise<void> {
    const { workflow } = this.#bench.temporal;
    for await (const { workflowId } of workflow.list({ query: "ExecutionStatus = 'Running'" })) {
      const { raw } = await workflow.getHandle(workflowId).describe();
      keep(this.#seen.pending, workflowId, textOf(raw.pendingActivities));
    }
  }
}

/** All that was ever seen in a place, each text once. */
function keep(haystack: Haystack, place: string, text: string): void {
  const before = haystack.get(place) ?? '';
  if (!before.includes(text)) haystack.set(place, `${before}\n${text}`);
}

/** The processes that name the configuration, and all their children. */
async function family(config: string) {
  const all = await Promise.all(
    (await processes()).map(async (one) => {
      const stat = await readFile(`/proc/${one.pid}/stat`, 'latin1').catch(() => '');
      // The name in brackets may hold anything; state and parent follow it.
      return { ...one, parent: stat.slice(stat.lastIndexOf(')') + 2).split(' ')[1] ?? '' };
    }),
  );
  const found = new Map(all.filter(({ argv }) => argv.includes(config)).map((one) => [one.pid, one]));
  for (let count = -1; count !== found.size;) {
    count = found.size;
    for (const one of all) if (found.has(one.parent)) found.set(one.pid, one);
  }
  return found.values();
}

async function filesUnder(folder: string): Promise<Haystack> {
  const entries = await readdir(folder, { recursive: true, withFileTypes: true }).catch(() => []);
  const texts: Haystack = new Map();
  for (const entry of entries) {
    const path = join(entry.parentPath, entry.name);
    const isFile = (await stat(path).catch(() => undefined))?.isFile() === true;
    if (isFile) texts.set(path, await readFile(path, 'latin1').catch(() => ''));
  }
  return texts;
}
