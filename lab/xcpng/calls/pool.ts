import type { Behaviour } from '../methods.js';
import type { Call } from '../pool.js';
import { coalesce, refreshSr, refreshUsage } from '../storage.js';
import { formatDate, listOf } from '../values.js';

/** Hosts and storage repositories. */
export const poolCalls: Record<string, Behaviour> = {
  'SR.scan': ({ pool }: Call, sr: string) => {
    for (const vdi of listOf(pool.db.get('SR', sr), 'VDIs')) refreshUsage(pool, vdi);
    coalesce(pool, sr);
    refreshSr(pool, sr);
  },
  'SR.update': ({ pool }: Call, sr: string) => refreshSr(pool, sr),
  'host.get_servertime': () => formatDate(),
  'host.get_server_certificate': ({ pool }: Call, host: string) => pool.certificates.get(host) ?? '',
  'host.enable': ({ pool }: Call, host: string) => pool.db.set('host', host, { enabled: true }),
  'host.disable': ({ pool }: Call, host: string) => pool.db.set('host', host, { enabled: false }),
  'PBD.plug': ({ pool }: Call, pbd: string) => pool.db.set('PBD', pbd, { currently_attached: true }),
  'PBD.unplug': ({ pool }: Call, pbd: string) => pool.db.set('PBD', pbd, { currently_attached: false }),
};
