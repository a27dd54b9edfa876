import { fetchCertificate } from './certificates.js';
import { queryChangedAreas } from './changed-areas.js';
import { readMark, setChangeTracking, setMark } from './configuration.js';
import { waitForConsolidation } from './consolidation.js';
import { diskUrl } from './datastore-url.js';
import { recentEvents } from './events.js';
import { inspectVm } from './inspect.js';
import { about, findVm, listVms } from './inventory.js';
import { explained, type Context } from './operations.js';
import { powerState, setPower, shutdownGuest } from './power.js';
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
import type { Vsphere, VsphereOptions } from './types.js';

/** Prepares access to one vCenter or ESXi host. Connects and logs in at the first call, not here. */
export function createVsphere(options: VsphereOptions): Vsphere {
  const url = sdkUrl(options.url);
  const session = createSession({ ...options, url });
  const context: Context = { session, pollMs: options.pollMs ?? 1000 };
  return {
    about: () => about(context),
    async certificate() {
      return (await session.trust()).certificate ?? fetchCertificate(url);
    },
    listVms: () => listVms(context),
    inspectVm: ({ vmMoRef }) => inspectVm(context, vmMoRef),
    findVm: ({ instanceUuid }) => findVm(context, instanceUuid),

    snapshotDisks: ({ snapshotMoRef }) => snapshotDisks(context, snapshotMoRef),
    listSnapshots: ({ vmMoRef }) => listSnapshots(context, vmMoRef),
    ensureSnapshot: (input) => ensureSnapshot(context, input),
    removeSnapshot: (input) => removeSnapshot(context, input.snapshotMoRef, input),
    removeSnapshots: (input) => removeSnapshots(context, input),
    waitForConsolidation: (input) => waitForConsolidation(context, input),
    revertToSnapshot: (input) => revertToSnapshot(context, input.snapshotMoRef, input),

    setChangeTracking: (input) => setChangeTracking(context, input),
    queryChangedAreas: (input) => queryChangedAreas(context, input),

    powerState: ({ vmMoRef }) => powerState(context, vmMoRef),
    shutdownGuest: ({ vmMoRef }) => shutdownGuest(context, vmMoRef),
    powerOff: (input) => setPower(context, 'poweredOff', input),
    powerOn: (input) => setPower(context, 'poweredOn', input),

    setMark: (input) => setMark(context, input),
    readMark: ({ vmMoRef }) => readMark(context, vmMoRef),

    recentEvents: (input) => recentEvents(context, input),
    checkPrivileges: () => checkPrivileges(context),

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
