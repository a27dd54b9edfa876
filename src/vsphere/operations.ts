import { failureFromFault, VimFault } from './faults.js';
import { moRef, type MoRef } from './requests.js';
import type { OperationName } from './schema.js';
import type { Session } from './session.js';
import { settle, waitForTask } from './tasks.js';
import type { TaskWait } from './types.js';

/** What the methods of this folder share. */
export interface Context {
  session: Session;
  pollMs: number;
}

/** Issues a task and waits for it. @throws VimFault what the task failed with, at once or in the end. */
export async function runTask(
  { session, pollMs }: Context,
  operation: OperationName,
  on: MoRef,
  args: Record<string, unknown>,
  wait: TaskWait,
): Promise<unknown> {
  const task = await session.call<MoRef>(operation, on, args);
  return waitForTask(session, task, wait, pollMs);
}

/** Waits until nothing runs on the VM, so that its state can be looked at and a task be issued. */
export async function settleVm({ session, pollMs }: Context, vmMoRef: string, wait: TaskWait): Promise<void> {
  await settle(session, vmRef(vmMoRef), wait, pollMs);
}

/** Runs `act`; a fault of the server becomes the failure callers know. `what` names the deed and its object. */
export async function explained<T>(what: string, act: () => Promise<T>): Promise<T> {
  try {
    return await act();
  } catch (error) {
    if (error instanceof VimFault) throw failureFromFault(what, error);
    throw error;
  }
}

export function isFault(error: unknown, ...types: string[]): error is VimFault {
  return error instanceof VimFault && types.includes(error.type);
}

export function vmRef(vmMoRef: string): MoRef {
  return moRef('VirtualMachine', vmMoRef);
}

export function snapshotRef(snapshotMoRef: string): MoRef {
  return moRef('VirtualMachineSnapshot', snapshotMoRef);
}
