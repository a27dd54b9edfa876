import { failure } from '../../shared/errors.js';
import { nameOf, reasonOf, safely } from './outcome.js';
import { Patience } from './patience.js';
import { openTransfer } from './raw-http.js';
import type { ExportOptions } from './types.js';

const IDLE_MS = 15 * 60_000;
/** So much at least has to come in that time. */
const STEP_BYTES = 1024 * 1024;

/**
 * The whole disk as bytes from `GET /export_raw_vdi?format=raw`, in pieces as they come. Ending the iteration early closes
 * the connection. HTTP cannot tell a cut export from a complete one, so length and task are checked at the end.
 *
 * @throws ExportIncomplete, ImportFailed (refused), ConnectionFailed, CertificateChanged.
 */
export async function* exportRaw(options: ExportOptions): AsyncGenerator<Buffer> {
  const { sizeBytes, idleTimeoutMs = IDLE_MS, taskOutcome, signal } = options;
  const { socket } = await openTransfer('GET', '/export_raw_vdi', options);
  const patience = new Patience(idleTimeoutMs, (error) => socket.destroy(error));
  const onAbort = () => socket.destroy(signal?.reason as Error);
  signal?.addEventListener('abort', onAbort, { once: true });
  let bytes = 0;
  let step = STEP_BYTES;
  let cause: unknown;
  try {
    try {
      patience.waits();
      for await (const piece of socket as AsyncIterable<Buffer>) {
        bytes += piece.length;
        patience.moved(bytes >= step);
        if (bytes >= step) step = bytes + STEP_BYTES;
        if (bytes > sizeBytes) break;
        yield piece;
        patience.waits();
      }
    } catch (error) {
      signal?.throwIfAborted();
      cause = error;
    }
  } finally {
    signal?.removeEventListener('abort', onAbort);
    patience.stop();
    socket.destroy();
  }
  const outcome = await safely(taskOutcome);
  if (bytes === sizeBytes && outcome.status === 'success') return;
  const why = outcome.status === 'success' ? undefined : reasonOf(outcome);
  throw failure(
    'ExportIncomplete',
    {
      what: `The export of ${nameOf(options)} ended after ${bytes} of ${sizeBytes} bytes.`,
      why: why ?? (cause instanceof Error ? cause.message : undefined),
      next: 'it is read again; if it stays, look at the task and the storage repository in XCP-ng.',
    },
    undefined,
    cause,
  );
}
