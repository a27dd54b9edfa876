import type { Connection } from './connection.js';
import { allRecords, recordOf } from './marks.js';
import { vdiAccess } from './transfers.js';
import type { NbdAccess } from './types.js';

interface NbdInfo {
  exportname: string;
  address: string;
  port: number | string;
  cert: string;
  subject: string;
}

/**
 * Whether the pool offers disks by range over TLS. A network for NBD in clear text does not count, and beside one for TLS it
 * makes XAPI's server refuse everybody.
 */
export async function offersNbd(xapi: Connection): Promise<boolean> {
  const networks = await allRecords(xapi, 'network');
  const purposes = new Set(networks.flatMap(([, network]) => network['purpose'] as string[]));
  return purposes.has('nbd') && !purposes.has('insecure_nbd');
}

/**
 * Where a VDI can be read by range, over TLS; empty where the pool offers no such thing. First the host that its imports
 * and exports go to. Each names our session: it is asked for anew whenever a connection is opened.
 */
export async function nbdServers(xapi: Connection, vdiUuid: string): Promise<NbdAccess[]> {
  if (!(await offersNbd(xapi))) return [];
  const [vdiRef] = await recordOf(xapi, 'VDI', vdiUuid);
  const servers = await xapi.call<NbdInfo[]>('VDI.get_nbd_info', vdiRef);
  const preferred = new URL((await vdiAccess(xapi, vdiUuid)).host.url).hostname;
  const isPreferred = ({ address }: NbdInfo) => Number(address === preferred);
  return servers
    .toSorted((a, b) => isPreferred(b) - isPreferred(a))
    .map(({ exportname, address, port, cert, subject }) => ({
      host: address,
      port: Number(port),
      exportName: exportname,
      tls: { ca: cert, allowPartialTrustChain: true },
      serverName: subject,
    }));
}
