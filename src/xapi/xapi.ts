import { bindSteps, type BoundSteps } from '../shared/bound-steps.js';
import { loadCheckpoint, saveCheckpoint } from './checkpoints.js';
import { Connection } from './connection.js';
import { targetFindings } from './findings.js';
import { setVdiMetrics } from './metrics.js';
import { nbdServers } from './nbd.js';
import { about, findNetwork, findSr, srFacts } from './pool.js';
import { destroyOwned, destroyTasks, destroyVm, diskUuidsOf, listOwned } from './removal.js';
import { consolePicture, observeVm, powerStateOf, startVm, stopVm } from './running.js';
import { snapshotTarget } from './snapshots.js';
import {
  blockStart,
  createTargetDisk,
  createTargetVm,
  isBlocked,
  markFinished,
  renameVm,
  replaceDisk,
  unblockStart,
  unmarkFinished,
} from './target-vm.js';
import { createTestCopy, destroyTestCopy, requireIsolated } from './test-copy.js';
import { createTask, destroyTask, setTaskProgress, taskOutcome, vdiAccess } from './transfers.js';
import type { XapiOptions } from './types.js';
import { acquireWriter, awaitNoAttachment, confirmWriter, releaseWriter, requireWriter } from './writers.js';

/** Every step that surefire does on a pool, by the name of its function. */
const STEPS = {
  about,
  findSr,
  findNetwork,
  srFacts,
  targetFindings,
  createTargetVm,
  createTargetDisk,
  replaceDisk,
  blockStart,
  unblockStart,
  isBlocked,
  renameVm,
  markFinished,
  unmarkFinished,
  loadCheckpoint,
  saveCheckpoint,
  acquireWriter,
  requireWriter,
  confirmWriter,
  releaseWriter,
  awaitNoAttachment,
  vdiAccess,
  nbdServers,
  createTask,
  taskOutcome,
  setTaskProgress,
  destroyTask,
  setVdiMetrics,
  snapshotTarget,
  createTestCopy,
  requireIsolated,
  destroyTestCopy,
  startVm,
  stopVm,
  observeVm,
  powerStateOf,
  consolePicture,
  destroyVm,
  destroyOwned,
  destroyTasks,
  listOwned,
  diskUuidsOf,
};

/**
 * One pool, for as many callers as like to share it. Logs in at the first call and again when the session has ended.
 *
 * Any step may throw AuthenticationFailed, CertificateChanged, ConnectionFailed, TargetNotFound, TargetRefused,
 * SrOutOfSpace (another attempt cannot help) or TargetBusy (it may).
 */
export type Xapi = BoundSteps<Connection, typeof STEPS> & { close(): Promise<void> };

/** A client of one pool; nothing is sent before the first step. */
export function createXapi(options: XapiOptions): Xapi {
  const connection = new Connection(options);
  return { ...bindSteps(connection, STEPS), close: () => connection.close() };
}
