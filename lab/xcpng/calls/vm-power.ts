import { XapiError } from '../errors.js';
import type { Behaviour } from '../methods.js';
import { withVmOperation } from '../operations.js';
import { assertHostFits, chooseHost } from '../placement.js';
import type { Call, Pool } from '../pool.js';
import { assertBootable, bootVm } from '../power.js';
import { textOf } from '../values.js';

/** Starting and stopping. The machines are real: see `machines.ts`. */
export const vmPowerCalls: Record<string, Behaviour> = {
  'VM.start': (call: Call, vm: string, paused: boolean, _force: boolean) =>
    withVmOperation(call, vm, 'start', async () => {
      assertBootable(call.pool, vm);
      await bootVm(call.pool, vm, chooseHost(call.pool, vm), paused);
    }),
  'VM.start_on': (call: Call, vm: string, host: string, paused: boolean, _force: boolean) =>
    withVmOperation(call, vm, 'start_on', async () => {
      assertBootable(call.pool, vm);
      assertHostFits(call.pool, vm, host);
      await bootVm(call.pool, vm, host, paused);
    }),
  'VM.pause': (call: Call, vm: string) =>
    withVmOperation(call, vm, 'pause', async () => {
      await call.pool.machines.command(vm, 'stop');
      call.pool.db.set('VM', vm, { power_state: 'Paused' });
    }),
  'VM.unpause': (call: Call, vm: string) =>
    withVmOperation(call, vm, 'unpause', async () => {
      await call.pool.machines.command(vm, 'cont');
      call.pool.db.set('VM', vm, { power_state: 'Running' });
    }),
  'VM.clean_shutdown': (call: Call, vm: string) =>
    withVmOperation(call, vm, 'clean_shutdown', () => shutDownCleanly(call.pool, vm)),
  'VM.hard_shutdown': (call: Call, vm: string) =>
    withVmOperation(call, vm, 'hard_shutdown', () => call.pool.machines.kill(vm)),
  'VM.shutdown': (call: Call, vm: string) =>
    withVmOperation(call, vm, 'shutdown', async () => {
      try {
        await shutDownCleanly(call.pool, vm);
      } catch (error) {
        if (!(error instanceof XapiError)) throw error;
        await call.pool.machines.kill(vm);
      }
    }),
  'VM.clean_reboot': (call: Call, vm: string) =>
    withVmOperation(call, vm, 'clean_reboot', () => rebootVm(call.pool, vm, shutDownCleanly)),
  'VM.hard_reboot': (call: Call, vm: string) =>
    withVmOperation(call, vm, 'hard_reboot', () => rebootVm(call.pool, vm, (pool, ref) => pool.machines.kill(ref))),
  'VM.power_state_reset': (call: Call, vm: string) =>
    withVmOperation(call, vm, 'power_state_reset', () => call.pool.machines.kill(vm)),
};

/** @throws VM_SHUTDOWN_TIMEOUT when the guest does not listen */
async function shutDownCleanly(pool: Pool, vm: string): Promise<void> {
  const timeoutMs = pool.timing.shutdownTimeoutMs;
  if (!(await pool.machines.shutDown(vm, timeoutMs))) {
    throw new XapiError('VM_SHUTDOWN_TIMEOUT', [vm, timeoutMs / 1000]);
  }
}

async function rebootVm(pool: Pool, vm: string, end: (pool: Pool, vm: string) => Promise<void>): Promise<void> {
  const host = textOf(pool.db.get('VM', vm), 'resident_on');
  await end(pool, vm);
  await bootVm(pool, vm, host, false);
}
