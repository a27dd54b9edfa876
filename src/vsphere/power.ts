import { explained, isFault, runTask, settleVm, vmRef, type Context } from './operations.js';
import { readObject } from './properties.js';
import type { OnVm, PowerState } from './types.js';

export async function powerState({ session }: Context, { vmMoRef }: { vmMoRef: string }): Promise<PowerState> {
  const path = 'runtime.powerState';
  return explained(`Reading the power state of ${vmMoRef} failed.`, async () => {
    return (await readObject(session, vmRef(vmMoRef), [path]))[path] as PowerState;
  });
}

/**
 * Asks the guest to shut down and returns at once: it answers by powering off, some time or never. Off already is success.
 *
 * @throws ToolsUnavailable
 */
export async function shutdownGuest({ session }: Context, { vmMoRef }: { vmMoRef: string }): Promise<void> {
  await explained(`Asking the guest of ${vmMoRef} to shut down failed.`, async () => {
    try {
      await session.call('ShutdownGuest', vmRef(vmMoRef));
    } catch (error) {
      if (!isFault(error, 'InvalidPowerState')) throw error;
    }
  });
}

/** Pulls the plug; off already is success. */
export function powerOff(context: Context, input: OnVm): Promise<void> {
  return setPower(context, 'poweredOff', input);
}

/** On already is success. */
export function powerOn(context: Context, input: OnVm): Promise<void> {
  return setPower(context, 'poweredOn', input);
}

async function setPower(context: Context, wanted: 'poweredOn' | 'poweredOff', input: OnVm): Promise<void> {
  const { vmMoRef } = input;
  const word = wanted === 'poweredOn' ? 'on' : 'off';
  await explained(`Powering ${vmMoRef} ${word} failed.`, async () => {
    await settleVm(context, vmMoRef, input);
    if ((await powerState(context, input)) === wanted) return;
    try {
      const operation = wanted === 'poweredOn' ? 'PowerOnVM_Task' : 'PowerOffVM_Task';
      await runTask(context, operation, vmRef(vmMoRef), {}, input);
    } catch (error) {
      // Somebody was faster, or the guest went down by itself.
      if (!isFault(error, 'InvalidPowerState') || (await powerState(context, input)) !== wanted) throw error;
    }
  });
}
