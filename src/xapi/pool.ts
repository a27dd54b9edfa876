import { failure } from '../shared/errors.js';
import type { Connection } from './connection.js';
import { allRecords, NULL_REF, recordOf } from './marks.js';
import type { PoolFacts, SrFacts, XapiRecord } from './types.js';

/** SR types whose disks take their whole size at once (xapi, sm drivers). */
const THICK = ['lvm', 'lvmoiscsi', 'lvmohba', 'lvmofcoe'];

/** True for a host that runs and takes work: XAPI calls one enabled that is merely dead. */
export async function isUp(xapi: Connection, host: XapiRecord): Promise<boolean> {
  if (host['enabled'] !== true) return false;
  if (host['metrics'] === NULL_REF) return true;
  return xapi.call<boolean>('host_metrics.get_live', host['metrics']);
}

export async function about(xapi: Connection): Promise<PoolFacts> {
  const [pool] = await allRecords(xapi, 'pool');
  const hosts = await allRecords(xapi, 'host');
  if (!pool) throw new Error(`${xapi.url} has no pool record`);
  const master = hosts.find(([ref]) => ref === pool[1]['master'])?.[1];
  const version = (master?.['software_version'] ?? {}) as Record<string, string>;
  return {
    poolName: String(pool[1]['name_label']),
    productVersion: `${version['product_brand'] ?? ''} ${version['product_version'] ?? ''}`.trim(),
    hostAddresses: hosts.map(([, host]) => String(host['address'])),
  };
}

/** An SR by uuid or name. @throws TargetNotFound listing what there is */
export async function findSr(xapi: Connection, wanted: string): Promise<SrFacts> {
  return srFacts(xapi, (await findOne(xapi, 'SR', wanted)).uuid);
}

/** A network by uuid or name. @throws TargetNotFound listing what there is */
export async function findNetwork(xapi: Connection, wanted: string): Promise<{ uuid: string; name: string }> {
  const found = await findOne(xapi, 'network', wanted);
  return { uuid: found.uuid, name: String(found['name_label']) };
}

/** Size and use of an SR, asked from its driver now. */
export async function srFacts(xapi: Connection, srUuid: string): Promise<SrFacts> {
  const [ref] = await recordOf(xapi, 'SR', srUuid);
  await xapi.call('SR.scan', ref);
  const [, sr] = await recordOf(xapi, 'SR', srUuid);
  const type = String(sr['type']);
  const driver = (await allRecords(xapi, 'SM')).find(([, sm]) => sm['type'] === type)?.[1];
  return {
    uuid: sr.uuid,
    name: String(sr['name_label']),
    type,
    sizeBytes: Number(sr['physical_size']),
    usedBytes: Number(sr['physical_utilisation']),
    thick: THICK.includes(type),
    // The field came with xapi 26.15; without it only VHD is certain.
    formats: (driver?.['supported_image_formats'] as string[] | undefined) ?? ['vhd'],
  };
}

async function findOne(xapi: Connection, type: 'SR' | 'network', wanted: string): Promise<XapiRecord> {
  const all = (await allRecords(xapi, type)).map(([, record]) => record);
  const found = all.filter((record) => record.uuid === wanted || record['name_label'] === wanted);
  if (found.length === 1 && found[0]) return found[0];
  const names = (records: XapiRecord[]) =>
    records.map((record) => `"${String(record['name_label'])}" (${record.uuid})`).join(', ');
  throw failure('TargetNotFound', {
    what:
      found.length === 0
        ? `${xapi.url} has no ${type} "${wanted}".`
        : `"${wanted}" matches ${found.length} of ${type}: ${names(found)}.`,
    why: found.length === 0 ? `It has: ${names(all)}.` : undefined,
    next: found.length === 0 ? 'correct the name in surefire.yaml.' : 'use the uuid.',
  });
}
