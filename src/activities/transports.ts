import { cancellationSignal } from '@temporalio/activity';
import { endpointOptions } from '../config.js';
import { openHttps, openVddk } from '../nbd/index.js';
import type { DiskSource } from '../nbd/index.js';
import { failure } from '../shared/index.js';
import { trustFor } from '../shared/pinned-tls.js';
import type { Deps } from './deps.js';
import type { CopyDiskInput } from './types.js';

/**
 * Starts an nbdkit that serves one disk of one snapshot, read only. Over https the base extent is what it serves, and
 * that is the snapshot's content because the workflow left nothing below the snapshot (R3).
 */
export async function openTransport({ config, vsphere }: Deps, input: CopyDiskInput): Promise<DiskSource> {
  const { vcenter, vmMoRef } = input.source;
  const endpoint = endpointOptions(config, 'vcenters', vcenter);
  const settings = {
    nbdkitCommand: config.transfer.nbdkit,
    runDir: config.transfer.runDir,
    signal: cancellationSignal(),
  };
  if (input.transport === 'https') {
    const client = vsphere(vcenter);
    const { datacenterPath } = await client.inspectVm({ vmMoRef });
    return openHttps({
      ...settings,
      url: client.diskUrl({ baseFileName: input.baseFileName, datacenterPath }),
      tls: await trustFor(endpoint),
      cookie: (refused) => client.sessionCookie({ refused }),
    });
  }
  const { vddkLibdir, vddkTransports, vddkCompression } = config.transfer;
  if (vddkLibdir === undefined) throw noVddk('no `transfer.vddkLibdir` is configured on this host');
  // VDDK logs in by itself, and knows nothing of passwords that were refused: ours goes first.
  await vsphere(vcenter).sessionCookie();
  const { hostname, port } = new URL(endpoint.url);
  return openVddk({
    ...settings,
    libdir: vddkLibdir,
    server: hostname,
    ...(port !== '' && { port: Number(port) }),
    nfcPort: config.vcenters[vcenter]?.nfcPort,
    username: endpoint.username,
    password: endpoint.password,
    thumbprintSha1: (await vsphere(vcenter).certificate()).thumbprintSha1,
    vmMoRef,
    snapshotMoRef: input.snapshotMoRef,
    fileName: input.fileName,
    transports: vddkTransports,
    compression: vddkCompression,
  });
}

function noVddk(why: string) {
  return failure('VddkUnavailable', {
    what: 'Disks cannot be read through VDDK here.',
    why,
    next: "unpack VMware's VDDK on the transfer host and name its folder in `transfer.vddkLibdir`, or use `--transport https`.",
  });
}
