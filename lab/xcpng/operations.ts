import { randomUUID } from 'node:crypto';
import { fitsKind, POWER_STATES } from './allowed-operations.js';
import { XapiError } from './errors.js';
import type { Call, Pool } from './pool.js';
import { flagOf, mapOf, textOf } from './values.js';

/** Operations that may begin while one of these is under way: a hard end overtakes a clean one. */
const OVERTAKES: Record<string, string[]> = { hard_shutdown: ['clean_shutdown', 'clean_reboot', 'shutdown'] };

/**
 * Whether an operation may begin on a VM now. The first check that fails gives the error, in XAPI's order.
 *
 * @throws OPERATION_BLOCKED, VM_BAD_POWER_STATE, ONLY_REVERT_SNAPSHOT, VM_IS_SNAPSHOT, VM_IS_TEMPLATE, OPERATION_NOT_ALLOWED
 */
export function assertVmOperation(pool: Pool, vmRef: string, operation: string): void {
  const vm = pool.db.get('VM', vmRef);
  const message = mapOf(vm, 'blocked_operations')[operation];
  if (message !== undefined) throw new XapiError('OPERATION_BLOCKED', [vmRef, message]);
  const state = textOf(vm, 'power_state');
  const allowed = POWER_STATES[operation] ?? [];
  const isSuspendedSnapshot = flagOf(vm, 'is_a_snapshot') && state === 'Suspended';
  if (!allowed.includes(state) && !(isSuspendedSnapshot && ['clone', 'copy'].includes(operation))) {
    throw new XapiError('VM_BAD_POWER_STATE', [vmRef, allowed.join(', ').toLowerCase(), state.toLowerCase()]);
  }
  if (flagOf(vm, 'is_control_domain')) {
    throw new XapiError('OPERATION_NOT_ALLOWED', ['This operation is not allowed on a control domain']);
  }
  if (fitsKind(vm, operation)) return;
  if (operation === 'revert') throw new XapiError('ONLY_REVERT_SNAPSHOT');
  throw new XapiError(flagOf(vm, 'is_a_snapshot') ? 'VM_IS_SNAPSHOT' : 'VM_IS_TEMPLATE', [vmRef, operation]);
}

/**
 * Runs `work` as the only operation on the object; waits while another one is under way, as XAPI does.
 *
 * @param check Repeated each time the object comes free, before `work`.
 * @throws OTHER_OPERATION_IN_PROGRESS when the wait takes too long
 */
export async function withOperation<T>(
  { pool, taskRef }: Call,
  cls: 'VM' | 'VDI',
  ref: string,
  operation: string,
  check: () => void,
  work: () => T | Promise<T>,
): Promise<T> {
  const deadline = Date.now() + pool.timing.operationWaitMs;
  for (;;) {
    check();
    const busy = Object.entries(mapOf(pool.db.get(cls, ref), 'current_operations'));
    const rival = busy.find(([, other]) => !OVERTAKES[operation]?.includes(other));
    if (rival === undefined) break;
    if (Date.now() > deadline) throw new XapiError('OTHER_OPERATION_IN_PROGRESS', [cls, ref, rival[1], rival[0]]);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  const id = taskRef ?? `OpaqueRef:${randomUUID()}`;
  pool.patchMap(cls, ref, 'current_operations', { [id]: operation });
  try {
    return await work();
  } finally {
    const row = pool.db.find(cls, ref);
    if (row !== undefined) {
      const { [id]: _done, ...rest } = mapOf(row, 'current_operations');
      pool.db.set(cls, ref, { current_operations: rest });
    }
  }
}

/** An operation on a VM with all its checks. */
export function withVmOperation<T>(
  call: Call,
  vmRef: string,
  operation: string,
  work: () => T | Promise<T>,
): Promise<T> {
  return withOperation(call, 'VM', vmRef, operation, () => assertVmOperation(call.pool, vmRef, operation), work);
}
