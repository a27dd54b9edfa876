import { readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { LabDescription } from './lab.js';

/** Where `npm run lab` keeps its state unless told otherwise: in the project, ignored by git. */
export const DEFAULT_STATE_DIR = join('.state', 'lab');

interface LabFile extends LabDescription {
  /** The launcher, by number and start time: numbers are used again. */
  process: { pid: number; startedAt: string };
}

const fileOf = (stateDir: string): string => join(stateDir, 'lab.json');

/** Notes in the state folder that this process runs the lab. Only the owner can read it: passwords are in it. */
export async function writeLabFile(lab: LabDescription): Promise<void> {
  const startedAt = (await startTimeOf(process.pid)) ?? '';
  const content: LabFile = { ...lab, process: { pid: process.pid, startedAt } };
  await rm(fileOf(lab.stateDir), { force: true }); // an old file would keep its mode
  await writeFile(fileOf(lab.stateDir), JSON.stringify(content), { mode: 0o600 });
}

export async function removeLabFile(stateDir: string): Promise<void> {
  await rm(fileOf(stateDir), { force: true });
}

/** The lab that runs on a state folder now, if any; a note left by a killed launcher does not count. */
export async function findRunningLab(stateDir: string): Promise<(LabDescription & { pid: number }) | undefined> {
  const text = await readFile(fileOf(stateDir), 'utf8').catch(() => undefined);
  if (text === undefined) return undefined;
  const { process: launcher, ...lab } = JSON.parse(text) as LabFile;
  const isRunning = (await startTimeOf(launcher.pid)) === launcher.startedAt;
  return isRunning ? { ...lab, pid: launcher.pid } : undefined;
}

// Field 22 of /proc/PID/stat, counted behind the command's name, which may contain anything.
async function startTimeOf(pid: number): Promise<string | undefined> {
  const stat = await readFile(`/proc/${pid}/stat`, 'utf8').catch(() => undefined);
  return stat?.slice(stat.lastIndexOf(')') + 2).split(' ')[19];
}
