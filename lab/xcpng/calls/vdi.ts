import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { pipeline } from 'node:stream/promises';
import { attachToControlDomain, attachmentsOf, detachLater, uuidOf } from '../datapath.js';
import type { Row } from '../datamodel.js';
import { XapiError } from '../errors.js';
import { constructorFields } from '../generic.js';
import type { Behaviour } from '../methods.js';
import { withOperation } from '../operations.js';
import type { Call, Pool } from '../pool.js';
import { assertSpace, forkVdi, refreshUsage, removeVdi, shapeVdi } from '../storage.js';
import { changedBlocks } from '../changed-blocks.js';
import { flagOf, formatDate, listOf, mapOf, numberOf, textOf } from '../values.js';

/** Virtual disks. */
export const vdiCalls: Record<string, Behaviour> = {
  'VDI.create': ({ pool }: Call, record: unknown) => {
    const fields = constructorFields('VDI', record);
    const sr = textOf(fields, 'SR');
    pool.db.get('SR', sr);
    const smConfig = mapOf(fields, 'sm_config');
    const shape = shapeVdi(pool, sr, numberOf(fields, 'virtual_size'), smConfig['image-format']);
    assertSpace(pool, sr, shape.sizeBytes);
    const ref = pool.db.create('VDI', {
      ...fields,
      virtual_size: shape.sizeBytes,
      sm_config: { ...smConfig, 'image-format': shape.format },
      managed: true,
    });
    const uuid = uuidOf(pool.db.get('VDI', ref));
    pool.db.set('VDI', ref, { location: uuid });
    pool.vdis.create(uuid, shape.sizeBytes);
    refreshUsage(pool, ref);
    return ref;
  },
  'VDI.destroy': (call: Call, ref: string) =>
    withOperation(
      call,
      'VDI',
      ref,
      'destroy',
      () => assertDetached(call.pool, ref, 'destroy'),
      () => removeVdi(call.pool, ref),
    ),
  'VDI.resize': (call: Call, ref: string, sizeBytes: number) =>
    withOperation(
      call,
      'VDI',
      ref,
      'resize',
      () => assertDetached(call.pool, ref, 'resize'),
      () => {
        const { pool } = call;
        const vdi = pool.db.get('VDI', ref);
        const shape = shapeVdi(pool, textOf(vdi, 'SR'), sizeBytes, mapOf(vdi, 'sm_config')['image-format']);
        if (shape.sizeBytes < numberOf(vdi, 'virtual_size')) {
          throw new XapiError('VDI_TOO_SMALL', [ref, numberOf(vdi, 'virtual_size')]);
        }
        pool.vdis.resize(uuidOf(vdi), shape.sizeBytes);
        pool.db.set('VDI', ref, { virtual_size: shape.sizeBytes });
        refreshUsage(pool, ref);
      },
    ),
  'VDI.snapshot': (call: Call, ref: string) => forkManaged(call, ref, 'snapshot'),
  'VDI.clone': (call: Call, ref: string) => forkManaged(call, ref, 'clone'),
  'VDI.update': ({ pool }: Call, ref: string) => refreshUsage(pool, ref),

  'VDI.get_nbd_info': (call: Call, ref: string) => nbdInfo(call, ref),
  'VDI.checksum': async ({ pool, taskRef = '' }: Call, ref: string) => {
    const vdi = pool.db.get('VDI', ref);
    const host = attachmentsOf(pool, ref)[0]?.hostRef ?? pool.hostsOfSr(textOf(vdi, 'SR'))[0];
    if (host === undefined) throw new XapiError('SR_NO_PBDS', [textOf(vdi, 'SR')]);
    const vbd = attachToControlDomain(pool, ref, host, 'RO', taskRef);
    try {
      const hash = createHash('md5');
      await pipeline(createReadStream(pool.vdis.path(uuidOf(vdi))), hash);
      return hash.digest('hex');
    } finally {
      detachLater(pool, vbd);
    }
  },
  'VDI.enable_cbt': ({ pool }: Call, ref: string) => pool.db.set('VDI', ref, { cbt_enabled: true }),
  'VDI.disable_cbt': ({ pool }: Call, ref: string) => pool.db.set('VDI', ref, { cbt_enabled: false }),
  'VDI.list_changed_blocks': ({ pool }: Call, from: string, to: string) => {
    assertDetached(pool, to, 'list_changed_blocks');
    const [older, newer] = [pool.db.get('VDI', from), pool.db.get('VDI', to)];
    return changedBlocks(pool.vdis.path(uuidOf(older)), pool.vdis.path(uuidOf(newer)), numberOf(newer, 'virtual_size'));
  },
};

/** @throws VDI_IN_USE while anyone has it attached, a control domain included (invariant 7); OPERATION_NOT_ALLOWED for base copies */
function assertDetached(pool: Pool, ref: string, operation: string): void {
  const vdi = pool.db.get('VDI', ref);
  if (!flagOf(vdi, 'managed')) throw new XapiError('VDI_NOT_MANAGED', [ref]);
  if (attachmentsOf(pool, ref).length > 0) throw new XapiError('VDI_IN_USE', [ref, operation]);
}

function forkManaged(call: Call, ref: string, operation: 'snapshot' | 'clone'): Promise<string> {
  const check = (): void => {
    if (!flagOf(call.pool.db.get('VDI', ref), 'managed')) throw new XapiError('VDI_NOT_MANAGED', [ref]);
  };
  return withOperation(call, 'VDI', ref, operation, check, () =>
    forkVdi(call.pool, ref, operation === 'snapshot', formatDate()),
  );
}

/** One entry for each address of each host that sees the SR, on networks that have a purpose for it. */
function nbdInfo({ pool, session }: Call, ref: string): Row[] {
  const vdi = pool.db.get('VDI', ref);
  const networks = pool.db
    .entries('network')
    .filter(([, network]) => listOf(network, 'purpose').some((purpose) => /^(insecure_)?nbd$/.test(purpose)))
    .map(([network]) => network);
  const hosts = pool.hostsOfSr(textOf(vdi, 'SR'));
  return pool.db
    .entries('PIF')
    .map(([, pif]) => pif)
    .filter(
      (pif) =>
        hosts.includes(textOf(pif, 'host')) &&
        networks.includes(textOf(pif, 'network')) &&
        flagOf(pif, 'currently_attached') &&
        textOf(pif, 'IP') !== '',
    )
    .map((pif) => ({
      exportname: `/${uuidOf(vdi)}?session_id=${session}`,
      address: textOf(pif, 'IP'),
      port: pool.nbdPorts.get(textOf(pif, 'host')) ?? 0,
      cert: pool.certificates.get(textOf(pif, 'host')) ?? '',
      subject: textOf(pool.db.get('host', textOf(pif, 'host')), 'hostname'),
    }));
}
