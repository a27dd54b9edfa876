import { hostname, tmpdir } from 'node:os';
import { z } from 'zod';

const GIB = 1024 ** 3;

/** Words in a configuration that ask for reading over a file share, which this program never does (S2). */
export const NO_FILE_SHARE =
  'there is no NFS or vSAN-export transport: disks are read through nbdkit (`vddk` or `https`) and nothing is ever mounted';

const seconds = z.number().positive();

const transport = z.enum(['auto', 'vddk', 'https'], {
  error: ({ input }) =>
    /nfs|vsan/i.test(String(input)) ? NO_FILE_SHARE : `must be auto, vddk or https, not ${JSON.stringify(input)}`,
});

const fingerprint = z
  .string()
  .regex(
    /^([0-9a-f]{2}:?){31}[0-9a-f]{2}$/i,
    'must be a SHA-256 fingerprint, 32 bytes in hex (`surefire check` prints it)',
  );

const hostAndPort = z.string().regex(/^[^\s:]+:\d+$/, 'must be host:port');

const url = z.string().regex(/^https:\/\/[^\s/]+/i, 'must be an https:// address');

/** Where a server is, who we are there, where the password is found and which certificate is trusted. */
const endpointShape = {
  url,
  username: z.string().min(1),
  passwordFile: z.string().min(1).optional(),
  passwordEnv: z.string().min(1).optional(),
  fingerprintSha256: fingerprint.optional(),
  caFile: z.string().min(1).optional(),
};

interface EndpointFields {
  passwordFile?: string | undefined;
  passwordEnv?: string | undefined;
  fingerprintSha256?: string | undefined;
  caFile?: string | undefined;
}

const onePassword = (at: EndpointFields): boolean => (at.passwordFile === undefined) !== (at.passwordEnv === undefined);
const onePin = (at: EndpointFields): boolean => at.fingerprintSha256 === undefined || at.caFile === undefined;
const ONE_PASSWORD = { message: 'needs either passwordFile or passwordEnv' };
const ONE_PIN = { message: 'takes fingerprintSha256 or caFile, not both' };

const vcenter = z
  .strictObject({
    ...endpointShape,
    /** Port of the ESXi hosts that VDDK reads through; another one only behind a translating firewall. */
    nfcPort: z.number().int().min(1).max(65_535).default(902),
    /** Most logins of one worker in any minute, those of VDDK included, which logs in for each connection to a disk. */
    loginsPerMinute: z.number().int().min(1).default(60),
  })
  .refine(onePassword, ONE_PASSWORD)
  .refine(onePin, ONE_PIN);

const pool = z
  .strictObject({
    ...endpointShape,
    /** Name or uuid of the storage repository that new disks go to. */
    sr: z.string().min(1),
    /** Target network (name or uuid) for each source network name; `default` takes the rest. */
    networks: z.record(z.string(), z.string().min(1)).prefault({}),
  })
  .refine(onePassword, ONE_PASSWORD)
  .refine(onePin, ONE_PIN);

const mibPerSecond = z.number().min(0);

/** How fast this host may move blocks; absent is without limit, 0 is not at all. */
const limitShape = {
  /** All disks of this host together. */
  hostMiBPerSecond: mibPerSecond.optional(),
  /** Each disk. */
  diskMiBPerSecond: mibPerSecond.optional(),
};

const timeOfDay = z.string().regex(/^([01]\d|2[0-3]):[0-5]\d$/, 'must be a time of day such as "08:30", in quotes');

const timeZone = z.string().refine(isTimeZone, 'must be a time zone such as Europe/Vienna or UTC');

const transfer = z.strictObject({
  /** Task queue of this host's transfer worker. */
  queue: z
    .string()
    .min(1)
    .default(() => `transfer.${hostname()}`),
  /** Disks copied at once on this host. */
  slots: z.number().int().min(2).max(4).default(2),
  nbdkit: z.string().min(1).default('nbdkit'),
  /** Folder that holds `lib64/libvixDiskLib.so`; without it the vddk transport is not offered. */
  vddkLibdir: z.string().min(1).optional(),
  /**
   * Ways from VDDK to the disks, in the order in which they are tried, silently. `nbd` is not encrypted, so nobody gets it who did
   * not ask for it; `hotadd` and `san` need a worker that stands where they work.
   */
  vddkTransports: z
    .array(z.enum(['nbdssl', 'nbd', 'hotadd', 'san'], 'must be nbdssl, nbd, hotadd or san'))
    .min(1)
    .refine((ways) => new Set(ways).size === ways.length, 'names one twice')
    .default(['nbdssl']),
  /** Between the ESXi hosts and here (S26); of use to nbd and nbdssl alone. */
  vddkCompression: z.enum(['fastlz', 'zlib', 'skipz', 'none'], 'must be fastlz, zlib, skipz or none').default('fastlz'),
  /** A segment, the part of a pass sent in one PUT, ends after this many planned bytes ... */
  segmentBytes: z
    .number()
    .int()
    .min(2 * 1024 ** 2)
    .multipleOf(512)
    .default(4 * GIB),
  /** ... or after this long, whichever is first. The pool forgets a task after a day, so no request comes near it. */
  segmentSeconds: seconds.max(900).default(300),
  /** Read again while copies run: a change in the file counts within seconds (S144). */
  limits: z
    .strictObject({
      ...limitShape,
      /** At these hours these limits hold instead; the first entry that fits counts. `from` after `to` spans midnight. */
      hours: z
        .array(z.strictObject({ from: timeOfDay, to: timeOfDay, zone: timeZone.default('UTC'), ...limitShape }))
        .default([]),
    })
    .prefault({}),
  /** Sockets of running nbdkit processes; a short path, for a socket's name fits 107 bytes. */
  runDir: z
    .string()
    .min(1)
    .default(() => `${process.env['XDG_RUNTIME_DIR'] ?? tmpdir()}/surefire-${process.getuid?.() ?? 0}`),
});

function isTimeZone(name: string): boolean {
  try {
    return new Intl.DateTimeFormat('en', { timeZone: name }) instanceof Intl.DateTimeFormat;
  } catch {
    return false;
  }
}

/** What `surefire.yaml` may hold. Unknown keys are refused at every level. */
export const configSchema = z.strictObject({
  temporal: z
    .strictObject({
      address: hostAndPort.default('127.0.0.1:7233'),
      namespace: z.string().min(1).default('surefire'),
      webUrl: z
        .string()
        .regex(/^https?:\/\//, 'must be an address')
        .default('http://127.0.0.1:8233'),
      /** For a server that is spoken to by TLS; without a `caFile` the public authorities count. */
      tls: z
        .strictObject({
          caFile: z.string().min(1).optional(),
          /** Certificate and key of this client, where the server asks for one. */
          certFile: z.string().min(1).optional(),
          keyFile: z.string().min(1).optional(),
          /** The name in the server's certificate, where it is not the one in `address`. */
          serverName: z.string().min(1).optional(),
        })
        .refine((tls) => (tls.certFile === undefined) === (tls.keyFile === undefined), {
          message: 'needs certFile and keyFile together',
        })
        .optional(),
      /** The `temporal` program that `surefire up` runs. */
      command: z.string().min(1).optional(),
    })
    .prefault({}),
  vcenters: z.record(z.string(), vcenter),
  pools: z.record(z.string(), pool),
  transfer: transfer.prefault({}),
  /** Where Prometheus fetches a worker's figures, `host:port`; none unless given. The workers of one host need two ports. */
  metrics: z.strictObject({ orchestrator: hostAndPort.optional(), transfer: hostAndPort.optional() }).prefault({}),
  hooks: z
    .strictObject({
      /** Asks the guest to shut down (R10); run with SUREFIRE_VM and SUREFIRE_MOREF in its environment. */
      shutdown: z.strictObject({ command: z.array(z.string()).min(1) }).optional(),
    })
    .prefault({}),
  policy: z
    .strictObject({
      transport: transport.default('auto'),
      /** A check older than this when its warnings are acknowledged is made again. */
      checkValidMinutes: z.number().positive().default(60),
      shutdownTimeoutSeconds: seconds.default(300),
      snapshotHours: z.number().positive().default(72),
      bootStableSeconds: seconds.default(60),
      downtimeBudgetSeconds: seconds.default(300),
      verify: z.enum(['full', 'sampled']).default('full'),
      sampleShare: z.number().gt(0).max(1).default(0.05),
    })
    .prefault({}),
  testNetwork: z.strictObject({ name: z.string().min(1).default('surefire test') }).prefault({}),
  state: z.strictObject({ dir: z.string().min(1).optional() }).prefault({}),
});
