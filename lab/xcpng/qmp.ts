import type { Duplex } from 'node:stream';
import { createInterface } from 'node:readline';

interface Message {
  QMP?: unknown;
  event?: string;
  data?: Record<string, unknown>;
  return?: unknown;
  error?: { desc: string };
}

/** A machine's monitor: commands one after the other, events as they come. */
export class Monitor {
  readonly #stream: Duplex;
  readonly #waiting: { resolve: (value: unknown) => void; reject: (error: Error) => void }[] = [];
  readonly #onEvent: (name: string, data: Record<string, unknown>) => void;
  #closed = false;

  constructor(stream: Duplex, onEvent: (name: string, data: Record<string, unknown>) => void) {
    this.#stream = stream;
    this.#onEvent = onEvent;
    const lines = createInterface({ input: stream });
    lines.on('line', (line) => this.#hear(JSON.parse(line) as Message));
    const close = (): void => {
      this.#closed = true;
      for (const { reject } of this.#waiting.splice(0)) reject(new Error('The machine is gone.'));
    };
    stream.on('close', close);
    // A machine that is killed with a question unread resets the connection, and the reader of lines passes that on.
    for (const emitter of [stream, lines]) emitter.on('error', close);
  }

  /** @throws when the machine refuses or goes away */
  execute(command: string, args: Record<string, unknown> = {}): Promise<unknown> {
    return new Promise((resolve, reject) => {
      if (this.#closed) return reject(new Error('The machine is gone.'));
      this.#waiting.push({ resolve, reject });
      this.#stream.write(`${JSON.stringify({ execute: command, arguments: args })}\n`);
    });
  }

  #hear(message: Message): void {
    if (message.event !== undefined) return this.#onEvent(message.event, message.data ?? {});
    if (message.QMP !== undefined) return;
    const waiting = this.#waiting.shift();
    if (message.error === undefined) waiting?.resolve(message.return);
    else waiting?.reject(new Error(message.error.desc));
  }
}
