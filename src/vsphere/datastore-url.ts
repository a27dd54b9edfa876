import { failure } from '../shared/errors.js';
import { parseDatastorePath } from './backings.js';

/**
 * Address under `/folder` of the flat extent of a base disk.
 *
 * Only flat extents are served that way; a delta's extent is not. Each part is encoded once.
 *
 * @param sdkUrl Address of the SOAP service; only its host and port are used.
 * @param baseFileName Descriptor at the bottom of the chain, `[datastore] dir/name.vmdk`.
 * @param datacenterPath Inventory path of the datacenter, folders included.
 * Source: vSphere Web Services SDK Programming Guide, "HTTP access to vSphere server files".
 */
export function diskUrl(sdkUrl: string, baseFileName: string, datacenterPath: string): string {
  const parsed = parseDatastorePath(baseFileName);
  if (!parsed || !parsed.path.endsWith('.vmdk')) {
    throw failure('SourceRefused', {
      what: `"${baseFileName}" is no disk on a datastore.`,
      why: 'The https transport reads flat disks of VMFS and NFS datastores only.',
      next: 'use the vddk transport for this VM.',
    });
  }
  const flat = parsed.path.replace(/\.vmdk$/, '-flat.vmdk');
  const path = flat.split('/').map(encodeURIComponent).join('/');
  const query = `dcPath=${encodeURIComponent(datacenterPath)}&dsName=${encodeURIComponent(parsed.datastore)}`;
  return `${new URL(sdkUrl).origin}/folder/${path}?${query}`;
}
