import { execa } from 'execa';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';

const CLI = fileURLToPath(
  new URL(import.meta.url.endsWith('.ts') ? '../../dist/src/cli/main.js' : '../../src/cli/main.js', import.meta.url),
);
const STOP_GRACE_MS = 120_000;

/** The program as a user runs it: every step of the demo goes through it, there is no second way. */
export class Surefire {
  readonly #configFile: string;

  constructor(configFile: string) {
    this.#configFile = configFile;
  }

  /** Runs a command to its end. Exit codes other than 0 are answers too, such as 13 for a refusal. */
  async run(...args: string[]): Promise<{ exitCode: number; result: Record<string, unknown>; stderr: string }> {
    const done = await execa(process.execPath, this.#args(args), { reject: false, stdin: 'ignore' });
    const text = String(done.stdout).trim();
    return {
      exitCode: done.exitCode ?? 1,
      result: text === '' ? {} : (JSON.parse(text) as Record<string, unknown>),
      stderr: String(done.stderr).trim(),
    };
  }

  /** Runs a command that has to succeed. @throws Error with what it said */
  async must(...args: string[]): Promise<Record<string, unknown>> {
    const { exitCode, result, stderr } = await this.run(...args);
    if (exitCode !== 0) throw new Error(`surefire ${args.join(' ')} ended with ${exitCode}: ${stderr}`);
    return result;
  }

  /** Follows a migration: one object a line, until it ends or the signal says so. */
  async *watch(vm: string, signal: AbortSignal): AsyncGenerator<WatchLine> {
    const options = { reject: false, stdin: 'ignore', buffer: false, cancelSignal: signal } as const;
    const child = execa(process.execPath, this.#args(['watch', vm]), options);
    for await (const line of createInterface({ input: child.stdout })) yield JSON.parse(line) as WatchLine;
    await child;
  }

  /** Starts `surefire up` and waits for its ready line. */
  async up(): Promise<{ webUrl: string; stop(): Promise<void> }> {
    const child = execa(process.execPath, this.#args(['up']), {
      reject: false,
      stdin: 'ignore',
      buffer: false,
      forceKillAfterDelay: STOP_GRACE_MS,
    });
    let said = '';
    child.stderr.on('data', (text: Buffer) => (said = (said + text.toString()).slice(-4000)));
    const ready = await new Promise<{ webUrl: string }>((resolve, reject) => {
      createInterface({ input: child.stdout }).once('line', (line) => resolve(JSON.parse(line) as { webUrl: string }));
      void child.then(({ exitCode }) => reject(new Error(`surefire up ended with ${exitCode}: ${said.trim()}`)));
    });
    return {
      webUrl: ready.webUrl,
      async stop() {
        child.kill('SIGTERM');
        await child;
      },
    };
  }

  #args(args: string[]): string[] {
    return [CLI, ...args, '--config', this.#configFile, '--json'];
  }
}

/** A line of `surefire watch --json`; see docs/cli-json.md. */
export interface WatchLine {
  event: 'stage' | 'record' | 'waiting' | 'progress' | 'retry' | 'workers' | 'end';
  stage?: string;
  text?: string;
  waitingFor?: string;
  instruction?: string;
  command?: string;
  why?: string;
  outcome?: string;
  progress?: { text: string; disk: string; phase: string };
  report?: Record<string, unknown>;
  failure?: { type: string; message: string };
}
