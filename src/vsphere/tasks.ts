import { setTimeout as sleep } from 'node:timers/promises';
import { faultFromLocalized, VimFault } from './faults.js';
import { readObject } from './properties.js';
import { moRef, type MoRef } from './requests.js';
import type { Session } from './session.js';
import type { TaskProgress, TaskWait } from './types.js';

interface TaskInfo {
  state: TaskProgress['state'];
  error?: unknown;
  result?: unknown;
}

/**
 * Waits until a task ends, looking at it from time to time.
 *
 * Looking holds no state on the server, so another process can wait for the same task after a restart.
 *
 * @returns The task's result.
 * @throws VimFault what the task failed with; ManagedObjectNotFound when the server has forgotten it already (some
 * minutes after its end): then only the effect can tell.
 */
export async function waitForTask(session: Session, task: MoRef, wait: TaskWait, pollMs: number): Promise<unknown> {
  let delayMs = Math.min(100, pollMs);
  for (;;) {
    wait.signal?.throwIfAborted();
    const { info } = (await readObject(session, task, ['info'])) as { info: TaskInfo };
    wait.onProgress?.({ taskMoRef: task.value, state: info.state });
    if (info.state === 'success') return info.result;
    if (info.state === 'error') throw faultFromLocalized(info.error);
    await pause(delayMs, wait.signal);
    delayMs = Math.min(delayMs * 2, pollMs);
  }
}

/**
 * Waits until nothing runs on a VM any more: first the task an earlier attempt started, then any other.
 *
 * The VM does one task at a time, so the outcome of an interrupted attempt is known afterwards by looking at its
 * effect. How those tasks end is not this caller's business.
 */
export async function settle(session: Session, vm: MoRef, wait: TaskWait, pollMs: number): Promise<void> {
  if (wait.taskMoRef !== undefined) await waitQuietly(session, moRef('Task', wait.taskMoRef), wait, pollMs);
  for (;;) {
    const running = await runningTasks(session, vm);
    if (running.length === 0) return;
    for (const task of running) await waitQuietly(session, task, wait, pollMs);
  }
}

async function runningTasks(session: Session, vm: MoRef): Promise<MoRef[]> {
  const { recentTask = [] } = (await readObject(session, vm, ['recentTask'])) as { recentTask?: MoRef[] };
  const states = await Promise.all(recentTask.map((task) => taskState(session, task)));
  return recentTask.filter((_task, index) => states[index] === 'running' || states[index] === 'queued');
}

async function taskState(session: Session, task: MoRef): Promise<unknown> {
  try {
    return (await readObject(session, task, ['info.state']))['info.state'];
  } catch (error) {
    // Forgotten since the list was read: it ended a while ago.
    if (error instanceof VimFault && error.type === 'ManagedObjectNotFound') return 'forgotten';
    throw error;
  }
}

async function waitQuietly(session: Session, task: MoRef, wait: TaskWait, pollMs: number): Promise<void> {
  try {
    await waitForTask(session, task, wait, pollMs);
  } catch (error) {
    if (!(error instanceof VimFault)) throw error;
  }
}

/** Waits; when the signal says stop, throws the signal's own reason (Temporal's cancellation, not an AbortError). */
export async function pause(ms: number, signal: AbortSignal | undefined): Promise<void> {
  await sleep(ms, undefined, signal ? { signal } : {}).catch(() => signal?.throwIfAborted());
}
