/** Every step that surefire does on a pool, by the name of its function; each takes the session first. */
export { loadChecked, loadCheckpoint, saveChecked, saveCheckpoint } from './checkpoints.js';
export { targetFindings } from './findings.js';
export { setVdiMetrics } from './metrics.js';
export { nbdServers } from './nbd.js';
export { about, findNetwork, findSr, srFacts } from './pool.js';
export { destroyOwned, destroyTasks, destroyVm, diskUuidsOf, listOwned } from './removal.js';
export { consolePicture, observeVm, powerStateOf, startVm, stopVm } from './running.js';
export { snapshotTarget } from './snapshots.js';
export { blockStart, isBlocked, markFinished, renameVm, unblockStart, unmarkFinished } from './target-vm.js';
export { createTargetDisk, createTargetVm, replaceDisk } from './target-vm.js';
export { createTestCopy, destroyTestCopy, requireIsolated } from './test-copy.js';
export { createTask, destroyTask, setTaskProgress, taskOutcome, vdiAccess } from './transfers.js';
export { acquireWriter, awaitNoAttachment, confirmWriter, releaseWriter, requireWriter } from './writers.js';
