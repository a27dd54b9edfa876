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
    async open({ index, from, to }, signal) {
      await xapi.requireWriter(vdiUuid, writerId);
      await xapi.awaitNoAttachment(vdiUuid, writerId);
      const access = await xapi.vdiAccess(vdiUuid);
      const task = await beginTask(xapi, `${name}, segment ${index}`, migrationId, to - from);
      try {
        const writer = await openSegmentPut({ ...access, ...task.asked, vdiName: name, signal });
        try {
          await xapi.confirmWriter(vdiUuid, { writerId, taskRef: task.asked.taskRef });
        } catch (error) {
          writer.abort();
          throw error;
        }
        return withTask(writer, task, onLink);
      } catch (error) {
        await task.end();
        throw error;
      }
    },
  };
}

function withTask(writer: SegmentWriter, task: Task, onLink?: (bytesPerSecond: number) => void): SegmentWriter {
  return {
    async write(offset, payload) {
      await writer.write(offset, payload);
      task.moved(payload.length);
    },
    linkShare: () => writer.linkShare?.(),
    async finish() {
      try {
        await writer.finish();
      } finally {
        const rate = writer.linkBytesPerSecond?.();
        if (rate !== undefined) onLink?.(rate);
        await task.end();
      }
    },
    abort() {
      writer.abort();
      task.end().catch(() => undefined);
    },
  };
}

/** Reads a VDI from its first byte to its last, as often as it is asked to (R20: one export each time). */
export function exportOf(xapi: Xapi, vdiUuid: string, name: string, migrationId: string): ReadBack {
  return async function* () {
    await xapi.awaitNoAttachment(vdiUuid);
    const access = await xapi.vdiAccess(vdiUuid);
    const sizeBytes = access.virtualSizeBytes;
    const task = await beginTask(xapi, `read back ${name}`, migrationId, sizeBytes);
    try {
      const signal = cancellationSignal();
      for await (const piece of exportRaw({ ...access, ...task.asked, vdiName: name, sizeBytes, signal })) {
        task.moved(piece.length);
        yield piece;
      }
    } finally {
      await task.end();
    }
  };
}

type Task = Awaited<ReturnType<typeof beginTask>>;

/** A task lives as long as its request, shows how far it is, and is gone afterwards. */
async function beginTask(xapi: Xapi, name: string, migrationId: string, totalBytes: number) {
  const taskRef = await xapi.createTask(`[surefire] ${name}`, migrationId);
  let moved = 0;
  let told = 0;
  const alive = setInterval(() => {
    if (moved === told) return;
    told = moved;
    xapi.setTaskProgress(taskRef, Math.min(0.99, moved / totalBytes)).catch(() => undefined);
  }, TASK_ALIVE_MS);
  return {
    asked: { taskRef, taskOutcome: () => xapi.taskOutcome(taskRef) },
    moved: (bytes: number) => void (moved += bytes),
    async end() {
      clearInterval(alive);
      await xapi.destroyTask(taskRef);
    },
  };
}
