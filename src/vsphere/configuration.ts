import { explained, runTask, settleVm, vmRef, type Context } from './operations.js';
import { readObject } from './properties.js';
import type { OnVm } from './types.js';

/** Key under which a finished migration leaves its mark in the VM's configuration. */
const MARK_KEY = 'surefire.migration';

/**
 * Sets the VM's wish; tracking begins or ends at the next stun. `changeVersion` refuses to overwrite a change somebody else
 * just made.
 */
export async function setChangeTracking(context: Context, input: OnVm & { enabled: boolean }): Promise<void> {
  const { vmMoRef, enabled } = input;
  await explained(`Switching change tracking of ${vmMoRef} ${enabled ? 'on' : 'off'} failed.`, async () => {
    await settleVm(context, vmMoRef, input);
    const paths = ['config.changeTrackingEnabled', 'config.changeVersion'];
    const found = await readObject(context.session, vmRef(vmMoRef), paths);
    if ((found['config.changeTrackingEnabled'] === true) === enabled) return;
    const spec = { changeVersion: found['config.changeVersion'] || undefined, changeTrackingEnabled: enabled };
    await runTask(context, 'ReconfigVM_Task', vmRef(vmMoRef), { spec }, input);
  });
}

/** Leaves a text in the VM's configuration; null removes it, because the server drops a key with an empty value. */
export async function setMark(context: Context, input: OnVm & { mark: string | null }): Promise<void> {
  const { vmMoRef, mark } = input;
  await explained(`Marking ${vmMoRef} failed.`, async () => {
    await settleVm(context, vmMoRef, input);
    const found = await readObject(context.session, vmRef(vmMoRef), ['config.extraConfig']);
    if ((markIn(found['config.extraConfig']) ?? null) === mark) return;
    const spec = { extraConfig: [{ key: MARK_KEY, value: mark ?? '' }] };
    await runTask(context, 'ReconfigVM_Task', vmRef(vmMoRef), { spec }, input);
  });
}

/** The mark among a VM's extra configuration, if there is one. */
export function markIn(extraConfig: unknown): string | undefined {
  const options = (extraConfig ?? []) as { key: string; value: unknown }[];
  const value = options.find(({ key }) => key === MARK_KEY)?.value;
  return value === undefined || value === '' ? undefined : String(value);
}
