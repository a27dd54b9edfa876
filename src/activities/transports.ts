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
 *
 * @param input.singleLink The snapshot's own link of the chain alone, for its map: what it lacks reads as zeroes.
 * @param signal Ends the start only.
 */
export async function openTransport(
  { config, vsphere, vsphereLogins }: Pick<Deps, 'config' | 'vsphere' | 'vsphereLogins'>,
  input: Pick<CopyDiskInput, 'source' | 'transport' | 'snapshotMoRef' | 'fileName' | 'baseFileName'> & {
    singleLink?: boolean;
  },
  signal: AbortSignal,
): Promise<DiskSource> {
  const { vcenter, vmMoRef } = input.source;
  const endpoint = endpointOptions(config, 'vcenters', vcenter);
  const settings = {
    nbdkitCommand: config.transfer.nbdkit,
    runDir: config.transfer.runDir,
    signal,
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
  const client = vsphere(vcenter);
  // VDDK logs in by itself, and knows nothing of passwords that were refused: ours goes first.
  const session = await client.sessionCookie();
  const { hostname, port } = new URL(endpoint.url);
  return openVddk({
    ...settings,
    libdir: vddkLibdir,
    server: hostname,
    ...(port !== '' && { port: Number(port) }),
    nfcPort: config.vcenters[vcenter]?.nfcPort,
    username: endpoint.username,
    password: endpoint.password,
    logins: {
      check: (signal) => vsphereLogins(vcenter).check(signal),
      // VDDK says the same of a wrong password and of a privilege that lacks. Another login of ours tells which, and a wrong
      // password is then remembered by its guard: no other disk tries it.
      refused: async () => void (await client.sessionCookie({ refused: session })),
    },
    thumbprintSha1: (await client.certificate()).thumbprintSha1,
    vmMoRef,
    snapshotMoRef: input.snapshotMoRef,
    fileName: input.fileName,
    singleLink: input.singleLink,
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
