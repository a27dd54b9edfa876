import { explained, runTask, settleVm, vmRef, type Context } from './operations.js';
import { readObject } from './properties.js';
import type { TaskWait } from './types.js';

/** Key under which a finished migration leaves its mark in the VM's configuration. */
export const MARK_KEY = 'surefire.migration';

/** See `Vsphere.setChangeTracking`. `changeVersion` refuses to overwrite a change somebody else just made. */
export async function setChangeTracking(
  context: Context,
  input: { vmMoRef: string; enabled: boolean } & TaskWait,
): Promise<{ changed: boolean }> {
  const { vmMoRef, enabled } = input;
  return explained(`Switching change tracking of ${vmMoRef} ${enabled ? 'on' : 'off'} failed.`, async () => {
    await settleVm(context, vmMoRef, input);
    const paths = ['config.changeTrackingEnabled', 'config.changeVersion'];
    const found = await readObject(context.session, vmRef(vmMoRef), paths);
    if ((found['config.changeTrackingEnabled'] === true) === enabled) return { changed: false };
    const changeVersion = found['config.changeVersion'] as string | undefined;
    const spec = { ...(changeVersion ? { changeVersion } : {}), changeTrackingEnabled: enabled };
    await runTask(context, 'ReconfigVM_Task', vmRef(vmMoRef), { spec }, input);
    return { changed: true };
  });
}

/** See `Vsphere.setMark`. A key with an empty value is removed by the server. */
export async function setMark(
  context: Context,
  input: { vmMoRef: string; mark: string | null } & TaskWait,
): Promise<void> {
  const { vmMoRef, mark } = input;
  await explained(`Marking ${vmMoRef} failed.`, async () => {
    await settleVm(context, vmMoRef, input);
    if ((await readMark(context, vmMoRef)) === mark) return;
    const spec = { extraConfig: [{ key: MARK_KEY, value: mark ?? '' }] };
    await runTask(context, 'ReconfigVM_Task', vmRef(vmMoRef), { spec }, input);
  });
}

export async function readMark({ session }: Context, vmMoRef: string): Promise<string | null> {
  return explained(`Reading the mark of ${vmMoRef} failed.`, async () => {
    return markIn((await readObject(session, vmRef(vmMoRef), ['config.extraConfig']))['config.extraConfig']) ?? null;
  });
}

/** The mark among a VM's extra configuration, if there is one. */
export function markIn(extraConfig: unknown): string | undefined {
  const options = (extraConfig ?? []) as { key: string; value: unknown }[];
  const value = options.find(({ key }) => key === MARK_KEY)?.value;
  return value === undefined || value === '' ? undefined : String(value);
}
