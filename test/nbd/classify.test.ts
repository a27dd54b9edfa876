import { describe, expect, it } from 'vitest';
import { nbdkitFailure } from '../../src/nbd/classify.js';
import { StderrTail } from '../../src/nbd/stderr-tail.js';
import { failureTypeOf } from '../../src/shared/errors.js';
import type { FailureType } from '../../src/shared/errors.js';

/** What VDDK 6.5-9, nbdkit 1.32-1.42, curl and our forwarder print, and what it means. */
const LINES: [line: string, type: FailureType][] = [
  [
    'vddk[1]: error: VixDiskLib_Open: [ds] a/a.vmdk: Insufficient permissions in the host operating system',
    'VddkAuthentication',
  ],
  ['VixDiskLib_ConnectEx: Cannot complete login due to an incorrect user name or password', 'VddkAuthentication'],
  ['VixDiskLib_ConnectEx: Incorrect user name or password', 'VddkAuthentication'],
  ['curl[1]: error: problem doing HEAD request: The requested URL returned error: 401', 'AuthenticationFailed'],
  ['forwarder: error: HTTP 401 for GET /folder/a/a-flat.vmdk', 'AuthenticationFailed'],
  ['VixDiskLib_Open: the host thumbprint does not match', 'ThumbprintMismatch'],
  ['forwarder: error: DEPTH_ZERO_SELF_SIGNED_CERT self-signed certificate', 'ThumbprintMismatch'],
  ['error: the thumbprint of vc is AA, not BB', 'ThumbprintMismatch'],
  ['NFC error 5: Failed to allocate the requested 2097176 bytes', 'SourceBusy'],
  ['Failed to allocate the requested 24117272 bytes', 'SourceBusy'],
  ['VixDiskLib_Open: [ds] a/a.vmdk: Failed to lock the file', 'SourceBusy'],
  ['forwarder: error: HTTP 500 for GET /folder/a/a-flat.vmdk', 'SourceBusy'],
  ['forwarder: error: HTTP 503 for GET /folder/a/a-flat.vmdk', 'SourceBusy'],
  ['forwarder: error: HTTP 429 for GET /folder/a/a-flat.vmdk', 'SourceBusy'],
  ['VixDiskLib_Open: [ds] a/a.vmdk: The file was not found', 'DiskNotFound'],
  ['VixDiskLib_Open: [ds] a/a.vmdk: File not found', 'DiskNotFound'],
  ['VixDiskLib_Open: The snapshot was not found', 'DiskNotFound'],
  ['curl[1]: error: problem doing HEAD request: The requested URL returned error: 404', 'DiskNotFound'],
  ['VixDiskLib_Open: [ds] a/a.vmdk: You do not have access rights to this file', 'SourceRefused'],
  ['curl[1]: error: problem doing HEAD request: The requested URL returned error: 403', 'SourceRefused'],
  ['VixDiskLib_ConnectEx: The specified server could not be contacted', 'HostUnreachable'],
  ['VixDiskLib_ConnectEx: The server refused connection', 'HostUnreachable'],
  ['command 4: asynchronous read failed: The server connection was lost', 'HostUnreachable'],
  ['command 4: asynchronous read failed: The host is shutting down', 'HostUnreachable'],
  ['Error reading from vmware-authd socket', 'HostUnreachable'],
  ['CnxAuthdConnect: Returning false: Resource temporarily unavailable', 'HostUnreachable'],
  ['VixDiskLib_Open: There was a socket error', 'HostUnreachable'],
  ['forwarder: error: ECONNREFUSED connect ECONNREFUSED 10.0.0.1:443', 'HostUnreachable'],
  ['forwarder: error: ENOTFOUND getaddrinfo ENOTFOUND esx7', 'HostUnreachable'],
  ['forwarder: error:  timed out: no answer for 120000 ms', 'HostUnreachable'],
  ['forwarder: error: connection lost: socket hang up', 'HostUnreachable'],
  ["nbdkit: error: cannot open plugin 'vddk': nbdkit-vddk-plugin.so: No such file or directory", 'VddkUnavailable'],
  ['libssl.so.3: cannot open shared object file: No such file or directory', 'VddkUnavailable'],
  ["nbdkit: error: unknown parameter 'transports'", 'VddkUnavailable'],
  ['VixDiskLib_QueryAllocatedBlocks: One of the parameters was invalid', 'VddkUnavailable'],
];

describe('what nbdkit prints', () => {
  it.each(LINES)('%s: %s', (line, type) => {
    const told = nbdkitFailure('nbdkit could not open it.', `nbdkit: something before\n${line}\n`, 'NbdConnectionLost');
    expect(failureTypeOf(told)).toBe(type);
    expect(told.message.split('\n')[1]).toBe(`nbdkit said: "${line.replace(/^nbdkit: /, '')}".`);
    expect(told.message).toMatch(/\nNext: ./);
  });

  it.each(['VixDiskLib_Open: Unknown error', 'munmap_chunk(): invalid pointer'])(
    'is quoted where it says nothing known: %s',
    (line) => {
      const told = nbdkitFailure('nbdkit could not open it.', line, 'NbdConnectionLost');
      expect(failureTypeOf(told)).toBe('NbdConnectionLost');
      expect(told.message).toContain(`nbdkit said: "${line}"`);
    },
  );

  it('is not what a leaving client or the vendor makes it print', () => {
    const tail = new StderrTail();
    tail.add('nbdkit: vddk[1]: error: write reply: NBD_CMD_READ: Broken pipe');
    tail.add('nbdkit: vddk[1]: error: CEIP: phone-home failed');
    tail.add('nbdkit: vddk[1]: error: VixDiskLib_Open: File not found');
    expect(tail.text()).toBe('nbdkit: vddk[1]: error: VixDiskLib_Open: File not found');
  });
});
