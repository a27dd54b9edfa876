import { asXapiError } from './errors.js';
import { exportRawVdi } from './export.js';
import type { Connection, Handler, HttpRequest } from './http.js';
import { importRawVdi } from './import.js';
import { formatJsonFailure, formatJsonSuccess, parseJsonCall } from './jsonrpc.js';
import type { Pool } from './pool.js';
import { AnswerLost, dispatch } from './rpc.js';
import { formatXmlFailure, formatXmlSuccess, parseXmlCall } from './xmlrpc.js';

type Transfer = (pool: Pool, hostRef: string, request: HttpRequest, connection: Connection) => Promise<void>;

/** Handlers that want a session in the query, a cookie, or HTTP Basic. Paths match by prefix, as in XAPI. */
const TRANSFERS: [method: string, path: string, run: Transfer][] = [
  ['PUT', '/import_raw_vdi', importRawVdi],
  ['GET', '/export_raw_vdi', exportRawVdi],
  ['GET', '/vncsnapshot', vncSnapshot],
];

/** What one host serves over HTTPS. */
export function hostHandler(pool: Pool, hostRef: string): Handler {
  return async (request, connection) => {
    if (request.method === 'POST') return serveRpc(pool, hostRef, request, connection);
    const found = TRANSFERS.find(([method, path]) => method === request.method && request.path.startsWith(path));
    if (found === undefined) {
      connection.respondAndClose(404, {});
    } else if (!isAuthorised(pool, request)) {
      connection.respondAndClose(401, { 'www-authenticate': 'Basic realm="XAPI"' });
    } else {
      await found[2](pool, hostRef, request, connection).catch((error: unknown) => {
        connection.respondAndClose(
          500,
          { 'content-type': 'text/html' },
          `<html><body>${asXapiError(error).message}</body></html>`,
        );
      });
    }
    return false;
  };
}

function isAuthorised(pool: Pool, request: HttpRequest): boolean {
  const basic = /^Basic (\S+)$/.exec(request.headers.get('authorization') ?? '')?.[1];
  if (basic !== undefined) return Buffer.from(basic, 'base64').toString() === `root:${pool.password}`;
  return pool.db.find('session', request.param('session_id') ?? '') !== undefined;
}

async function serveRpc(pool: Pool, hostRef: string, request: HttpRequest, connection: Connection): Promise<boolean> {
  if (!request.headers.has('content-length')) {
    connection.respondAndClose(411, {});
    return false;
  }
  const body = await connection.readBody(request);
  if (body === undefined) return false;
  const isJson = request.path.startsWith('/json');
  const answering = (isJson ? answerJson : answerXml)(pool, hostRef, body.toString());
  const answer = await answering.catch((error: unknown) => {
    if (!(error instanceof AnswerLost)) throw error;
    return error;
  });
  if (answer instanceof AnswerLost) {
    connection.socket.destroy();
    return false;
  }
  if (answer === undefined) {
    connection.respondAndClose(500, { 'content-type': 'text/html' }, '<html><body>malformed request</body></html>');
    return false;
  }
  connection.respond(200, { 'content-type': isJson ? 'application/json' : 'text/xml' }, answer);
  return true;
}

async function answerJson(pool: Pool, hostRef: string, text: string): Promise<string | undefined> {
  const call = parseJsonCall(text);
  if (call === undefined) return undefined;
  try {
    return formatJsonSuccess(call, (await dispatch(pool, hostRef, call.method, call.params)).value);
  } catch (error) {
    if (error instanceof AnswerLost) throw error;
    return formatJsonFailure(call, error);
  }
}

async function answerXml(pool: Pool, hostRef: string, text: string): Promise<string> {
  try {
    const { method, params } = parseXmlCall(text);
    const { value, type } = await dispatch(pool, hostRef, method, params);
    return formatXmlSuccess(value, type, method === 'system.listMethods');
  } catch (error) {
    if (error instanceof AnswerLost) throw error;
    return formatXmlFailure(error);
  }
}

/**
 * `GET /vncsnapshot`: a picture of the VM's screen, by `ref` or `uuid` of the VM or its console, on the host it runs on.
 * A real host sends JPEG; the lab sends the PNG that qemu makes.
 */
async function vncSnapshot(pool: Pool, hostRef: string, request: HttpRequest, connection: Connection): Promise<void> {
  const named = request.param('ref') ?? request.param('uuid') ?? '';
  const isNamed = ([ref, row]: [string, { [field: string]: unknown }]): boolean =>
    ref === named || row['uuid'] === named;
  const console = pool.db.entries('console').find(isNamed);
  const vmRef = console === undefined ? pool.db.entries('VM').find(isNamed)?.[0] : String(console[1]['VM']);
  const isHere = vmRef !== undefined && pool.db.get('VM', vmRef)['resident_on'] === hostRef;
  const picture = isHere ? await pool.machines.screen(vmRef) : undefined;
  if (picture === undefined) return connection.respondAndClose(404, {});
  connection.respondAndClose(200, { 'content-disposition': 'attachment; filename="snapshot.png"' }, picture);
}
