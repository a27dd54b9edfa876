export type Transport = 'vddk' | 'https';
export type Firmware = 'bios' | 'uefi';

/** Input of one migration. Names endpoints, never passwords. `vm` comes first: the Web UI shows the input from its first key. */
export interface MigrationInput {
  /** The VM's name as the operator knows it. */
  vm: string;
  schema: 1;
  source: {
    /** Name of a configured vCenter. */
    vcenter: string;
    vmMoRef: string;
  };
  target: {
    /** Name of a configured pool. */
    pool: string;
    srUuid: string;
    /** Target network uuid for each source network name. */
    networks: Record<string, string>;
  };
  /** Task queue of the transfer workers, `transfer.<host>`. */
  transferQueue: string;
  policy: MigrationPolicy;
  /** Who started it; an acknowledgement of warnings needs a name and a reason (S34). */
  requestedBy: string;
  /** Given at the start: the operator has read the check's warnings. */
  acknowledgedWarnings?: Word;
  /** Why starting from the same VM again is wanted although it was migrated before (R12). */
  repeatReason?: string;
}

export interface MigrationPolicy {
  transport: 'auto' | Transport;
  /** A check older than this when its warnings are acknowledged is made again (S31). */
  checkValidMinutes: number;
  /** Rung 2 of the shutdown ladder (R10): run the configured command hook. */
  shutdownHook: boolean;
  /** Rung 4: hard power-off is allowed after the others failed. The text is the recorded consent. */
  hardPowerOffConsent?: string;
  /** How long each rung may take until the next one, in seconds. */
  shutdownTimeoutSeconds: number;
  /** Hours after which the clean snapshot is removed although nobody answered (R5). */
  snapshotHours: number;
  /** Seconds the test copy and the target must run with unmoved start time (R23). */
  bootStableSeconds: number;
  /** How a pass is read back: everything, or what was copied and a share of the rest where the pool offers ranges. */
  verify?: 'full' | 'sampled';
  /** Of `sampled`: that share, 0 to 1. */
  sampleShare?: number;
  /** Downtime the operator was promised, in seconds (S24). */
  downtimeBudgetSeconds: number;
}

/** Who said something, and why. Every message carries one. */
export interface Word {
  operator: string;
  reason?: string;
}
