import { formatDuration } from '../../shared/index.js';
import { step, watch } from '../activity-options.js';
import type { Run } from '../run.js';

/** A year: a person's power-off is waited for as long as it takes; `rollback` ends the wait. */
const NO_HURRY_SECONDS = 365 * 86_400;

/**
 * The shutdown ladder (R10): the guest's own shutdown if Tools run, the operator's command hook, a person whose
 * power-off we observe, and the hard power-off with consent given beforehand.
 *
 * @returns When the source was seen off. It is observed, never assumed (S112).
 */
export async function shutDownSource({ migration }: Run): Promise<string> {
  const { source } = migration;
  const { policy, vm } = migration.input;
  const timeoutSeconds = policy.shutdownTimeoutSeconds;
  const already = await watch.waitForPowerOff({ ...source, timeoutSeconds: 0 });
  if (already.off) return already.at;

  const asked = await step.requestGuestShutdown(source);
  migration.note(
    asked.asked ? 'The guest was asked to shut down.' : `The guest cannot be asked to shut down: ${asked.why}`,
  );
  if (asked.asked) {
    const seen = await watch.waitForPowerOff({ ...source, timeoutSeconds });
    if (seen.off) return seen.at;
  }
  if (policy.shutdownHook) {
    const hook = await step.runShutdownHook({ ...source, vm });
    migration.note(hook.ran ? 'The shutdown hook ran.' : `The shutdown hook failed: ${hook.why}`);
    if (hook.ran) {
      const seen = await watch.waitForPowerOff({ ...source, timeoutSeconds });
      if (seen.off) return seen.at;
      migration.note(`The source was still on ${formatDuration(timeoutSeconds)} after the hook.`);
    }
  }
  const consent = policy.hardPowerOffConsent;
  migration.set({
    waitingFor: 'power-off',
    instruction: consent
      ? `Shut ${vm} down from inside; in ${formatDuration(timeoutSeconds)} it is powered off hard, by the consent given at the start.`
      : `Shut ${vm} down from inside: nothing else here may do it. The cutover goes on when it is seen off; \`rollback\` gives up.`,
  });
  const seen = await watch.waitForPowerOff({ ...source, timeoutSeconds: consent ? timeoutSeconds : NO_HURRY_SECONDS });
  migration.set({ waitingFor: 'none', instruction: undefined });
  if (seen.off) return seen.at;
  await step.powerOffSource(source);
  migration.note(`The source was powered off hard: its disks are crash-consistent. Consent: ${consent}`);
  return (await watch.waitForPowerOff({ ...source, timeoutSeconds })).at;
}
