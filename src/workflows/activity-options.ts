import { ActivityCancellationType, proxyActivities } from '@temporalio/workflow';
import type { ActivityOptions } from '@temporalio/workflow';
import type { Activities, TransferActivities } from '../activities/types.js';

// Spelled out on every proxy: left out, SDK 1.24 behaves as TRY_CANCEL, and undo would delete a disk still being written.
const waitUntilStopped = { cancellationType: ActivityCancellationType.WAIT_CANCELLATION_COMPLETED } as const;

/** Every activity beats each second or two; without a beat for so long its worker is dead and another goes on (R13). */
const heartbeatTimeout = '25 seconds';

/** Seconds of SOAP and XAPI. After some ten minutes of failures a person is asked, not the server again. */
const STEP: ActivityOptions = {
  ...waitUntilStopped,
  startToCloseTimeout: '30 minutes',
  heartbeatTimeout,
  retry: { initialInterval: '1 second', backoffCoefficient: 2, maximumInterval: '1 minute', maximumAttempts: 12 },
};

/** Waits for somebody or something outside: lives as long as the wait does, survives any number of workers. */
const WATCH: ActivityOptions = {
  ...waitUntilStopped,
  startToCloseTimeout: '365 days',
  heartbeatTimeout,
  retry: { initialInterval: '1 second', maximumInterval: '1 minute' },
};

/** Undo never gives up: what it leaves behind is visible among the pending activities, with the reason. */
const UNDO: ActivityOptions = {
  ...waitUntilStopped,
  startToCloseTimeout: '30 minutes',
  heartbeatTimeout,
  retry: { initialInterval: '2 seconds', backoffCoefficient: 2, maximumInterval: '5 minutes' },
};

/**
 * One disk and pass (R13). Attempts are not limited: the activity itself stops with NoProgress when they move nothing, and
 * says how long to wait after a failure. So the interval here is the one after a crash, and does not grow with the number
 * of crashes: the next attempt starts within half a minute.
 */
const TRANSFER: ActivityOptions = {
  ...waitUntilStopped,
  startToCloseTimeout: '30 days',
  heartbeatTimeout,
  retry: { initialInterval: '2 seconds', backoffCoefficient: 1 },
};

export const step = proxyActivities<Activities>(STEP);
export const watch = proxyActivities<Pick<Activities, 'watchToolsRemoval' | 'waitForPowerOff'>>(WATCH);
export const undoing = proxyActivities<Activities>(UNDO);

/** Transfers go to the queue of a host, so that a restarted worker on that host continues the same disk. */
export function transferOn(taskQueue: string) {
  return proxyActivities<TransferActivities>({ ...TRANSFER, taskQueue });
}
