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
import { readBackOf } from './target-disk.js';
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
    const streamOf = async (vdiUuid: string): Promise<ReadBack> => {
      const readBack =
        whyNot === undefined
          ? readBackBy(open(vdiUuid), virtualSizeBytes, signal)
          : (await readBackOf(xapi, vdiUuid, disk.label, input.target.migrationId)).readBack;
      return throttled(readBack, work.throttle, signal);
    };
    const options = { ...common, readBack: await streamOf(snapshotVdiUuid) };
    const result =
      input.kind === 'base'
        ? await verifyBase(options)
        : await verifyDelta({ ...options, readBackPrevious: await streamOf(requirePrevious(previous)) });
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

/** A VDI from any byte to its end: by ranges where the pool offers them, else by an export whose beginning is passed over. */
export async function targetReader(
  xapi: Xapi,
  { vdiUuid, label, migrationId }: { vdiUuid: string; label: string; migrationId: string },
): Promise<{ sizeBytes: number; readFrom: (from: number) => AsyncIterable<Buffer> }> {
  const open = nbdOpener(xapi, label, cancellationSignal());
  if ((await reasonAgainstNbd(xapi, vdiUuid, open)) === undefined) {
    const { virtualSizeBytes } = await xapi.vdiAccess(vdiUuid);
    const readFrom = (from: number) => readBackBy(open(vdiUuid), virtualSizeBytes, cancellationSignal(), from)();
    return { sizeBytes: virtualSizeBytes, readFrom };
  }
  const { readBack, sizeBytes } = await readBackOf(xapi, vdiUuid, label, migrationId);
  return {
    sizeBytes,
    async *readFrom(from) {
      let skipped = 0;
      for await (const piece of readBack()) {
        const rest = piece.subarray(Math.min(piece.length, from - skipped));
        skipped += piece.length - rest.length;
        if (rest.length > 0) yield rest;
      }
    },
  };
}

/** Connections to a VDI's NBD servers, one after the other until one answers. */
function nbdOpener(xapi: Xapi, subject: string, signal: AbortSignal): (vdiUuid: string) => OpenReader {
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
async function reasonAgainstNbd(
  xapi: Xapi,
  vdiUuid: string,
  open: (vdiUuid: string) => OpenReader,
): Promise<string | undefined> {
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
