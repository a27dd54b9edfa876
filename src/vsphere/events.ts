import { explained, vmRef, type Context } from './operations.js';
import { moRef } from './requests.js';
import type { SourceEvent } from './types.js';

interface Event {
  $type: string;
  createdTime: string;
  userName: string;
  fullFormattedMessage?: string;
}

/** See `Vsphere.recentEvents`. */
export async function recentEvents(
  { session }: Context,
  { vmMoRef, since }: { vmMoRef: string; since: string },
): Promise<SourceEvent[]> {
  return explained(`Reading the events of ${vmMoRef} failed.`, async () => {
    const { eventManager } = await session.content();
    const events = await session.call<Event[]>('QueryEvents', eventManager ?? moRef('EventManager', 'EventManager'), {
      filter: {
        entity: { entity: vmRef(vmMoRef), recursion: 'self' },
        time: { beginTime: since },
        maxCount: 100,
      },
    });
    return events
      .map(({ $type, createdTime, userName, fullFormattedMessage }) => ({
        time: createdTime,
        type: $type,
        message: fullFormattedMessage ?? '',
        userName,
      }))
      .sort((a, b) => Date.parse(a.time) - Date.parse(b.time));
  });
}
