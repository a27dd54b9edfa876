import { bindSteps, type BoundSteps } from '../shared/bound-steps.js';
import { fetchAsPinned } from '../shared/pinned-tls.js';
import { queryChangedAreas } from './changed-areas.js';
import { setChangeTracking, setMark } from './configuration.js';
import { waitForConsolidation } from './consolidation.js';
import { diskUrl } from './datastore-url.js';
import { inspectVm } from './inspect.js';
import { about, listVms } from './inventory.js';
import { probeLink } from './link-probe.js';
import { explained, type Context } from './operations.js';
import { powerOff, powerOn, powerState, shutdownGuest } from './power.js';
import { checkPrivileges } from './privileges.js';
import { createSession } from './session.js';
import {
  ensureSnapshot,
  listSnapshots,
  removeSnapshot,
  removeSnapshots,
  revertToSnapshot,
  snapshotDisks,
} from './snapshots.js';
import type { VsphereOptions } from './types.js';

/** Every step that surefire does on a vCenter or host, by the name of its function. */
const STEPS = {
  about,
  listVms,
  inspectVm,
  checkPrivileges,
  snapshotDisks,
  listSnapshots,
  ensureSnapshot,
  removeSnapshot,
  removeSnapshots,
  waitForConsolidation,
  revertToSnapshot,
  setChangeTracking,
  queryChangedAreas,
  powerState,
  shutdownGuest,
  powerOff,
  powerOn,
  setMark,
};

/**
 * One vCenter or ESXi host, for as many callers as like to share it. Logs in at the first call and again, once per
 * call, when the session has expired.
 *
 * Every step may throw the failure types AuthenticationFailed, CertificateChanged, ConnectionFailed, SourceNotFound
 * (the object is gone), SourceRefused (rights, state or space; another attempt cannot help), SourceBusy (another task
 * or a lock; another attempt may help) and SourceTaskFailed.
 */
export type Vsphere = BoundSteps<Context, typeof STEPS> & {
  /** The certificate the server presents; equal to the pin where one is given. VDDK wants its `thumbprintSha1`. */
  certificate(): ReturnType<typeof fetchAsPinned>;
  /** What the network from there to here carries, bytes per second; undefined where it cannot be told. */
  probeLink(): Promise<number | undefined>;
  /** Address of the flat file under `/folder` for a base disk `[datastore] dir/name.vmdk`. No I/O. */
  diskUrl(input: { baseFileName: string; datacenterPath: string }): string;
  /**
   * `vmware_soap_session=...`, checked to be alive. Keep it out of argv and logs.
   * @param input.refused A cookie the server just refused: a new session is made unless somebody has already done so.
   */
  sessionCookie(input?: { refused?: string }): Promise<string>;
  /** Logs out and closes connections. May run twice. */
  close(): Promise<void>;
};

/** Prepares access to one vCenter or ESXi host. Connects and logs in at the first call, not here. */
export function createVsphere(options: VsphereOptions): Vsphere {
  const url = sdkUrl(options.url);
  const session = createSession({ ...options, url });
  const context: Context = { session, pollMs: options.pollMs ?? 1000 };
  return {
    ...bindSteps(context, STEPS),
    certificate: () => fetchAsPinned(url, options.fingerprintSha256),
    probeLink: () => probeLink(options),
    diskUrl: ({ baseFileName, datacenterPath }) => diskUrl(url, baseFileName, datacenterPath),
    sessionCookie: (input) => explained('Keeping the session failed.', () => session.cookie(input?.refused)),
    close: () => session.close(),
  };
}

function sdkUrl(url: string): string {
  const parsed = new URL(url);
  if (parsed.pathname === '/' || parsed.pathname === '') parsed.pathname = '/sdk';
  return parsed.href;
}
