import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { LoggingNbdkit } from '../../lab/wire.js';
import { XcpngAdmin } from '../../lab/xcpng/admin.js';
import { startXcpng } from '../../lab/xcpng/start.js';
import { Connection } from '../../src/xapi/connection.js';
import type { XapiOptions } from '../../src/xapi/types.js';

/** What all runs share: a pool whose host can crash, an nbdkit that keeps a log. */
export interface Place {
  folder: string;
  pool: XapiOptions;
  /** Asks the lab's own door; while the host is down that waits. */
  ask<T>(question: (admin: XcpngAdmin) => Promise<T>): Promise<T>;
  nbdkit: LoggingNbdkit;
  readonly hostCrashes: number;
  /** @returns Its uuid. */
  createVdi(sizeBytes: number): Promise<string>;
  destroyVdi(uuid: string): Promise<void>;
  /** `kill -9` of the host, which boots again after `downMs`. One at a time. */
  crashHost(downMs: number): Promise<void>;
  stop(): Promise<void>;
}

export async function openPlace(): Promise<Place> {
  const folder = await mkdtemp(join(tmpdir(), 'surefire-chaos-'));
  const lab = await startXcpng({ stateDir: join(folder, 'pool') });
  const { url, username, password, fingerprintSha256 } = lab;
  const pool = { url, username, password, fingerprintSha256 };
  const xapi = new Connection(pool);
  let crashes = 0;
  let crashing: Promise<void> = Promise.resolve();
  const admin = new XcpngAdmin(lab.adminUrl);
  const call = <T>(method: string, ...args: unknown[]) => patiently(() => xapi.call<T>(method, ...args));
  return {
    ...{ folder, pool, nbdkit: await LoggingNbdkit.in(folder) },
    ask: (question) => patiently(() => question(admin)),
    get hostCrashes() {
      return crashes;
    },
    async createVdi(sizeBytes) {
      const [sr] = await call<string[]>('SR.get_by_name_label', 'Local thin');
      const ref = await call<string>('VDI.create', {
        ...{ name_label: 'chaos', name_description: '', SR: sr, virtual_size: sizeBytes, type: 'user' },
        ...{ sharable: false, read_only: false, other_config: {}, xenstore_data: {}, sm_config: {}, tags: [] },
      });
      return call<string>('VDI.get_uuid', ref);
    },
    // Only to save space: one that stays, because the host crashed meanwhile, is in nobody's way.
    destroyVdi: async (uuid) => {
      const ref = await call<string>('VDI.get_by_uuid', uuid);
      await xapi.call('VDI.destroy', ref).catch(() => undefined);
    },
    crashHost(downMs) {
      crashing = crashing.then(async () => {
        crashes++;
        await lab.kill('SIGKILL');
        await sleep(downMs);
        await lab.restart();
      });
      return crashing;
    },
    async stop() {
      await crashing;
      await xapi.close().catch(() => undefined);
      await lab.stop();
      await rm(folder, { recursive: true, force: true });
    },
  };
}

/** The host may be down at the moment. */
async function patiently<T>(action: () => Promise<T>): Promise<T> {
  for (let left = 150; ; left--) {
    try {
      return await action();
    } catch (error) {
      if (left === 0) throw error;
      await sleep(200);
    }
  }
}
