import { failure } from '../shared/errors.js';
import type { Connection } from './connection.js';
import { allRecords, belongsTo, isTestCopy, KEYS, recordOf, refOf, setKey, testName } from './marks.js';
import { destroyNetwork, destroyVm } from './removal.js';
import { createVifs } from './target-vm.js';
import type { XapiRecord } from './types.js';

/**
 * Clones the snapshot of a verified pass onto a network without a physical interface, of this migration alone (R23).
 * The base itself is never started. May run twice.
 */
export async function createTestCopy(
  xapi: Connection,
  input: { migrationId: string; snapshotUuid: string; name: string; networkName: string; nics: { mac: string }[] },
): Promise<{ vmUuid: string; networkUuid: string }> {
  const { migrationId } = input;
  const networkUuid = await ensureNetwork(xapi, migrationId, input.networkName);
  const existing = await findTestCopy(xapi, migrationId);
  const ref = existing?.[0] ?? (await cloneSnapshot(xapi, input.snapshotUuid, testName(input.name)));
  const vmUuid = await xapi.call<string>('VM.get_uuid', ref);
  await setKey(xapi, 'VM', ref, KEYS.test, vmUuid);
  const networkRef = await refOf(xapi, 'network', networkUuid);
  for (const vif of await xapi.call<string[]>('VM.get_VIFs', ref)) {
    if ((await xapi.call<string>('VIF.get_network', vif)) !== networkRef) await xapi.call('VIF.destroy', vif);
  }
  await createVifs(
    xapi,
    ref,
    input.nics.map(({ mac }) => ({ mac, networkUuid })),
  );
  // Last: a template cannot be started, and until here its cards were on the source's networks.
  await xapi.call('VM.set_is_a_template', ref, false);
  return { vmUuid, networkUuid };
}

async function cloneSnapshot(xapi: Connection, snapshotUuid: string, name: string): Promise<string> {
  const [ref] = await recordOf(xapi, 'VM', snapshotUuid);
  return xapi.call<string>('VM.clone', ref, name);
}

async function findTestCopy(xapi: Connection, migrationId: string): Promise<[string, XapiRecord] | undefined> {
  return (await allRecords(xapi, 'VM')).find(([, vm]) => belongsTo(vm, migrationId) && isTestCopy(vm));
}

async function ensureNetwork(xapi: Connection, migrationId: string, name: string): Promise<string> {
  const existing = (await allRecords(xapi, 'network')).find(([, network]) => belongsTo(network, migrationId));
  if (existing) return existing[1].uuid;
  const ref = await xapi.call<string>('network.create', {
    name_label: name,
    name_description: `Isolated: no physical interface. Made for the test copy of ${migrationId}.`,
    other_config: { [KEYS.migration]: migrationId },
    MTU: 1500,
    tags: [],
  });
  return xapi.call<string>('network.get_uuid', ref);
}

/** @throws TargetRefused when a card is on a network with a physical interface, or on one that is not ours (S103). */
export async function requireIsolated(xapi: Connection, vmUuid: string, migrationId: string): Promise<void> {
  const [ref] = await recordOf(xapi, 'VM', vmUuid);
  for (const vif of await xapi.call<string[]>('VM.get_VIFs', ref)) {
    const network = await xapi.call<XapiRecord>('network.get_record', await xapi.call('VIF.get_network', vif));
    if ((network['PIFs'] as string[]).length === 0 && belongsTo(network, migrationId)) continue;
    throw failure('TargetRefused', {
      what: `The test copy ${vmUuid} is not started: its network "${String(network['name_label'])}" is not isolated.`,
      why: 'A connected test copy has the addresses of the running source.',
      next: 'give the network back its isolation, or reject the test copy.',
    });
  }
}

/** Destroys the clone, its disks and the network of its own. May run twice. */
export async function destroyTestCopy(xapi: Connection, migrationId: string): Promise<void> {
  for (;;) {
    const copy = await findTestCopy(xapi, migrationId);
    if (!copy) break;
    await destroyVm(xapi, copy[1].uuid, migrationId);
  }
  for (const [, network] of await allRecords(xapi, 'network')) {
    if (belongsTo(network, migrationId)) await destroyNetwork(xapi, network.uuid);
  }
}
