import { proxyActivities } from '@temporalio/workflow';

interface Copies {
  copyDisk(index: number): Promise<void>;
}

/** So many copies at once, as activities of that queue. */
export async function copyDisks(count: number, taskQueue: string): Promise<void> {
  const { copyDisk } = proxyActivities<Copies>({
    ...{ taskQueue, startToCloseTimeout: '10 minutes', heartbeatTimeout: '25 seconds', retry: { maximumAttempts: 1 } },
  });
  await Promise.all(Array.from({ length: count }, (_, index) => copyDisk(index)));
}
