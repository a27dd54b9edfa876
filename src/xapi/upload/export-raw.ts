import { failure } from '../../shared/errors.js';
import { nameOf, safely } from './outcome.js';
import { openTransfer } from './raw-http.js';
import type { ExportOptions } from './types.js';

const IDLE_MS = 15 * 60_000;

/**
 * The whole disk as bytes from `GET /export_raw_vdi?format=raw`, in pieces as they come. Ending the iteration early closes
 * the connection. HTTP cannot tell a cut export from a complete one, so length and task are checked at the end.
 *
 * @throws ExportIncomplete, ImportFailed (refused), ConnectionFailed, CertificateChanged.
 */
export async function* exportRaw(options: ExportOptions): AsyncGenerator<Buffer> {
  const { sizeBytes, idleTimeoutMs = IDLE_MS, taskOutcome, signal } = options;
  const { socket, rest } = await openTransfer('GET', '/export_raw_vdi', options);
  socket.setTimeout(idleTimeoutMs, () => socket.destroy(new Error(`no byte for ${idleTimeoutMs} ms`)));
  const onAbort = () => socket.destroy(signal?.reason as Error);
  signal?.addEventListener('abort', onAbort, { once: true });
  let bytes = rest.length;
  let cause: unknown;
  try {
    if (rest.length > 0) yield rest;
    try {
      for await (const piece of socket as AsyncIterable<Buffer>) {
        bytes += piece.length;
        if (bytes > sizeBytes) break;
        yield piece;
      }
    } catch (error) {
      signal?.throwIfAborted();
      cause = error;
    }
  } finally {
    signal?.removeEventListener('abort', onAbort);
    socket.destroy();
  }
  const outcome = await safely(taskOutcome);
  if (bytes === sizeBytes && outcome.status === 'success') return;
  const why =
    outcome.status === 'failure'
      ? outcome.errorInfo.join(' ')
      : outcome.status === 'unknown'
        ? outcome.reason
        : undefined;
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
