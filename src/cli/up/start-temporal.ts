import { createServer, type AddressInfo } from 'node:net';
import { mkdirSync } from 'node:fs';
import { dirname } from 'node:path';
import { failure } from '../../shared/index.js';
import { prepareNamespace } from '../../namespace.js';
import { startLogged } from './processes.js';
import { holdDatabase } from './hold-database.js';

/** The server answers within a second or so; a loaded machine may need longer. */
const READY_MS = 60_000;
const STOP_MS = 15_000;

export interface TemporalOptions {
  /** The `temporal` program, from `findTemporal`. */
  program: string;
  /** Its database; made when it does not exist, gone on with when it does. */
  dbFile: string;
  logFile: string;
  namespace: string;
  /** 0 takes a free one. */
  port: number;
  /** 0 takes a free one. */
  uiPort: number;
  /** Added to our environment; undefined takes a variable away. */
  env?: NodeJS.ProcessEnv;
}

export interface RunningTemporal {
  address: string;
  webUrl: string;
  pid: number;
  /** Settles when the server has ended, asked or not. */
  ended: Promise<unknown>;
  /** Ends it cleanly; the database can be used again afterwards. */
  stop(): Promise<void>;
}

/**
 * Starts Temporal's development server on 127.0.0.1 with its database in a file, and prepares the namespace.
 *
 * @throws TemporalUnreachable when another one has the database open, a port is taken, or the server does not come up:
 *   then with its last words.
 */
export async function startTemporal(options: TemporalOptions): Promise<RunningTemporal> {
  const { program, dbFile, logFile, namespace } = options;
  // Looked at before the start: a stranger's server on our port would answer in the place of ours.
  const port = await freePort(options.port);
  const uiPort = await freePort(options.uiPort);
  mkdirSync(dirname(dbFile), { recursive: true, mode: 0o700 });
  const release = await holdDatabase(dbFile);
  const server = startLogged(
    [
      ...[program, 'server', 'start-dev', '--db-filename', dbFile, '--namespace', namespace, '--ip', '127.0.0.1'],
      ...['--port', String(port), '--ui-port', String(uiPort), '--log-level', 'warn'],
      // Nothing leaves this machine, and nobody's own profile for the `temporal` program reaches this server.
      ...['--ui-disable-news-fetch', '--disable-config-file', '--disable-config-env'],
    ],
    logFile,
    options.env,
  );
  const address = `127.0.0.1:${port}`;
  void server.ended.then(release);
  const died = server.ended.then(() => {
    throw failure('TemporalUnreachable', {
      what: `The Temporal server on ${address} ended right after its start.`,
      why: server.lastLines(2).join('\n') || 'It said nothing.',
      next: `see ${logFile}; choose other ports with --port and --ui-port, or stop the server that has ${dbFile} open.`,
    });
  });
  try {
    await Promise.race([died, prepareNamespace({ address, namespace }, Date.now() + READY_MS)]);
  } catch (error) {
    await server.stop(STOP_MS);
    throw error;
  }
  died.catch(() => undefined);
  return {
    address,
    webUrl: `http://127.0.0.1:${uiPort}`,
    pid: server.pid,
    ended: server.ended,
    stop: () => server.stop(STOP_MS),
  };
}

/**
 * The wanted port of 127.0.0.1, or any for 0; nobody listens on it now. Somebody may take it before it is used, which
 * the caller then hears of.
 */
function freePort(wanted: number): Promise<number> {
  return new Promise((resolve, reject) => {
    const probe = createServer();
    probe.once('error', (error: NodeJS.ErrnoException) => {
      reject(
        failure('TemporalUnreachable', {
          what: `Port ${wanted} of 127.0.0.1 cannot be used for Temporal (${error.code}).`,
          why:
            error.code === 'EADDRINUSE'
              ? 'Another program listens there, perhaps another `surefire up`.'
              : error.message,
          next: 'stop that program, or choose other ports with --port and --ui-port (0 takes a free one).',
        }),
      );
    });
    probe.listen(wanted, '127.0.0.1', () => {
      const { port } = probe.address() as AddressInfo;
      probe.close(() => resolve(port));
    });
  });
}
