import type { Config } from '../config.js';
import type { LoginGuard } from '../shared/login-guard.js';
import type { Vsphere } from '../vsphere/index.js';
import type { Xapi } from '../xapi/index.js';

/** What activities are made of. Adapters are shared by all activities of a worker: one session per endpoint. */
export interface Deps {
  config: Config;
  /** The client of a configured vCenter. @throws EndpointUnknown */
  vsphere(name: string): Vsphere;
  /** Stands before every login there, also before those of VDDK. @throws EndpointUnknown */
  vsphereLogins(name: string): LoginGuard;
  /** The client of a configured pool. @throws EndpointUnknown */
  xapi(name: string): Xapi;
}
