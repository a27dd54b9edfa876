import { isRef } from './datapath.js';
import { XapiError } from './errors.js';
import type { Pool } from './pool.js';
import { flagOf, listOf, numberOf, textOf } from './values.js';

/**
 * Whether a VM could start on that host: storage, networks, memory (invariant 19).
 *
 * @throws HOST_DISABLED, VM_REQUIRES_SR, VM_REQUIRES_NETWORK, HOST_NOT_ENOUGH_FREE_MEMORY
 */
export function assertHostFits(pool: Pool, vmRef: string, hostRef: string): void {
  const { db } = pool;
  const vm = db.get('VM', vmRef);
  const host = db.get('host', hostRef);
  if (!flagOf(host, 'enabled')) throw new XapiError('HOST_DISABLED', [hostRef]);
  for (const vbd of listOf(vm, 'VBDs').map((ref) => db.get('VBD', ref))) {
    if (!isRef(vbd['VDI'])) continue;
    const sr = textOf(db.get('VDI', vbd['VDI']), 'SR');
    if (!pool.hostsOfSr(sr).includes(hostRef)) throw new XapiError('VM_REQUIRES_SR', [vmRef, sr]);
  }
  for (const vif of listOf(vm, 'VIFs').map((ref) => db.get('VIF', ref))) {
    const network = textOf(vif, 'network');
    const pifs = listOf(db.get('network', network), 'PIFs').map((ref) => db.get('PIF', ref));
    // A network without any PIF is internal and made where it is needed.
    if (pifs.length > 0 && !pifs.some((pif) => pif['host'] === hostRef)) {
      throw new XapiError('VM_REQUIRES_NETWORK', [vmRef, network]);
    }
  }
  const needed = numberOf(vm, 'memory_static_max');
  const free = freeMemory(pool, hostRef);
  if (needed > free) throw new XapiError('HOST_NOT_ENOUGH_FREE_MEMORY', [needed, free]);
}

/** The host a VM starts on: the one its affinity names, else the first that fits. */
export function chooseHost(pool: Pool, vmRef: string): string {
  const hosts = pool.db.entries('host').map(([ref]) => ref);
  const affinity = pool.db.get('VM', vmRef)['affinity'];
  hosts.sort((a, b) => Number(b === affinity) - Number(a === affinity));
  for (const host of hosts) {
    try {
      assertHostFits(pool, vmRef, host);
      return host;
    } catch (error) {
      if (!(error instanceof XapiError)) throw error;
    }
  }
  throw new XapiError('NO_HOSTS_AVAILABLE');
}

function freeMemory(pool: Pool, hostRef: string): number {
  const host = pool.db.get('host', hostRef);
  const total = numberOf(pool.db.get('host_metrics', textOf(host, 'metrics')), 'memory_total');
  const used = listOf(host, 'resident_VMs').map((vm) => numberOf(pool.db.get('VM', vm), 'memory_static_max'));
  return total - used.reduce((sum, bytes) => sum + bytes, 0);
}
