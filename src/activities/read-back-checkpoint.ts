import { failureTypeOf } from '../shared/index.js';
import type { Checked } from '../transfer/index.js';
import type { Xapi } from '../xapi/index.js';

/** How often it is noted how far a read-back is: so much is read again after a crash. */
const NOTE_MS = 20_000;

/**
 * Reads a target snapshot back and goes on where an earlier attempt was, after a pause or a crash, on whichever worker:
 * it stands on the snapshot itself, which nobody writes.
 *
 * @param of What it is compared with: plan, digests, the snapshot before it. Anything else begins at the first byte.
 */
export async function resumable<T>(
  xapi: Pick<Xapi, 'loadChecked' | 'saveChecked'>,
  { vdiUuid, of }: { vdiUuid: string; of: string },
  work: (from: Checked | undefined, onChecked: (checked: Checked) => void) => Promise<T>,
): Promise<T> {
  const before = (await xapi.loadChecked(vdiUuid)) as { of: string; checked: Checked } | undefined;
  let latest: Checked | undefined;
  let noting: Promise<void> = Promise.resolve();
  const note = () => {
    const checked = latest;
    latest = undefined;
    // Without it more is read again, no more than that.
    if (checked) noting = noting.then(() => xapi.saveChecked(vdiUuid, { of, checked })).catch(() => undefined);
    return noting;
  };
  const timer = setInterval(() => void note(), NOTE_MS);
  try {
    const result = await work(before?.of === of ? before.checked : undefined, (checked) => (latest = checked));
    latest = undefined;
    await noting;
    await xapi.saveChecked(vdiUuid, undefined);
    return result;
  } catch (error) {
    // What differs is looked at anew, from the first byte on.
    await noting;
    if (failureTypeOf(error) === 'VerificationMismatch') await xapi.saveChecked(vdiUuid, undefined);
    else await note();
    throw error;
  } finally {
    clearInterval(timer);
  }
}
