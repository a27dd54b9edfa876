import { existsSync, readFileSync, statSync } from 'node:fs';
import { homedir } from 'node:os';
import { basename, dirname, join, resolve } from 'node:path';
import { isMap, isSeq, LineCounter, parseDocument, type Document } from 'yaml';
import type { z } from 'zod';
import { describeMistakes } from './config-mistakes.js';
import { configSchema } from './config-schema.js';
import { failure } from './shared/errors.js';
import { hide } from './shared/redaction.js';

type Parsed = z.infer<typeof configSchema>;

/** One vCenter or ESXi host. */
export type VcenterConfig = Parsed['vcenters'][string];

/** The whole configuration: defaults filled in, paths absolute. */
export interface Config extends Omit<Parsed, 'state'> {
  /** The file that was read. */
  path: string;
  state: { dir: string };
}

/** What an adapter needs to reach an endpoint. Holds the password: never log it, never hand it to Temporal. */
export interface EndpointOptions {
  url: string;
  username: string;
  password: string;
  fingerprintSha256?: string;
  caFile?: string;
}

const EXAMPLE = 'docs/surefire.yaml.example';

/**
 * Reads and checks `surefire.yaml`; every other file receives plain values.
 *
 * @param path The file; without it `$SUREFIRE_CONFIG`, `./surefire.yaml`, then `/etc/surefire/surefire.yaml`.
 *   `$SUREFIRE_TEMPORAL_ADDRESS` and `$SUREFIRE_TEMPORAL_WEB_URL` win over the file, so that `surefire up` can give
 *   its workers ports that the system chose.
 * @throws ConfigInvalid naming every mistake with the path of its key.
 */
export function loadConfig(path?: string): Config {
  const file = findFile(path);
  const lineCounter = new LineCounter();
  const document = parseDocument(readText(file), { prettyErrors: true, lineCounter });
  const syntax = document.errors.map((error) => error.message.split('\n')[0]!.replace(/:$/, ''));
  if (syntax.length > 0) throw invalid(file, syntax);
  const parsed = configSchema.safeParse(document.toJS() ?? {});
  if (!parsed.success)
    throw invalid(file, describeMistakes(configSchema, parsed.error.issues, lineIn(document, lineCounter)));
  return complete(file, parsed.data);
}

/**
 * The endpoint's password, read when it is needed and kept nowhere.
 *
 * @param warn Told when other users of the machine can read the password file.
 * @throws ConfigInvalid when the file or variable is missing or empty.
 */
export function readSecret(
  endpoint: Pick<VcenterConfig, 'url' | 'passwordFile' | 'passwordEnv'>,
  warn: (text: string) => void = warnOnce,
): string {
  const { passwordFile: file, passwordEnv: variable } = endpoint;
  const place = file === undefined ? `Environment variable ${variable}` : `Password file ${file}`;
  const missing = (why: string) =>
    failure('ConfigInvalid', {
      what: `${place} for ${endpoint.url} ${why}.`,
      next: file === undefined ? `set ${variable} for this program.` : `write the password to ${file} (chmod 600).`,
    });
  if (file === undefined) {
    const value = process.env[variable ?? ''];
    if (value === undefined) throw missing('is not set');
    if (value === '') throw missing('is empty');
    hide(value);
    return value;
  }
  const readable = credentialOf(file) ?? file;
  let text: string;
  try {
    text = readFileSync(readable, 'utf8');
  } catch (error) {
    throw missing(
      (error as NodeJS.ErrnoException).code === 'ENOENT' ? 'does not exist' : `cannot be read (${codeOf(error)})`,
    );
  }
  // One line end, as editors and `echo` leave it; blanks may belong to the password.
  const secret = text.replace(/\r?\n$/, '');
  if (secret === '') throw missing('is empty');
  hide(secret);
  if ((statSync(readable).mode & 0o044) !== 0)
    warn(`Warning: ${place} can be read by other users. Next: chmod 600 ${file}`);
  return secret;
}

const warned = new Set<string>();

/** Passwords are read again and again, so that a changed one counts at once; that is no reason to repeat a warning. */
function warnOnce(text: string): void {
  if (warned.has(text)) return;
  warned.add(text);
  process.stderr.write(`${text}\n`);
}

/** The passwords in our environment, taken out of that of a child process, for which they are not meant. */
export function withheldVariables({ vcenters, pools }: Pick<Config, 'vcenters' | 'pools'>): Record<string, undefined> {
  const names = [...Object.values(vcenters), ...Object.values(pools)].map(({ passwordEnv }) => passwordEnv);
  return Object.fromEntries(names.filter((name) => name !== undefined).map((name) => [name, undefined]));
}

/**
 * Address, user, password and trust of a configured vCenter or pool.
 *
 * @throws EndpointUnknown when no endpoint has that name, listing those that exist.
 */
export function endpointOptions(config: Config, kind: 'vcenters' | 'pools', name: string): EndpointOptions {
  const endpoint = Object.hasOwn(config[kind], name) ? config[kind][name] : undefined;
  if (endpoint === undefined) {
    throw failure('EndpointUnknown', {
      what: `No ${kind === 'pools' ? 'pool' : 'vCenter'} is called "${name}".`,
      why: `${config.path} knows: ${Object.keys(config[kind]).join(', ') || 'none'}.`,
      next: `use one of these, or add it under \`${kind}\`.`,
    });
  }
  const { url, username, fingerprintSha256, caFile } = endpoint;
  return { url, username, password: readSecret(endpoint), fingerprintSha256, caFile };
}

/**
 * systemd's copy of a password file, for a service that may not read the file itself: with
 * `LoadCredential=secrets:/etc/surefire/secrets` the file `secrets/pool-1` is the credential `secrets_pool-1`.
 */
function credentialOf(file: string): string | undefined {
  const folder = process.env['CREDENTIALS_DIRECTORY'];
  if (!folder) return undefined;
  const copy = join(folder, `${basename(dirname(file))}_${basename(file)}`);
  return existsSync(copy) ? copy : undefined;
}

function findFile(path: string | undefined): string {
  const asked = path ?? process.env['SUREFIRE_CONFIG'];
  if (asked) return resolve(asked);
  const usual = [resolve('surefire.yaml'), '/etc/surefire/surefire.yaml'];
  const found = usual.find((file) => existsSync(file));
  if (found !== undefined) return found;
  throw failure('ConfigInvalid', {
    what: 'No configuration was found.',
    why: `Looked at --config, $SUREFIRE_CONFIG, ${usual.join(', ')}.`,
    next: `copy ${EXAMPLE} to surefire.yaml and fill it in.`,
  });
}

function readText(file: string): string {
  try {
    return readFileSync(file, 'utf8');
  } catch (error) {
    throw failure('ConfigInvalid', {
      what: `Configuration ${file} cannot be read (${codeOf(error)}).`,
      next: `copy ${EXAMPLE} there, or name another file with --config.`,
    });
  }
}

/** Finds the line of a key; of one that is missing, the line of what it should be in. */
function lineIn(document: Document, lines: LineCounter): (path: readonly PropertyKey[]) => number {
  return (path) => {
    let node: unknown = document.contents;
    let line = 1;
    for (const step of path) {
      const pair = isMap(node) ? node.items.find(({ key }) => String(key) === String(step)) : undefined;
      const [next, at] = isSeq(node) ? [node.items[Number(step)], node.items[Number(step)]] : [pair?.value, pair?.key];
      const start = (at as { range?: [number, number, number] } | undefined)?.range?.[0];
      if (start === undefined) break;
      line = lines.linePos(start).line;
      node = next;
    }
    return line;
  };
}

function invalid(file: string, mistakes: string[]): Error {
  return failure(
    'ConfigInvalid',
    {
      what: `Configuration ${file} has ${mistakes.length === 1 ? 'a mistake' : `${mistakes.length} mistakes`}.`,
      why: mistakes.join('\n'),
      next: `correct the file; ${EXAMPLE} shows every key.`,
    },
    { mistakes },
  );
}

function complete(file: string, parsed: Parsed): Config {
  const absolute = (path: string) => resolve(dirname(file), path.replace(/^~(?=\/|$)/, homedir()));
  const absoluteIfSet = (path: string | undefined) => (path === undefined ? undefined : absolute(path));
  type Files = Pick<VcenterConfig, 'passwordFile' | 'caFile'>;
  const withPaths = <E extends Files>(endpoint: E): E => ({
    ...endpoint,
    passwordFile: absoluteIfSet(endpoint.passwordFile),
    caFile: absoluteIfSet(endpoint.caFile),
  });
  const mapped = <E extends Files>(all: Record<string, E>): Record<string, E> =>
    Object.fromEntries(Object.entries(all).map(([name, endpoint]) => [name, withPaths(endpoint)]));
  const { transfer, temporal } = parsed;
  return {
    ...parsed,
    path: file,
    temporal: {
      ...temporal,
      address: process.env['SUREFIRE_TEMPORAL_ADDRESS'] || temporal.address,
      webUrl: (process.env['SUREFIRE_TEMPORAL_WEB_URL'] || temporal.webUrl).replace(/\/+$/, ''),
      ...(temporal.tls && {
        tls: {
          ...temporal.tls,
          caFile: absoluteIfSet(temporal.tls.caFile),
          certFile: absoluteIfSet(temporal.tls.certFile),
          keyFile: absoluteIfSet(temporal.tls.keyFile),
        },
      }),
    },
    vcenters: mapped(parsed.vcenters),
    pools: mapped(parsed.pools),
    transfer: {
      ...transfer,
      runDir: absolute(transfer.runDir),
      vddkLibdir: absoluteIfSet(transfer.vddkLibdir),
    },
    state: { dir: absolute(parsed.state.dir ?? join(process.env['XDG_STATE_HOME'] || '~/.local/state', 'surefire')) },
  };
}

function codeOf(error: unknown): string {
  return (error as NodeJS.ErrnoException).code ?? 'unknown reason';
}
