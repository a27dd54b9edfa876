/** Seconds of a pass by what was waited for. Reading and writing go on side by side, so the longest wait is the slowest leg. */
export interface TimeSpent {
  /** For the source's bytes. */
  read: number;
  /** For the target to take bytes, and to acknowledge them. */
  write: number;
  /** For the digest of what was read. */
  digest: number;
  /** For the configured limit. */
  limit: number;
  /** Of `read`: for the network, and for the ESXi host. What is in neither could not be told apart. */
  readLink: number;
  readHost: number;
  /** Of `write`: for the network, and for the XCP-ng host. */
  writeLink: number;
  writeHost: number;
  /** Of all of it, how long the thread that moves the bytes was busy. */
  busy: number;
}

export const NO_TIME: Readonly<TimeSpent> = {
  ...{ read: 0, write: 0, digest: 0, limit: 0 },
  ...{ readLink: 0, readHost: 0, writeLink: 0, writeHost: 0, busy: 0 },
};

export function addTimes(a: TimeSpent, b: TimeSpent): TimeSpent {
  return combine(a, b, 1);
}

/** What has been spent since `before`. */
export function timeSince(before: TimeSpent, now: TimeSpent): TimeSpent {
  return combine(now, before, -1);
}

function combine(a: TimeSpent, b: TimeSpent, sign: 1 | -1): TimeSpent {
  const names = Object.keys(NO_TIME) as (keyof TimeSpent)[];
  return Object.fromEntries(names.map((name) => [name, a[name] + sign * b[name]])) as unknown as TimeSpent;
}

/** What bounds a transfer's rate. `... or its link` where the two could not be told apart. */
export type Bottleneck =
  | 'ESXi host'
  | 'link to VMware'
  | 'ESXi host or its link'
  | 'XCP-ng host'
  | 'link to XCP-ng'
  | 'XCP-ng host or its link'
  | 'this host'
  | 'limit';

/** Above this share of its thread's time a transfer waits for nobody: the processor is what bounds it. */
const SATURATED = 0.9;

/**
 * The slowest leg of a transfer, in a word.
 *
 * @returns Undefined when nothing has been moved yet.
 */
export function bottleneckOf(spent: TimeSpent): Bottleneck | undefined {
  const { read, write, digest, limit, busy } = spent;
  const longest = Math.max(read, write, digest, limit);
  if (longest <= 0) return undefined;
  if (longest === limit) return 'limit';
  if (longest === digest || busy > SATURATED * (read + write + digest + limit)) return 'this host';
  return longest === read
    ? slower(read, spent.readLink, spent.readHost, ['link to VMware', 'ESXi host', 'ESXi host or its link'])
    : slower(write, spent.writeLink, spent.writeHost, ['link to XCP-ng', 'XCP-ng host', 'XCP-ng host or its link']);
}

function slower(
  all: number,
  link: number,
  host: number,
  [linkName, hostName, either]: [Bottleneck, Bottleneck, Bottleneck],
): Bottleneck {
  if (Math.max(link, host) * 2 < all) return either;
  return link > host ? linkName : hostName;
}
