import { failure } from '../shared/errors.js';
import { explained, isFault, runTask, settleVm, vmRef, type Context } from './operations.js';
import { readObject } from './properties.js';
import { pause } from './tasks.js';
import type { OnVm } from './types.js';

/**
 * Ends when the VM says it needs no consolidation, asking for it where needed. Between attempts it waits longer each time,
 * ten seconds at most.
 *
 * @throws ConsolidationBlocked when the files stay locked by someone else.
 */
export async function waitForConsolidation(context: Context, input: OnVm & { attempts?: number }): Promise<void> {
  const { vmMoRef, attempts = 5 } = input;
  await explained(`Consolidating the disks of ${vmMoRef} failed.`, async () => {
    for (let attempt = 1; ; attempt += 1) {
      await settleVm(context, vmMoRef, input);
      if (!(await needsConsolidation(context, vmMoRef))) return;
      try {
        await runTask(context, 'ConsolidateVMDisks_Task', vmRef(vmMoRef), {}, input);
      } catch (error) {
        if (!isFault(error, 'FileLocked', 'TaskInProgress')) throw error;
        if (attempt >= attempts) throw blocked(vmMoRef, error.type, attempt);
        const pauseMs = Math.min(context.pollMs * 2 ** attempt, 10_000);
        await pause(pauseMs, input.signal);
      }
    }
  });
}

async function needsConsolidation({ session }: Context, vmMoRef: string): Promise<boolean> {
  const path = 'runtime.consolidationNeeded';
  return (await readObject(session, vmRef(vmMoRef), [path]))[path] === true;
}

function blocked(vmMoRef: string, fault: string, attempts: number): Error {
  return failure(
    'ConsolidationBlocked',
    {
      what: `The disks of ${vmMoRef} still need consolidation after ${attempts} attempts.`,
      why: `The server says ${fault}: something holds a disk file open, such as a backup proxy or a copy that still reads.`,
      next: 'end what reads the disks of this VM; the step is then tried again.',
    },
    { vmMoRef, fault },
  );
}
