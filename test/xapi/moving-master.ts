import { createServer, type Server } from 'node:https';
import type { AddressInfo } from 'node:net';
import { X509Certificate } from 'node:crypto';
import { generate } from 'selfsigned';

interface Host {
  address: string;
  key: string;
  cert: string;
  logins: number;
}

export interface MovingMaster {
  /** Of the first host, which is the master until told otherwise. */
  url: string;
  fingerprintSha256: string;
  addresses: [string, string];
  logins(): number[];
  /** The other host is the master from now on; sessions are forgotten. */
  move(): void;
  /** The first host is gone. */
  lose(): Promise<void>;
  stop(): Promise<void>;
}

/**
 * Two hosts that speak just enough of XAPI for a login, each with a certificate of its own. The lab's pool keeps its
 * master; here it moves.
 */
export async function startMovingMaster(): Promise<MovingMaster> {
  const hosts = await Promise.all(['127.0.0.1', '127.0.0.2'].map(newHost));
  let master = 0;
  const servers: Server[] = [];
  let port = 0;
  for (const [index, host] of hosts.entries()) {
    const server = createServer({ key: host.key, cert: host.cert }, (request, response) => {
      let text = '';
      request.on('data', (data: Buffer) => (text += data.toString()));
      request.on('end', () => {
        const { method, params } = JSON.parse(text) as { method: string; params: string[] };
        if (method.startsWith('session.login')) host.logins += 1;
        const answer =
          index === master
            ? answerOf(hosts, master, method, params)
            : { error: { code: 1, message: 'HOST_IS_SLAVE', data: [hosts[master]!.address] } };
        const body = JSON.stringify({ jsonrpc: '2.0', id: 0, ...answer });
        response.writeHead(200, { 'content-type': 'application/json' }).end(body);
      });
    });
    await new Promise<void>((resolve) => server.listen(port, host.address, resolve));
    port = (server.address() as AddressInfo).port;
    servers.push(server);
  }
  return {
    url: `https://127.0.0.1:${port}`,
    fingerprintSha256: new X509Certificate(hosts[0]!.cert).fingerprint256,
    addresses: ['127.0.0.1', '127.0.0.2'],
    logins: () => hosts.map(({ logins }) => logins),
    move: () => (master = 1 - master),
    lose: () => end(servers[0]!),
    async stop() {
      await Promise.all(servers.filter(({ listening }) => listening).map(end));
    },
  };
}

async function end(server: Server): Promise<void> {
  const closed = new Promise((resolve) => server.close(resolve));
  server.closeAllConnections();
  await closed;
}

async function newHost(address: string): Promise<Host> {
  const { private: key, cert } = await generate([{ name: 'commonName', value: address }], {
    keyType: 'ec',
    extensions: [{ name: 'subjectAltName', altNames: [{ type: 7, ip: address }] }],
  });
  return { address, key, cert, logins: 0 };
}

function answerOf(
  hosts: Host[],
  master: number,
  method: string,
  params: string[],
): { result?: unknown; error?: unknown } {
  switch (method) {
    case 'session.login_with_password':
      return { result: `OpaqueRef:session-${master}` };
    case 'system.listMethods':
      return { result: ['pool.get_all_records', 'host.get_all_records'] };
  }
  if (params[0] !== `OpaqueRef:session-${master}`) {
    return { error: { code: 1, message: 'SESSION_INVALID', data: [params[0]] } };
  }
  switch (method) {
    case 'pool.get_all_records':
      return {
        result: {
          'OpaqueRef:pool': { uuid: 'pool', name_label: 'two', master: `OpaqueRef:${master}`, other_config: {} },
        },
      };
    case 'host.get_all_records':
      return {
        result: Object.fromEntries(
          hosts.map(({ address }, index) => [
            `OpaqueRef:${index}`,
            { uuid: `host-${index}`, address, enabled: true, metrics: 'OpaqueRef:NULL' },
          ]),
        ),
      };
    case 'host.get_address':
      return { result: hosts[Number(params[1]!.slice('OpaqueRef:'.length))]!.address };
    case 'host_metrics.get_live':
      return { result: true };
    case 'host.get_server_certificate':
      return { result: hosts[Number(params[1]!.slice('OpaqueRef:'.length))]!.cert };
    default:
      return { result: [] };
  }
}
