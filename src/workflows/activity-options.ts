import { ActivityCancellationType, proxyActivities } from '@temporalio/workflow';
import type { ActivityOptions } from '@temporalio/workflow';
import type { Activities, TransferActivities } from '../activities/types.js';

// Spelled out on every proxy: left out, SDK 1.24 behaves as TRY_CANCEL, and undo would delete a disk still being written.
const waitUntilStopped = { cancellationType: ActivityCancellationType.WAIT_CANCELLATION_COMPLETED } as const;

/** Seconds of SOAP and XAPI. After some ten minutes of failures a person is asked, not the server again. */
const STEP: ActivityOptions = {
  ...waitUntilStopped,
  startToCloseTimeout: '30 minutes',
  heartbeatTimeout: '60 seconds',
  retry: { initialInterval: '1 second', backoffCoefficient: 2, maximumInterval: '1 minute', maximumAttempts: 12 },
};

/** Waits for somebody or something outside: lives as long as the wait does, survives any number of workers. */
const WATCH: ActivityOptions = {
  ...waitUntilStopped,
  startToCloseTimeout: '365 days',
  heartbeatTimeout: '60 seconds',
  retry: { initialInterval: '1 second', maximumInterval: '1 minute' },
};

/** Undo never gives up: what it leaves behind is visible among the pending activities, with the reason. */
const UNDO: ActivityOptions = {
  ...waitUntilStopped,
  startToCloseTimeout: '30 minutes',
  heartbeatTimeout: '60 seconds',
  retry: { initialInterval: '2 seconds', backoffCoefficient: 2, maximumInterval: '5 minutes' },
};

/**
 * One disk and pass (R13). The heartbeat timeout is the delay before another worker goes on after a crash. Attempts
 * are not limited: the activity itself stops with NoProgress when five of them moved nothing.
 */
const TRANSFER: ActivityOptions = {
  ...waitUntilStopped,
  startToCloseTimeout: '30 days',
  heartbeatTimeout: '25 seconds',
  retry: { initialInterval: '2 seconds', backoffCoefficient: 2, maximumInterval: '30 seconds' },
};

export const step = proxyActivities<Activities>(STEP);
export const watch = proxyActivities<Pick<Activities, 'watchToolsRemoval' | 'waitForPowerOff'>>(WATCH);
export const undoing = proxyActivities<Activities>(UNDO);

/** Transfers go to the queue of a host, so that a restarted worker on that host continues the same disk. */
export function transferOn(taskQueue: string) {
  return proxyActivities<TransferActivities>({ ...TRANSFER, taskQueue });
}
