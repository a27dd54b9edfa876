import type { BlockReader, SegmentSink } from '../shared/blocks.js';
import type { TimeSpent } from '../shared/time-spent.js';
import type { Range } from '../shared/types.js';
import type { Chain } from './digest-chain.js';
import type { LinkShare } from './division.js';
import type { Throttle } from './throttle.js';

export type { Range };

/** Chunks are cut on multiples of this address. The receiver writes pieces of at most 2 MiB, one at a time. Never change it: digests depend on it. */
export const CHUNK_BYTES = 2 * 1024 * 1024;
/** Unit of the zero test inside a chunk. */
export const ZERO_BLOCK_BYTES = 512 * 1024;

/** Many ranges; an array of them is one. */
export interface RangeList extends Iterable<Range> {
  readonly length: number;
  /** A negative index counts from the end. */
  at(index: number): Range | undefined;
}

/** What one pass reads and writes, and nothing else. */
export interface Plan {
  /**
   * `base` goes to a new disk that reads as zeroes: blocks of zeroes need not be sent.
   * `delta` goes onto older content: every planned byte is sent.
   */
  kind: 'base' | 'delta';
  /** Size of the source disk. */
  virtualSizeBytes: number;
  ranges: RangeList;
  plannedBytes: number;
  /** BLAKE3 of kind, size and ranges, in hex. Equal digest means equal chunks in equal order. */
  planDigest: string;
}

/**
 * How far a pass got, small enough for the target disk's `other_config`. JSON values only. Positions count planned bytes
 * from the start of the plan, so they mean something only together with `planDigest`.
 */
export interface Checkpoint {
  schema: 1;
  pass: string;
  /** Snapshot that is read, as the caller names it. */
  snapshot: string;
  planDigest: string;
  plannedBytes: number;
  /** Everything before this position is durable on the target: its PUT was acknowledged. */
  done: number;
  /** Chain digest over the chunks before `done`, and how many they are. */
  chainDigest: string;
  chunks: number;
  /**
   * The segment that may have been sent in part: recorded before its first byte, gone when it is acknowledged. `from` equals
   * `done`. Whoever goes on sends every planned byte of it again, zeroes included: a cut PUT leaves stale bytes behind.
   */
  attempt?: { from: number; to: number };
  /** Sums over all runs of this pass, acknowledged segments only. */
  bytesRead: number;
  bytesSent: number;
  seconds: number;
  segments: number;
  spent: TimeSpent;
}

/** Durable, pessimistic memory of one target disk. `save` resolves once the record would survive a crash. */
export interface CheckpointStore {
  load(): Promise<Checkpoint | undefined>;
  save(checkpoint: Checkpoint): Promise<void>;
}

export interface TransferCounters {
  /** Of a copy the planned bytes handled so far, earlier runs included; of a verification the bytes read back. */
  bytesDone: number;
  bytesTotal: number;
  /** Over the last seconds. */
  bytesPerSecond: number;
}

/** Sums of a copy, earlier runs included. */
export interface CopyCounters extends TransferCounters {
  bytesRead: number;
  bytesSent: number;
  spent: TimeSpent;
}

export interface CopyPassOptions {
  plan: Plan;
  pass: string;
  snapshot: string;
  /** Connects to the source; called once, and again (bounded, with backoff) after a lost connection. */
  openReader: () => Promise<BlockReader>;
  sink: SegmentSink;
  checkpoints: CheckpointStore;
  /**
   * Pause or cancel: reads stop, the PUT ends early with its end marker, the checkpoint follows, then the signal's reason
   * is thrown. Bytes stop within one chunk; the acknowledgement takes as long as the receiver needs.
   */
  signal: AbortSignal;
  /** How fast bytes may move, and whether at all: while not, the PUT is ended and the next one waits. */
  throttle?: Throttle;
  /** How much of the waiting for the source is the network's; without it that is not told apart. */
  sourceLinkShare?: LinkShare;
  /** Called at the start, then at most twice a second, and at the end of each segment. */
  onProgress?: (progress: CopyCounters) => void;
  /** Most planned bytes in one PUT. Default 4 GiB. */
  segmentBytes?: number;
  /** A PUT that takes longer is ended early. Default 300. */
  segmentSeconds?: number;
  /** After a sector that cannot be read, the rest of its segment is looked through for others, at most so long. Default 60. */
  lookOnSeconds?: number;
  /** Reads in flight, each a chunk of up to 2 MiB. Default 6. */
  depth?: number;
  /**
   * The store holds an unfinished checkpoint of another pass, and this plan was made from the last complete changeId, so
   * that it covers whatever that pass announced (R8). Without it such a checkpoint is refused.
   */
  coversUnfinished?: boolean;
  reconnect?: ReconnectPolicy;
  /** Another chain than `DigestChain`; the benchmark has one that digests nothing. */
  openChain?: (value: string, chunks: number) => Promise<Chain>;
}

export interface ReconnectPolicy {
  /** Attempts to open, and attempts to read one block, before giving up. Default 6. */
  attempts?: number;
  /** First delay, doubled each time up to 30 s. Default 500. */
  firstDelayMs?: number;
}

export interface CopyPassResult {
  bytesRead: number;
  bytesSent: number;
  bytesPlanned: number;
  seconds: number;
  segments: number;
  spent: TimeSpent;
  chunks: number;
  /** Digest of every planned byte as it was read; `verifyBase` and `verifyDelta` compute it again. */
  chainDigest: string;
  planDigest: string;
  /** Position the first segment of this run began at, when an earlier run had got somewhere. */
  resumedFrom?: number;
}

export type OpenReader = () => Promise<BlockReader>;

/**
 * The target disk from a byte on (its first, unless told otherwise) to its last, in pieces of any size. Opened anew when a
 * mismatch has to be located.
 */
export type ReadBack = (from?: number) => AsyncIterable<Buffer>;

/** How far a frozen disk was read back without a difference: enough to go on there, in another process too. */
export interface Checked {
  /** Bytes of the target disk. */
  position: number;
  /** Bytes of the plan among them. */
  planned: number;
  /** Value and count of the digest chain over these. */
  chain: string;
  chunks: number;
  seconds: number;
}

interface VerifyCommon {
  plan: Plan;
  /** Of the pass's result. */
  chainDigest: string;
  /** Size of the target disk; at least the plan's size, the rest must be zero (base) or unchanged (delta). */
  targetSizeBytes: number;
  /** Opens the source again, while its snapshot lives, to locate a mismatch. */
  openReader?: OpenReader;
  signal?: AbortSignal;
  /** Called at most twice a second. */
  onProgress?: (progress: TransferCounters) => void;
}

export interface VerifyOptions extends VerifyCommon {
  readBack: ReadBack;
  /** Where to go on. The bytes before it are taken as checked, so it must be of the same frozen disk and plan. */
  from?: Checked;
  /** Hears of each place where it could go on. */
  onChecked?: (checked: Checked) => void;
}

export interface VerifyDeltaOptions extends VerifyOptions {
  /** The previous verified state of the same disk. */
  readBackPrevious: ReadBack;
}

export interface VerifyRangesOptions extends VerifyCommon {
  /** Opens the target for reads at any place; called again after a lost connection. */
  openTarget: OpenReader;
  /** The previous verified state of the same disk; without it what was not planned has to be zero. */
  openPrevious?: OpenReader;
  /** Share of what was not planned that is read, 0 to 1; rounded up to a unit. */
  share: number;
  /** Chooses which; the same one chooses the same. */
  seed: number;
  reconnect?: ReconnectPolicy;
}

export interface VerifyResult {
  bytesChecked: number;
  seconds: number;
  /** Chunks whose digests make the chain. */
  chunks: number;
  /** Probability that one wrong sector, anywhere on the disk with the same chance, would have been found. */
  detection: number;
  /** The same for a sector that no planned range covers; absent where everything was read. */
  share?: number;
}
