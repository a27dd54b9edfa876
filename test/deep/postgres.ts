import { chown, mkdtemp, readdir, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { execa } from 'execa';
import { waitFor } from '../e2e/harness.js';

/** Debian keeps its servers by major version. */
const VERSIONS = '/usr/lib/postgresql';
/** PostgreSQL refuses to run as root; this one may do nothing else. */
const NOBODY = 65_534;

export interface Postgres {
  port: number;
  /** Environment for PostgreSQL's own programs. */
  env: Record<string, string>;
  query(database: string, sql: string): Promise<string>;
  stop(): Promise<unknown>;
}

/** An empty PostgreSQL on 127.0.0.1, as its image starts it: one superuser, who has a password. */
export async function startPostgres(user: string, password: string, port: number): Promise<Postgres> {
  const versions = await readdir(VERSIONS);
  const bin = join(VERSIONS, versions.sort((a, b) => Number(b) - Number(a))[0] ?? '', 'bin');
  const folder = await mkdtemp(join(tmpdir(), 'surefire-pg-'));
  const as = process.getuid?.() === 0 ? { uid: NOBODY, gid: NOBODY } : {};
  const passwordFile = join(folder, 'password');
  await writeFile(passwordFile, `${password}\n`, { mode: 0o600 });
  if (as.uid !== undefined) {
    await chown(folder, NOBODY, NOBODY);
    await chown(passwordFile, NOBODY, NOBODY);
  }
  const data = join(folder, 'data');
  const how = [
    '--username',
    user,
    '--pwfile',
    passwordFile,
    '--auth',
    'scram-sha-256',
    '--no-sync',
    '--encoding',
    'UTF8',
  ];
  await execa(join(bin, 'initdb'), ['-D', data, ...how, '--locale', 'C.UTF-8'], { ...as, cwd: folder });
  const settings = ['-c', 'listen_addresses=127.0.0.1', '-c', 'unix_socket_directories=', '-c', 'fsync=off'];
  const server = execa(join(bin, 'postgres'), ['-D', data, '-p', String(port), ...settings], {
    ...as,
    cwd: folder,
    reject: false,
    all: true,
    cleanup: true,
  });
  const env = { PGHOST: '127.0.0.1', PGPORT: String(port), PGPASSWORD: password, PATH: `${bin}:/usr/bin:/bin` };
  await waitFor('PostgreSQL', async () => {
    if (server.exitCode !== null) throw new Error((await server).all);
    const { exitCode } = await execa('pg_isready', ['-U', user], { env, extendEnv: false, reject: false });
    return exitCode === 0;
  });
  return {
    port,
    env,
    async query(database, sql) {
      const { stdout } = await execa('psql', ['-U', user, '-d', database, '-tAc', sql], { env, extendEnv: false });
      return stdout;
    },
    async stop() {
      server.kill('SIGINT');
      await server;
      await rm(folder, { recursive: true, force: true });
    },
  };
}
