import { chmod, mkdir, readFile, writeFile } from 'node:fs/promises';
import { createServer, type AddressInfo, type Server } from 'node:net';
import { delimiter, dirname, join } from 'node:path';
import { execa, type ResultPromise } from 'execa';
import { cachePath } from '../../lab/cache.js';
import { loadCompose, ROOT, type Compose } from '../deploy/compose.js';
import { waitFor, type Home } from '../e2e/harness.js';
import { startPostgres, type Postgres } from './postgres.js';

const PASSWORD = 'a-password-of-this-test';
const USER = 'temporal';
/** What the server's parts listen on beside the one that `temporal:7233` names. */
const INNER_PORTS = ['FRONTEND_MEMBERSHIP', 'FRONTEND_HTTP', 'HISTORY_GRPC', 'HISTORY_MEMBERSHIP', 'MATCHING_GRPC']
  .concat(['MATCHING_MEMBERSHIP', 'WORKER_GRPC', 'WORKER_MEMBERSHIP'])
  .map((name) => `${name}_PORT`);

type Process = ResultPromise<{ all: true; reject: false }>;

/**
 * What `docker compose up` would start, as processes of this machine: commands, entry points and environments are those of
 * the loaded file. Only places are mapped: paths of mounts and secrets, names of services, ports.
 */
export class ComposeHome implements Home {
  readonly compose: Compose;
  readonly postgres: Postgres;
  readonly namespace = 'surefire';
  readonly #config: string;
  readonly #path: string;
  readonly #ports: { temporal: number; ui: number; inner: Record<string, string> };
  readonly #running = new Map<string, Process>();

  private constructor(parts: { compose: Compose; postgres: Postgres; config: string; path: string; ports: number[] }) {
    this.compose = parts.compose;
    this.postgres = parts.postgres;
    this.#config = parts.config;
    this.#path = parts.path;
    const [temporal = 0, ui = 0, ...inner] = parts.ports;
    this.#ports = { temporal, ui, inner: Object.fromEntries(INNER_PORTS.map((name, i) => [name, String(inner[i])])) };
  }

  /** @param config A `surefire.yaml` whose folder also has the secrets, as in `config/`. */
  static async start(config: string): Promise<ComposeHome> {
    const folder = dirname(config);
    await writeFile(join(folder, 'secrets/postgres-password'), `${PASSWORD}\n`, { mode: 0o600 });
    const compose = await loadCompose(undefined, { SUREFIRE_CONFIG_DIR: folder });
    const [port = 0, ...ports] = await freePorts(3 + INNER_PORTS.length);
    const postgres = await startPostgres(USER, PASSWORD, port);
    const home = new ComposeHome({ compose, postgres, config, path: await programs(folder), ports });
    try {
      await home.isHealthy('postgresql');
      await home.run('schema');
      home.launch('temporal');
      // A port that is open is all that the container's own check knows; the next job waits for the rest.
      await home.run('prepare');
      for (const name of ['ui', 'orchestrator', 'transfer']) home.launch(name);
      await Promise.all(['orchestrator', 'transfer'].map((name) => home.isHealthy(name)));
      return home;
    } catch (error) {
      await home.stop();
      throw error;
    }
  }

  get address(): string {
    return `127.0.0.1:${this.#ports.temporal}`;
  }

  get webUrl(): string {
    return `http://127.0.0.1:${this.#ports.ui}`;
  }

  get temporalPid(): number {
    return this.pid('temporal');
  }

  pid(name: string): number {
    return this.#running.get(name)?.pid ?? 0;
  }

  /** A job: to its end. @throws Error with what was said when it fails, or when something ends that should last. */
  async run(name: string): Promise<string> {
    const job = this.#spawn(name);
    const ends = [...this.#running].map(async ([other, process]) => {
      const { exitCode, signal, all } = await process;
      job.kill();
      throw new Error(`${other} ended with ${exitCode ?? signal}: ${all.slice(-2000)}`);
    });
    const { exitCode, all } = await Promise.race([job, ...ends]);
    if (exitCode !== 0) throw new Error(`${name} ended with ${exitCode}: ${all}`);
    return all;
  }

  /** What lasts. */
  launch(name: string): void {
    this.#running.set(name, this.#spawn(name));
  }

  /** `kill -9`. Settles when it is gone. */
  async crash(name: string): Promise<void> {
    const process = this.#running.get(name);
    process?.kill('SIGKILL');
    await process;
  }

  /** Waits until the check that the file has for it succeeds. */
  async isHealthy(name: string): Promise<void> {
    const [, ...check] = this.compose.services[name]?.healthcheck?.test ?? [];
    await waitFor(`${name} to be healthy`, async () => {
      const process = this.#running.get(name);
      if (process !== undefined && process.exitCode !== null) throw new Error(`${name} ended: ${(await process).all}`);
      const { exitCode } = await this.#execute(name, check);
      return exitCode === 0;
    });
  }

  async stop(): Promise<void> {
    // Workers first, then what they talk to.
    for (const name of ['orchestrator', 'transfer', 'ui', 'temporal']) {
      this.#running.get(name)?.kill('SIGTERM');
      await this.#running.get(name);
    }
    await this.postgres.stop();
  }

  #spawn(name: string): Process {
    const { entrypoint, command } = this.compose.services[name]!;
    // The Web UI's image has its program as entry point.
    const ui = ['temporal-ui-server', '--root', cachePath('temporal-ui'), '--env', 'docker', 'start'];
    return this.#execute(name, name === 'ui' ? ui : [...(entrypoint ?? []), ...(command ?? [])]);
  }

  #execute(name: string, words: string[]): Process {
    const [program = '', ...rest] = words.map((word) => this.#place(name, word));
    const environment = Object.entries(this.compose.services[name]?.environment ?? {});
    const env = {
      ...Object.fromEntries(environment.map(([key, value]) => [key, this.#place(name, value ?? '')])),
      ...(name === 'postgresql' && this.postgres.env),
      ...(name === 'temporal' && { ...this.#ports.inner, FRONTEND_GRPC_PORT: String(this.#ports.temporal) }),
      PATH: name === 'postgresql' ? this.postgres.env['PATH'] : this.#path,
      // The image's own; the configuration is where it is looked for.
      ...{ NODE_ENV: 'production', HOME: dirname(this.#config), SUREFIRE_CONFIG: this.#config },
    };
    return execa(program, rest, {
      env,
      extendEnv: false,
      reject: false,
      all: true,
      cwd: '/',
      forceKillAfterDelay: 100_000,
    });
  }

  /** Where something of a container is on this machine. */
  #place(name: string, word: string): string {
    const { secrets = [], volumes = [] } = this.compose.services[name]!;
    const exactly: Record<string, string> = {
      postgresql: '127.0.0.1',
      '5432': String(this.postgres.port),
      'temporal:7233': this.address,
      '8080': String(this.#ports.ui),
      '0.0.0.0': '127.0.0.1',
      '0.0.0.0:9090': '127.0.0.1:0',
    };
    const within = [
      ...secrets.map(({ source, target }) => [target, this.compose.secrets[source]?.file ?? '']),
      ...volumes.map(({ source, target }) => [target, source]),
      ['/opt/surefire/', ROOT],
    ] as const;
    return within.reduce((text, [from, to]) => text.replaceAll(from, to), exactly[word] ?? word);
  }
}

/** A PATH as in the images: their programs, and Debian's. */
async function programs(folder: string): Promise<string> {
  const bin = join(folder, 'bin');
  await mkdir(bin);
  await writeFile(join(bin, 'surefire'), `#!/bin/sh\nexec node ${ROOT}dist/src/cli/main.js "$@"\n`);
  await chmod(join(bin, 'surefire'), 0o755);
  const nbdkit = dirname((await readFile(cachePath('nbdkit.path'), 'utf8')).trim());
  return [bin, nbdkit, cachePath('bin'), dirname(process.execPath), '/usr/sbin', '/usr/bin', '/bin'].join(delimiter);
}

/**
 * Ports of 127.0.0.1 that nobody listens on now. Below 32768: Temporal's schema for PostgreSQL keeps the ports of its parts
 * as a `smallint`, and those that the system would choose are above.
 */
async function freePorts(count: number): Promise<number[]> {
  const held: Server[] = [];
  while (held.length < count) {
    const server = createServer();
    const port = 20_000 + Math.floor(Math.random() * 12_000);
    const isFree = await new Promise<boolean>((resolve) => {
      server.once('error', () => resolve(false)).listen(port, '127.0.0.1', () => resolve(true));
    });
    if (isFree) held.push(server);
  }
  const ports = held.map((server) => (server.address() as AddressInfo).port);
  await Promise.all(held.map((server) => new Promise((resolve) => server.close(resolve))));
  return ports;
}
