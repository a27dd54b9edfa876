import { userInfo } from 'node:os';
import type { Command } from 'commander';
import { connectClient, type SurefireClient } from '../client.js';
import type { Deps } from '../activities/deps.js';
import { loadConfig, type Config } from '../config.js';
import { EXIT } from './exit-codes.js';

/** Options that every command knows. */
export interface GlobalOptions {
  config?: string;
  json?: boolean;
  debug?: boolean;
  as?: string;
}

/** What a command gets besides its own arguments. */
export interface Context {
  json: boolean;
  /** The result, on stdout: the text, or with --json the document (one line, `schema` first). */
  result(document: Record<string, unknown>, text: string): void;
  /** Progress and diagnostics, on stderr. */
  say(line: string): void;
  config(): Config;
  /** Connects once; closed when the command has ended. */
  client(): Promise<SurefireClient>;
  /** Clients of the configured vCenters and pools, logged in when first used; closed when the command has ended. */
  deps(): Promise<Deps>;
  /** Who speaks: --as, $SUREFIRE_OPERATOR, else the user of the operating system. */
  operator(): string;
}

/**
 * Wraps a command's action: context in, exit code out, everything closed.
 *
 * @param action Returns the exit code; nothing means 0.
 */
export function run<A extends unknown[], O extends object>(
  action: (context: Context, options: O, ...args: A) => Promise<number | void>,
): (...all: unknown[]) => Promise<void> {
  return async (...all) => {
    const command = all.at(-1) as Command;
    const options = command.optsWithGlobals<O & GlobalOptions>();
    const closers: (() => Promise<void>)[] = [];
    const context = makeContext(options, closers);
    try {
      process.exitCode = (await action(context, options, ...(all.slice(0, -2) as A))) ?? EXIT.done;
    } finally {
      for (const close of closers) await close();
    }
  };
}

function makeContext(options: GlobalOptions, closers: (() => Promise<void>)[]): Context {
  let config: Config | undefined;
  let client: Promise<SurefireClient> | undefined;
  let deps: (Deps & { close(): Promise<void> }) | undefined;
  const load = () => (config ??= loadConfig(options.config));
  const json = options.json ?? false;
  return {
    json,
    result(document, text) {
      process.stdout.write(`${json ? JSON.stringify({ schema: 1, ...document }) : text}\n`);
    },
    say: (line) => void process.stderr.write(`${line}\n`),
    config: load,
    client() {
      client ??= connectClient(load()).then((connected) => {
        closers.push(() => connected.close());
        return connected;
      });
      return client;
    },
    async deps() {
      // Loaded only here: the adapters' libraries cost most of a second, and most commands talk to Temporal alone.
      const { connectDeps } = await import('../activities/connections.js');
      if (deps === undefined) {
        const made = connectDeps(load());
        closers.push(() => made.close());
        deps = made;
      }
      return deps;
    },
    operator: () => options.as || process.env['SUREFIRE_OPERATOR'] || userName(),
  };
}

/** In a container the user may have a number and no name. */
function userName(): string {
  try {
    return userInfo().username;
  } catch {
    return `uid ${process.getuid?.()}`;
  }
}
