import { randomInt } from 'node:crypto';
import { cancellationSignal } from '@temporalio/activity';
import { connectExport } from '../nbd/index.js';
import type { BlockReader } from '../shared/blocks.js';
import { HEADROOM_BYTES } from '../shared/blocks.js';
import { failure, failureMessageOf, failureTypeOf } from '../shared/index.js';
import type { Verdict } from '../shared/index.js';
import { readBackBy, throttled, verifyBase, verifyDelta, verifyRanges } from '../transfer/index.js';
import type { OpenReader, Plan, ReadBack, Throttle, TransferCounters } from '../transfer/index.js';
import type { Xapi } from '../xapi/index.js';
import { resumable } from './read-back-checkpoint.js';
import { exportOf } from './target-disk.js';
import type { VerifyDiskInput } from './types.js';

/** A port that a firewall hides answers nobody; there is another way to read. */
const CONNECT_MS = 20_000;

interface ReadBackWork {
  plan: Plan;
  /** Opens the source, to find out where a difference lies. */
  openReader: OpenReader;
  throttle: Throttle;
  onProgress: (progress: TransferCounters) => void;
}

/**
 * Compares what a pass left in a target snapshot with what was read from the source (R20, R21): by NBD ranges where the
 * pool offers them, else by one export, which knows no ranges and so is always the whole disk. What was asked for and
 * cannot be done is in the verdict.
 *
 * @throws VerificationMismatch, with the extents to send again where they are known.
 */
export async function judge(xapi: Xapi, input: VerifyDiskInput, work: ReadBackWork): Promise<Verdict> {
  const { snapshotVdiUuid, previousSnapshotVdiUuid: previous, scope, disk } = input;
  const signal = cancellationSignal();
  const { virtualSizeBytes } = await xapi.vdiAccess(snapshotVdiUuid);
  const open = nbdOpener(xapi, disk.label, signal);
  const whyNot = await reasonAgainstNbd(xapi, snapshotVdiUuid, open);
  const said = {
    at: new Date().toISOString(),
    vdiUuid: snapshotVdiUuid,
    bytesTotal: virtualSizeBytes,
    chainDigest: input.chainDigest,
  };
  const common = { ...work, chainDigest: input.chainDigest, targetSizeBytes: virtualSizeBytes, signal };

  if (whyNot !== undefined && scope === 'changed') {
    return { ...said, scope, via: 'none', whyNotNbd: whyNot, bytesChecked: 0, detection: 0, chunks: 0, seconds: 0 };
  }
  if (whyNot !== undefined || scope === 'full') {
    const { label } = disk;
    const { migrationId } = input.target;
    const streamOf = (vdiUuid: string) =>
      streamFrom(
        xapi,
        { vdiUuid, label, migrationId },
        { open: whyNot === undefined && open, throttle: work.throttle },
      );
    const readBack = await streamOf(snapshotVdiUuid);
    const before = input.kind === 'delta' ? await streamOf(requirePrevious(previous)) : undefined;
    const of = [input.planDigest, input.chainDigest, previous].join(' ');
    const result = await resumable(xapi, { vdiUuid: snapshotVdiUuid, of }, (from, onChecked) => {
      const options = { ...common, readBack, onChecked, ...(from && { from }) };
      return before ? verifyDelta({ ...options, readBackPrevious: before }) : verifyBase(options);
    });
    await released(xapi, snapshotVdiUuid, previous);
    const way = whyNot === undefined ? { via: 'nbd' as const } : { via: 'export' as const, whyNotNbd: whyNot };
    return { ...said, scope: 'full', ...way, ...result };
  }
  const seed = randomInt(2 ** 32);
  const share = scope === 'sampled' ? input.sampleShare : 0;
  const limited = (vdiUuid: string) => withLimit(open(vdiUuid), work.throttle, signal);
  const result = await verifyRanges({
    ...common,
    openTarget: limited(snapshotVdiUuid),
    ...(input.kind === 'delta' && { openPrevious: limited(requirePrevious(previous)) }),
    share,
    seed,
  });
  await released(xapi, snapshotVdiUuid, previous);
  return { ...said, scope, via: 'nbd', ...result, ...(scope === 'sampled' && { seed }) };
}

/** A VDI as a stream: by ranges where the pool offers them, else by an export. */
export async function targetStream(
  xapi: Xapi,
  disk: TargetDisk,
  throttle: Throttle,
): Promise<{ sizeBytes: number; readBack: ReadBack }> {
  const open = nbdOpener(xapi, disk.label, cancellationSignal());
  const isOffered = (await reasonAgainstNbd(xapi, disk.vdiUuid, open)) === undefined;
  const readBack = await streamFrom(xapi, disk, { open: isOffered && open, throttle });
  return { sizeBytes: (await xapi.vdiAccess(disk.vdiUuid)).virtualSizeBytes, readBack };
}

interface TargetDisk {
  vdiUuid: string;
  label: string;
  migrationId: string;
}

/** @param way `open` is false where only an export is left; of that the beginning is passed over. */
async function streamFrom(
  xapi: Xapi,
  { vdiUuid, label, migrationId }: TargetDisk,
  { open, throttle }: { open: NbdOpener | false; throttle: Throttle },
): Promise<ReadBack> {
  const signal = cancellationSignal();
  const { virtualSizeBytes } = await xapi.vdiAccess(vdiUuid);
  if (open) return throttled(readBackBy(open(vdiUuid), virtualSizeBytes, signal), throttle, signal);
  const whole = throttled(exportOf(xapi, vdiUuid, label, migrationId), throttle, signal);
  return async function* (from = 0) {
    let skipped = 0;
    for await (const piece of whole()) {
      const rest = piece.subarray(Math.min(piece.length, from - skipped));
      skipped += piece.length - rest.length;
      if (rest.length > 0) yield rest;
    }
  };
}

type NbdOpener = (vdiUuid: string) => OpenReader;

/** Connections to a VDI's NBD servers, one after the other until one answers. */
function nbdOpener(xapi: Xapi, subject: string, signal: AbortSignal): NbdOpener {
  return (vdiUuid) => async () => {
    let last: unknown;
    for (const server of await xapi.nbdServers(vdiUuid)) {
      try {
        return await connectExport(server, { subject, signal, timeouts: { connectMs: CONNECT_MS } });
      } catch (error) {
        if (failureTypeOf(error) !== 'ConnectionFailed') throw error;
        last = error;
      }
    }
    throw last ?? failure('ConnectionFailed', { what: `The pool offers no NBD for ${subject} any more.` });
  };
}

/** Tries it: a server that is offered may be out of reach from here. An impostor is no reason, it is an error. */
async function reasonAgainstNbd(xapi: Xapi, vdiUuid: string, open: NbdOpener): Promise<string | undefined> {
  if ((await xapi.nbdServers(vdiUuid)).length === 0) return 'the pool offers none';
  try {
    await (await open(vdiUuid)()).close();
    return undefined;
  } catch (error) {
    if (failureTypeOf(error) !== 'ConnectionFailed') throw error;
    return failureMessageOf(error);
  }
}

/** Whoever comes next, a start or a destruction, must not find our readers. */
async function released(xapi: Xapi, ...vdiUuids: (string | undefined)[]): Promise<void> {
  for (const vdiUuid of vdiUuids) if (vdiUuid !== undefined) await xapi.awaitNoAttachment(vdiUuid);
}

function requirePrevious(vdiUuid: string | undefined): string {
  if (vdiUuid === undefined) throw new Error('a delta is compared with the snapshot before it');
  return vdiUuid;
}

function withLimit(open: OpenReader, throttle: Throttle, signal: AbortSignal): OpenReader {
  return async () => {
    const reader = await open();
    return {
      sizeBytes: reader.sizeBytes,
      close: () => reader.close(),
      async read(offset, length, buffer) {
        await throttle.take(length, signal);
        await reader.read(offset, length, buffer);
      },
    };
  };
}

/** A source disk whose end was rounded up on the target: what lies behind it reads as zeroes. */
export function withTail(reader: BlockReader, sizeBytes: number): BlockReader {
  return {
    sizeBytes,
    close: () => reader.close(),
    async read(offset, length, buffer) {
      const there = Math.max(0, Math.min(length, reader.sizeBytes - offset));
      buffer.fill(0, HEADROOM_BYTES + there, HEADROOM_BYTES + length);
      if (there > 0) await reader.read(offset, there, buffer);
    },
  };
}
