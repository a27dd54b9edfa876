import type { Behaviour } from '../methods.js';
import { networkCalls } from './network.js';
import { poolCalls } from './pool.js';
import { sessionCalls } from './session.js';
import { vbdCalls } from './vbd.js';
import { vdiCalls } from './vdi.js';
import { vmCalls } from './vm.js';
import { vmCopyCalls } from './vm-copies.js';
import { vmPowerCalls } from './vm-power.js';

// Behaviour that goes beyond the generic methods, by method name. A file owns what happens to one kind of object.

export const calls: Readonly<Record<string, Behaviour>> = {
  ...sessionCalls,
  ...poolCalls,
  ...networkCalls,
  ...vdiCalls,
  ...vbdCalls,
  ...vmCalls,
  ...vmCopyCalls,
  ...vmPowerCalls,
};
