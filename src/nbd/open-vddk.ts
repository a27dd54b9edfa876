import { fetchCertificate, sameFingerprint } from '../shared/pinned-tls.js';
import { pluginVersion } from './plugin-version.js';
import { startNbdkit } from './start-nbdkit.js';
import { StderrTail } from './stderr-tail.js';
import type { DiskSource, VddkOptions } from './types.js';

/** Only so does the plugin say which way VDDK took; not a line for each request. */
const TELL_WAY = ['-v', '-D', 'nbdkit.backend.datapath=0', '-D', 'vddk.datapath=0'];

/**
 * Serves one disk of one snapshot through VMware's VDDK. Nothing is opened on vSphere yet: each NBD connection is a login
 * plus an open, so connect once per pass and do not probe.
 *
 * @throws VddkUnavailable when nbdkit has no vddk plugin or the library does not load.
 */
export async function openVddk(options: VddkOptions): Promise<DiskSource> {
  const { nbdkitCommand = 'nbdkit', libdir, server, port, username, thumbprintSha1, fileName } = options;
  const version = await pluginVersion(nbdkitCommand, ['vddk', `libdir=${libdir}`]);
  const stderr = new StderrTail();
  const nbdkit = await startNbdkit({
    ...options,
    stderr,
    flags: TELL_WAY,
    plugin: [
      'vddk',
      `libdir=${libdir}`,
      `server=${server}`,
      ...(port === undefined ? [] : [`port=${port}`]),
      ...(options.nfcPort === undefined ? [] : [`nfchostport=${options.nfcPort}`]),
      `user=${username}`,
      `thumbprint=${thumbprintSha1}`,
      `vm=moref=${options.vmMoRef}`,
      `snapshot=${options.snapshotMoRef}`,
      `file=${fileName}`,
      ...(options.singleLink === true ? ['single-link=true'] : []),
      `transports=${options.transports.join(':')}`,
      // Given when it is off as well, so that the record says so (S26).
      `compression=${options.compression}`,
    ],
    secretPassword: options.password,
    subject: fileName,
  });
  return {
    ...nbdkit,
    pluginVersion: version,
    logins: options.logins,
    vddkWays: () => [...stderr.vddkWays],
    diagnose: (stderr) => compareThumbprint(stderr, server, port ?? 443, thumbprintSha1),
  };
}

/** VDDK says "Unknown error" for a wrong thumbprint, and for much else. The server's certificate decides. */
async function compareThumbprint(
  stderr: string,
  server: string,
  port: number,
  expected: string,
): Promise<string | undefined> {
  if (!/unknown error/i.test(stderr)) return undefined;
  const found = (await fetchCertificate(`https://${server}:${port}`).catch(() => undefined))?.thumbprintSha1;
  if (found === undefined || sameFingerprint(found, expected)) return undefined;
  return `error: the thumbprint of ${server} is ${found}, not ${expected}`;
}
