import type { Readable } from 'node:stream';
import { setTimeout as sleep } from 'node:timers/promises';
import { redact } from '../shared/redaction.js';

const MAX_LINES = 200;
const MAX_LINE_LENGTH = 500;
/** nbdkit prints a burst of these whenever a client leaves; they explain nothing. */
const NOISE = /write reply:|Broken pipe|Bad file descriptor|CEIP|phone.?home/i;

/** Lines of `-v`: too many to keep, and VDDK's own may name sessions. */
const DEBUG = /^nbdkit: (?:\S+: )?debug: (?:transport mode: (\w+))?/;

/** The last lines that a child process printed, with every secret replaced. */
export class StderrTail {
  /** Ways that VDDK said it took to the disk. */
  readonly vddkWays = new Set<string>();
  readonly #lines: { at: number; text: string }[] = [];

  listen(stream: Readable): void {
    let rest = '';
    stream.setEncoding('utf8').on('data', (text: string) => {
      const lines = (rest + text).split('\n');
      // A line without an end is cut, so that the memory stays bounded whatever the child prints.
      rest = (lines.pop() ?? '').slice(0, 65_536);
      lines.forEach((line) => this.add(line));
    });
    stream.on('end', () => this.add(rest));
    stream.on('error', () => undefined);
  }

  add(line: string): void {
    const debug = DEBUG.exec(line);
    if (debug?.[1] !== undefined) this.vddkWays.add(debug[1]);
    if (debug !== null || line.trim() === '' || NOISE.test(line)) return;
    this.#lines.push({ at: performance.now(), text: redact(line).slice(0, MAX_LINE_LENGTH) });
    if (this.#lines.length > MAX_LINES) this.#lines.shift();
  }

  /** @param since Only lines that arrived after this `performance.now()`. */
  text(since = 0): string {
    return this.#lines
      .filter((line) => line.at >= since)
      .map((line) => line.text)
      .join('\n');
  }

  /** The reason travels through another pipe than the NBD reply that it explains, so it may come a moment later. */
  async waitForError(since: number, deadlineMs = 500): Promise<string> {
    const deadline = performance.now() + deadlineMs;
    while (!/error/i.test(this.text(since)) && performance.now() < deadline) await sleep(10);
    return this.text(since);
  }
}
