import { lookup } from 'node:dns/promises';
import { connect } from 'node:net';
import { hostname } from 'node:os';
import type { Finding } from '../shared/index.js';
import type { Address } from './types.js';

const CONNECT_MS = 5_000;

/**
 * Whether this host reaches what a migration needs, without a word said there. Name resolution is a finding of its own:
 * vCenter calls its ESXi hosts by names that often nobody else knows (S58).
 */
export async function probeReach(addresses: readonly Address[]): Promise<Finding[]> {
  return (await Promise.all(addresses.map(reach))).flat();
}

async function reach({ host, port, what }: Address): Promise<Finding[]> {
  const about = { severity: 'error', object: what } as const;
  try {
    await lookup(host);
  } catch (error) {
    return [
      {
        ...about,
        code: 'N6',
        observed: `The name ${host} does not resolve on ${hostname()} (${codeOf(error)}).`,
        expected: 'a name that the transfer host can resolve',
        remedy: `give ${hostname()} a name server that knows ${host}, or a line in its /etc/hosts.`,
      },
    ];
  }
  const why = await connectTo(host, port);
  if (why === undefined) return [];
  return [
    {
      ...about,
      code: 'N7',
      observed: `${host}:${port} cannot be reached from ${hostname()} (${why}).`,
      expected: `an open port ${port}`,
      remedy: `open port ${port} of ${host} for ${hostname()}${port === 443 ? '' : ', or use --transport https'}.`,
    },
  ];
}

/** @returns Why not, or nothing. */
async function connectTo(host: string, port: number): Promise<string | undefined> {
  return new Promise((resolve) => {
    const socket = connect({ host, port, timeout: CONNECT_MS });
    const end = (why?: string) => {
      socket.destroy();
      resolve(why);
    };
    socket.once('connect', () => end());
    socket.once('timeout', () => end(`no answer within ${CONNECT_MS / 1000} s`));
    socket.once('error', (error) => end(codeOf(error)));
  });
}

/** Several addresses of one name fail together; the first one's reason says enough. */
function codeOf(error: unknown): string {
  const { code, errors } = error as NodeJS.ErrnoException & { errors?: NodeJS.ErrnoException[] };
  return code ?? errors?.[0]?.code ?? String(error);
}
