import { cancellationSignal } from '@temporalio/activity';
import type { SegmentSink, SegmentWriter } from '../shared/blocks.js';
import type { Checkpoint, CheckpointStore, ReadBack } from '../transfer/index.js';
import { exportRaw, openSegmentPut } from '../xapi/upload/index.js';
import type { Xapi } from '../xapi/index.js';

/** How often XAPI is told that a long task lives; it collects those that show no progress for a day. */
const TASK_ALIVE_MS = 10_000;

/** The checkpoint of a disk, kept on the disk itself (design 4), written by nobody but the disk's writer (R17). */
export function checkpointsOn(xapi: Xapi, vdiUuid: string, writerId: string): CheckpointStore {
  return {
    load: async () => (await xapi.loadCheckpoint(vdiUuid)) as Checkpoint | undefined,
    save: (checkpoint) => xapi.saveCheckpoint(vdiUuid, writerId, checkpoint),
  };
}

/**
 * Turns segments into PUTs. Before each one the pool is asked whether we still are the writer and whether the last PUT
 * has let go of the disk, and before its first byte the former once more (R17).
 */
export function sinkFor(
  xapi: Xapi,
  target: {
    vdiUuid: string;
    name: string;
    writerId: string;
    migrationId: string;
    /** Hears what the network to the pool was seen to carry, bytes per second. */
    onLink?: (bytesPerSecond: number) => void;
  },
): SegmentSink {
  const { vdiUuid, name, writerId, migrationId, onLink } = target;
  return {
    async open(segment, signal) {
      await xapi.requireWriter(vdiUuid, writerId);
      await xapi.awaitNoAttachment(vdiUuid, writerId);
      const { host, sessionId, vdiRef, tlsForHost } = await xapi.vdiAccess(vdiUuid);
      const taskRef = await xapi.createTask(`[surefire] ${name}, segment ${segment.index}`, migrationId);
      try {
        const taskOutcome = () => xapi.taskOutcome(taskRef);
        const writer = await openSegmentPut({
          host,
          sessionId,
          taskRef,
          vdiRef,
          tlsForHost,
          taskOutcome,
          vdiName: name,
          signal,
        });
        try {
          await xapi.confirmWriter(vdiUuid, { writerId, taskRef });
        } catch (error) {
          writer.abort();
          throw error;
        }
        return withTask(xapi, writer, taskRef, segment, onLink);
      } catch (error) {
        await xapi.destroyTask(taskRef);
        throw error;
      }
    },
  };
}

/** The task lives as long as its PUT, shows how far it is, and is gone afterwards. */
function withTask(
  xapi: Xapi,
  writer: SegmentWriter,
  taskRef: string,
  { from, to }: { from: number; to: number },
  onLink?: (bytesPerSecond: number) => void,
): SegmentWriter {
  let sent = 0;
  let told = 0;
  const alive = setInterval(() => {
    if (sent === told) return;
    told = sent;
    xapi.setTaskProgress(taskRef, Math.min(0.99, sent / (to - from))).catch(() => undefined);
  }, TASK_ALIVE_MS);
  const end = async () => {
    clearInterval(alive);
    await xapi.destroyTask(taskRef);
  };
  return {
    async write(offset, payload) {
      await writer.write(offset, payload);
      sent += payload.length;
    },
    linkShare: () => writer.linkShare?.(),
    async finish() {
      try {
        await writer.finish();
      } finally {
        const rate = writer.linkBytesPerSecond?.();
        if (rate !== undefined) onLink?.(rate);
        await end();
      }
    },
    abort() {
      writer.abort();
      end().catch(() => undefined);
    },
  };
}

/** Reads a VDI from its first byte to its last, as often as it is asked to (R20: one export each time). */
export function exportOf(xapi: Xapi, vdiUuid: string, name: string, migrationId: string): ReadBack {
  return async function* () {
    await xapi.awaitNoAttachment(vdiUuid);
    const access = await xapi.vdiAccess(vdiUuid);
    const { virtualSizeBytes } = access;
    const taskRef = await xapi.createTask(`[surefire] read back ${name}`, migrationId);
    let bytes = 0;
    const alive = setInterval(() => {
      xapi.setTaskProgress(taskRef, Math.min(0.99, bytes / virtualSizeBytes)).catch(() => undefined);
    }, TASK_ALIVE_MS);
    try {
      const pieces = exportRaw({
        ...access,
        taskRef,
        vdiName: name,
        sizeBytes: virtualSizeBytes,
        taskOutcome: () => xapi.taskOutcome(taskRef),
        signal: cancellationSignal(),
      });
      for await (const piece of pieces) {
        bytes += piece.length;
        yield piece;
      }
    } finally {
      clearInterval(alive);
      await xapi.destroyTask(taskRef);
    }
  };
}
