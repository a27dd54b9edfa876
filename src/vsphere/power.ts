import { explained, isFault, runTask, settleVm, vmRef, type Context } from './operations.js';
import { readObject } from './properties.js';
import type { PowerState, TaskWait } from './types.js';

export async function powerState({ session }: Context, vmMoRef: string): Promise<PowerState> {
  const path = 'runtime.powerState';
  return explained(`Reading the power state of ${vmMoRef} failed.`, async () => {
    return (await readObject(session, vmRef(vmMoRef), [path]))[path] as PowerState;
  });
}

/** Not a task: the guest answers by powering off, some time or never. */
export async function shutdownGuest({ session }: Context, vmMoRef: string): Promise<void> {
  await explained(`Asking the guest of ${vmMoRef} to shut down failed.`, async () => {
    try {
      await session.call('ShutdownGuest', vmRef(vmMoRef));
    } catch (error) {
      if (!isFault(error, 'InvalidPowerState')) throw error;
    }
  });
}

export async function setPower(
  context: Context,
  wanted: 'poweredOn' | 'poweredOff',
  input: { vmMoRef: string } & TaskWait,
): Promise<void> {
  const { vmMoRef } = input;
  const word = wanted === 'poweredOn' ? 'on' : 'off';
  await explained(`Powering ${vmMoRef} ${word} failed.`, async () => {
    await settleVm(context, vmMoRef, input);
    if ((await powerState(context, vmMoRef)) === wanted) return;
    try {
      const operation = wanted === 'poweredOn' ? 'PowerOnVM_Task' : 'PowerOffVM_Task';
      await runTask(context, operation, vmRef(vmMoRef), {}, input);
    } catch (error) {
      // Somebody was faster, or the guest went down by itself.
      if (!isFault(error, 'InvalidPowerState') || (await powerState(context, vmMoRef)) !== wanted) throw error;
    }
  });
}
