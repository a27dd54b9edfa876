import type { Socket } from 'node:net';
import { once } from 'node:events';
import { SocketReader } from './socket-reader.js';

/** XAPI's cap on a request's header block over TCP. */
const HEAD_LIMIT_BYTES = 1024;

const REASONS: Record<number, string> = {
  200: 'OK',
  302: 'Found',
  400: 'Bad Request',
  401: 'Unauthorised',
  404: 'Not Found',
  411: 'Length Required',
  431: 'Request Header Fields Too Large',
  500: 'Internal Error',
};

/** A request's head; the body is still in the connection. */
export interface HttpRequest {
  method: string;
  path: string;
  /** The text after `?`, as it came. */
  queryText: string;
  headers: ReadonlyMap<string, string>;
  /** A parameter from the query or, failing that, from a cookie. Undefined where it is absent. */
  param(name: string): string | undefined;
}

/**
 * One client connection. XAPI has its own HTTP server and so have we: an import answers before it reads,
 * and its body has no length, which Node's server cannot do.
 */
export class Connection {
  readonly reader: SocketReader;
  readonly socket: Socket;

  constructor(socket: Socket) {
    this.socket = socket;
    this.reader = new SocketReader(socket);
  }

  /** Bytes of a request's body; undefined where the client hung up or sent no length. */
  async readBody(request: HttpRequest): Promise<Buffer | undefined> {
    const length = Number(request.headers.get('content-length') ?? NaN);
    if (!Number.isSafeInteger(length) || length < 0) return undefined;
    const body = Buffer.alloc(length);
    return (await this.reader.readInto(body, length)) === length ? body : undefined;
  }

  /** Writes a whole answer. */
  respond(status: number, headers: Record<string, string>, body: string | Buffer = ''): void {
    const bytes = Buffer.from(body as string);
    this.writeHead(status, { ...headers, 'content-length': String(bytes.length) });
    this.socket.write(bytes);
  }

  /** Answers and says goodbye. */
  respondAndClose(status: number, headers: Record<string, string>, body: string | Buffer = ''): void {
    this.respond(status, { connection: 'close', ...headers }, body);
    this.close();
  }

  writeHead(status: number, headers: Record<string, string>): void {
    const lines = Object.entries(headers).map(([name, value]) => `${name}: ${value}\r\n`);
    this.socket.write(`HTTP/1.1 ${status} ${REASONS[status] ?? 'Error'}\r\n${lines.join('')}\r\n`);
  }

  /** Writes body bytes, waiting while the client is slow. False once the client is gone. */
  async write(bytes: Buffer): Promise<boolean> {
    if (this.socket.destroyed) return false;
    if (!this.socket.write(bytes)) {
      const done = new AbortController();
      const heard = (event: string) => once(this.socket, event, { signal: done.signal });
      await Promise.race([heard('drain'), heard('close')]).catch(() => undefined);
      done.abort(); // the listener that heard nothing goes as well
    }
    return !this.socket.destroyed;
  }

  /** Flushes, then closes without waiting for the peer, as XAPI does. */
  close(): void {
    this.socket.destroySoon();
  }
}

/** Answers one request. `true`: the connection may carry another one. */
export type Handler = (request: HttpRequest, connection: Connection) => Promise<boolean>;

/** Serves the requests of one connection, one after the other. */
export async function serveConnection(socket: Socket, handle: Handler): Promise<void> {
  const connection = new Connection(socket);
  for (;;) {
    const head = await connection.reader.readHead(HEAD_LIMIT_BYTES);
    if (head === undefined) return connection.close();
    if (head === null) return connection.respondAndClose(431, {});
    const request = parseHead(head);
    if (request === undefined) return connection.respondAndClose(400, {});
    const goOn = await handle(request, connection);
    if (!goOn || request.headers.get('connection')?.toLowerCase() === 'close') return connection.close();
  }
}

function parseHead(head: string): HttpRequest | undefined {
  const [first = '', ...lines] = head.split('\r\n');
  const match = /^([A-Z]+) (\S+) HTTP\/1\.[01]$/.exec(first);
  if (match === null) return undefined;
  const [, method = '', target = ''] = match;
  const headers = new Map(
    lines.map((line) => {
      const colon = line.indexOf(':');
      return [line.slice(0, colon).trim().toLowerCase(), line.slice(colon + 1).trim()];
    }),
  );
  const question = target.indexOf('?');
  const queryText = question < 0 ? '' : target.slice(question + 1);
  const query = new URLSearchParams(queryText);
  const cookies = new URLSearchParams((headers.get('cookie') ?? '').split(/;\s*/).join('&'));
  return {
    method,
    path: question < 0 ? target : target.slice(0, question),
    queryText,
    headers,
    param: (name) => query.get(name) ?? cookies.get(name) ?? undefined,
  };
}
