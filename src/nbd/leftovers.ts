import { mkdir, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';

/** One running nbdkit, so that the next worker can end it if this one dies. */
interface RunRecord {
  pid: number;
  /** Start time in clock ticks since boot: with it a pid means one process for ever. */
  startTime: string;
  ownerPid: number;
  ownerStartTime: string;
  /** Holds the socket and the pid file. */
  socketFolder: string;
}

const SUFFIX = '.nbdkit.json';

/**
 * Start time of a process that still runs, from /proc/PID/stat; undefined when it is gone or a zombie.
 * The name in parentheses may contain spaces, so fields are counted after the last parenthesis.
 */
async function startTimeOf(pid: number): Promise<string | undefined> {
  const stat = await readFile(`/proc/${pid}/stat`, 'utf8').catch(() => undefined);
  const fields = stat?.slice(stat.lastIndexOf(')') + 2).split(' ');
  return fields === undefined || fields[0] === 'Z' ? undefined : fields[19];
}

/** Writes the record of a child. @returns Removes the record. */
export async function recordRun(runDir: string, pid: number, socketFolder: string): Promise<() => Promise<void>> {
  const record: RunRecord = {
    pid,
    startTime: (await startTimeOf(pid)) ?? '',
    ownerPid: process.pid,
    ownerStartTime: (await startTimeOf(process.pid)) ?? '',
    socketFolder,
  };
  await mkdir(runDir, { recursive: true, mode: 0o700 });
  const file = join(runDir, `${pid}-${record.startTime}${SUFFIX}`);
  await writeFile(file, JSON.stringify(record), { mode: 0o600 });
  return () => rm(file, { force: true });
}

/**
 * Ends the nbdkit processes whose worker is gone, and removes their sockets and records. `--exit-with-parent` does not end
 * an nbdkit in which a VDDK call hangs. Called at worker start; may run twice; other workers' children are left alone.
 *
 * @returns The pids that were killed.
 */
export async function sweepLeftovers(runDir: string): Promise<number[]> {
  const killed: number[] = [];
  for (const name of await readdir(runDir).catch(() => [])) {
    if (!name.endsWith(SUFFIX)) continue;
    const file = join(runDir, name);
    const record = await readRecord(file);
    if (record !== undefined) {
      if ((await startTimeOf(record.ownerPid)) === record.ownerStartTime) continue;
      if (await killExactly(record)) killed.push(record.pid);
      await rm(record.socketFolder, { recursive: true, force: true });
    }
    await rm(file, { force: true });
  }
  return killed;
}

async function readRecord(file: string): Promise<RunRecord | undefined> {
  try {
    return JSON.parse(await readFile(file, 'utf8')) as RunRecord;
  } catch {
    return undefined; // Cut short by a crash while it was written: then nothing is known of the child.
  }
}

async function killExactly({ pid, startTime }: RunRecord): Promise<boolean> {
  if ((await startTimeOf(pid)) !== startTime) return false;
  try {
    process.kill(pid, 'SIGKILL');
  } catch {
    return false;
  }
  const deadline = Date.now() + 5_000;
  while ((await startTimeOf(pid)) === startTime && Date.now() < deadline) await sleep(10);
  return true;
}
