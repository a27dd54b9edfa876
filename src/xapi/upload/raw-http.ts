import tls from 'node:tls';
import { failure } from '../../shared/errors.js';
import { addressOf, pinnedTlsOptions, type PinnedTls } from '../../shared/pinned-tls.js';
import type { VdiTransferOptions } from './types.js';

/** XAPI reads at most 1024 bytes of a request head, and answers with less. */
const LONGEST_ANSWER_HEAD = 16_384;

/** A connection whose answer head has been read; what follows on the socket is the body. */
export interface Answer {
  socket: tls.TLSSocket;
  status: number;
  location?: string;
  address: string;
}

/**
 * Sends one request head and reads the answer's head, following one 302 to the host that sees the storage. XAPI answers an
 * import before it reads the body, so a redirect costs nothing; and nothing of the body has been sent when this throws.
 *
 * Own code because neither `https.request` nor undici sends a body without length and transfer-encoding, and XAPI refuses
 * the latter.
 *
 * @throws ImportFailed naming the status (401: the session has expired), CertificateChanged, ConnectionFailed.
 */
export async function openTransfer(method: 'GET' | 'PUT', path: string, options: VdiTransferOptions): Promise<Answer> {
  const query = new URLSearchParams({
    session_id: options.sessionId,
    task_id: options.taskRef,
    vdi: options.vdiRef,
    format: 'raw',
    ...(method === 'PUT' ? { chunked: 'true' } : {}),
  });
  const what = `${method === 'PUT' ? 'The import into' : 'The export of'} ${options.vdiName ?? options.vdiRef}`;
  const first = await ask(new URL(`${path}?${query}`, options.host.url), options.host.tls, method, what, options);
  if (first.status === 200) return first;
  first.socket.destroy();
  if (first.status !== 302) throw refused(what, first);
  const target = URL.canParse(first.location ?? '') ? new URL(first.location ?? '') : undefined;
  if (target?.protocol !== 'https:' || options.tlsForHost === undefined) throw refused(what, first);
  const second = await ask(target, await options.tlsForHost(addressOf(target.href).hostname), method, what, options);
  if (second.status === 200) return second;
  second.socket.destroy();
  throw refused(what, second);
}

async function ask(
  url: URL,
  pin: PinnedTls,
  method: string,
  what: string,
  options: VdiTransferOptions,
): Promise<Answer> {
  const { hostname: host, port } = addressOf(url.href);
  const address = url.host;
  const { signal, connectTimeoutMs = 60_000 } = options;
  signal?.throwIfAborted();
  const socket = tls.connect({
    ...pinnedTlsOptions(pin),
    host,
    port,
    ...(/^[\d.]+$|:/.test(host) ? {} : { servername: host }),
  });
  const onAbort = () => socket.destroy(signal?.reason as Error);
  signal?.addEventListener('abort', onAbort, { once: true });
  // For all of it: a head that comes byte by byte is none.
  const late = () => socket.destroy(new Error(`no answer in ${connectTimeoutMs} ms`));
  const timer = setTimeout(late, connectTimeoutMs);
  // Whoever takes the socket over looks at its end; until then a reset must not end the process.
  socket.on('error', () => undefined);
  socket.setNoDelay(true);
  socket.write(`${method} ${url.pathname}${url.search} HTTP/1.1\r\nHost: ${url.host}\r\nConnection: close\r\n\r\n`);
  try {
    const head = await answerHead(socket);
    const status = Number(/^HTTP\/1\.[01] (\d{3})(?=\s|$)/.exec(head)?.[1] ?? 0);
    const location = /^location:[ \t]*(\S+)/im.exec(head)?.[1];
    return { socket, status, address, ...(location === undefined ? {} : { location }) };
  } catch (error) {
    socket.destroy();
    signal?.throwIfAborted();
    throw connectFailure(what, address, error);
  } finally {
    clearTimeout(timer);
    signal?.removeEventListener('abort', onAbort);
  }
}

/** What comes behind it stays on the socket until someone listens. */
function answerHead(socket: tls.TLSSocket): Promise<string> {
  return new Promise((resolve, reject) => {
    let bytes = Buffer.alloc(0);
    const onData = (data: Buffer) => {
      bytes = Buffer.concat([bytes, data]);
      const end = bytes.indexOf('\r\n\r\n');
      if (end < 0 && bytes.length < LONGEST_ANSWER_HEAD) return;
      stop();
      if (end < 0) return reject(new Error('the answer has no end of its head'));
      socket.pause();
      if (bytes.length > end + 4) socket.unshift(bytes.subarray(end + 4));
      resolve(bytes.toString('latin1', 0, end));
    };
    const onError = (error: Error) => (stop(), reject(error));
    const onClose = () => (stop(), reject(new Error('the connection was closed before an answer came')));
    const stop = () => socket.off('data', onData).off('error', onError).off('close', onClose).off('end', onClose);
    socket.on('data', onData).on('error', onError).on('close', onClose).on('end', onClose);
  });
}

function connectFailure(what: string, address: string, error: unknown): Error {
  const { code = '', message } = error as NodeJS.ErrnoException;
  // Node's codes for a certificate that does not lead to the pinned one.
  if (/CERT|SIGNATURE|SELF_SIGNED|ALTNAME/.test(code)) {
    return failure(
      'CertificateChanged',
      {
        what: `${what} was not begun: host ${address} presents another certificate than the pinned one.`,
        why: message,
        next: 'if the change is legitimate, accept the new fingerprint that `surefire check` prints.',
      },
      undefined,
      error,
    );
  }
  return failure(
    'ConnectionFailed',
    { what: `${what} was not begun: no connection to ${address}.`, why: message },
    undefined,
    error,
  );
}

function refused(what: string, { status, address, location }: Answer): Error {
  if (status === 401) {
    // A session that expired; the next attempt logs in again, so it is worth one.
    return failure(
      'ImportFailed',
      { what: `${what} was refused by ${address}: the session is not valid any more (401).` },
      { status },
    );
  }
  return failure(
    'ImportFailed',
    {
      what: `${what} was refused by ${address} with HTTP ${status}.`,
      why: location === undefined ? 'Nothing was transferred.' : 'It redirects to a host that cannot be followed.',
      next: 'look at the task and at the storage repository in XCP-ng.',
    },
    { status },
  );
}
