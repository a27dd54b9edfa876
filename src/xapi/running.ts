import { request } from 'node:https';
import { failure } from '../shared/errors.js';
import { pinnedTlsOptions } from '../shared/pinned-tls.js';
import type { Connection } from './connection.js';
import { NULL_REF, recordOf, unlessGone } from './marks.js';
import { hardShutdown } from './removal.js';
import { hostOf } from './transfers.js';
import type { VmObservation, XapiRecord } from './types.js';

/** Starts a VM; one that runs already is fine. */
export async function startVm(xapi: Connection, vmUuid: string): Promise<void> {
  const [ref, vm] = await recordOf(xapi, 'VM', vmUuid);
  if (vm['power_state'] !== 'Running') await xapi.call('VM.start', ref, false, false);
}

/** Stops a VM at once; one that is off already is fine. */
export async function stopVm(xapi: Connection, vmUuid: string): Promise<void> {
  const [ref, vm] = await recordOf(xapi, 'VM', vmUuid);
  if (vm['power_state'] !== 'Halted') await hardShutdown(xapi, ref);
}

/** XAPI's word for the power state; undefined when there is no such VM any more. */
export async function powerStateOf(xapi: Connection, vmUuid: string): Promise<string | undefined> {
  return unlessGone(async () => String((await recordOf(xapi, 'VM', vmUuid))[1]['power_state']), undefined);
}

/** What the pool knows of a running VM. Guest metrics exist only where an agent reports (R23). */
export async function observeVm(xapi: Connection, vmUuid: string): Promise<VmObservation> {
  const [, vm] = await recordOf(xapi, 'VM', vmUuid);
  const metrics = await xapi.call<XapiRecord>('VM_metrics.get_record', vm['metrics']);
  const vifs = await Promise.all(
    (vm['VIFs'] as string[]).map(async (ref) => {
      const vif = await xapi.call<XapiRecord>('VIF.get_record', ref);
      const network = await xapi.call<XapiRecord>('network.get_record', vif['network']);
      return { mac: String(vif['MAC']), networkUuid: network.uuid, hasPif: (network['PIFs'] as string[]).length > 0 };
    }),
  );
  const seen = { powerState: String(vm['power_state']), startTime: isoDate(String(metrics['start_time'])), vifs };
  if (vm['guest_metrics'] === NULL_REF) return seen;
  const guest = await xapi.call<XapiRecord>('VM_guest_metrics.get_record', vm['guest_metrics']);
  return {
    ...seen,
    guest: {
      osVersion: guest['os_version'] as Record<string, string>,
      addresses: Object.values(guest['networks'] as Record<string, string>),
      pvDrivers: guest['PV_drivers_detected'] === true,
    },
  };
}

/** XAPI writes `20260821T02:00:23Z`, ISO 8601's basic date with its extended time. */
const isoDate = (text: string): string => text.replace(/^(\d{4})(\d{2})(\d{2})T/, '$1-$2-$3T');

/** The picture on a running VM's screen, from the host it runs on; undefined when that host cannot make one. */
export async function consolePicture(
  xapi: Connection,
  vmUuid: string,
): Promise<{ contentType: string; bytes: Buffer } | undefined> {
  const [, vm] = await recordOf(xapi, 'VM', vmUuid);
  if (vm['resident_on'] === NULL_REF) return undefined;
  const host = await hostOf(xapi, String(vm['resident_on']));
  const session = await xapi.session();
  const url = new URL(`/vncsnapshot?session_id=${encodeURIComponent(session)}&uuid=${vmUuid}`, host.url);
  return new Promise((resolve, reject) => {
    const asked = request(url, { ...pinnedTlsOptions(host.tls), timeout: 60_000 }, (response) => {
      const parts: Buffer[] = [];
      response.on('data', (part: Buffer) => parts.push(part));
      response.on('error', reject);
      response.on('end', () => {
        if (response.statusCode !== 200) return resolve(undefined);
        const bytes = Buffer.concat(parts);
        resolve({ contentType: bytes.subarray(1, 4).toString('latin1') === 'PNG' ? 'image/png' : 'image/jpeg', bytes });
      });
    });
    asked.on('timeout', () => asked.destroy(new Error('no console picture within 60 s')));
    asked.on('error', (error) =>
      reject(
        failure(
          'ConnectionFailed',
          { what: `The console of ${vmUuid} could not be fetched.`, why: error.message },
          undefined,
          error,
        ),
      ),
    );
    asked.end();
  });
}
