import { execFile } from 'node:child_process';
import { readFile } from 'node:fs/promises';
import { cpus, release, totalmem } from 'node:os';
import { setTimeout as sleep } from 'node:timers/promises';
import { promisify } from 'node:util';

const TICKS_PER_SECOND = 100;

/** CPU seconds of a process that runs, its threads included. */
export async function cpuSecondsOf(pid: number): Promise<number> {
  const stat = await readFile(`/proc/${pid}/stat`, 'utf8');
  const fields = stat
    .slice(stat.lastIndexOf(')') + 2)
    .split(' ')
    .map(Number);
  return ((fields[11] ?? 0) + (fields[12] ?? 0)) / TICKS_PER_SECOND;
}

/** CPU seconds that the whole machine has been busy since its start, and that its host took away. */
export async function machineSeconds(): Promise<{ busy: number; stolen: number }> {
  const line = (await readFile('/proc/stat', 'utf8')).split('\n')[0] ?? '';
  const [user = 0, nice = 0, system = 0, , , irq = 0, softirq = 0, steal = 0] = line
    .trim()
    .split(/\s+/)
    .slice(1)
    .map(Number);
  return { busy: (user + nice + system + irq + softirq) / TICKS_PER_SECOND, stolen: steal / TICKS_PER_SECOND };
}

/** Waits until others use less than a sixth of a CPU, at most so long. */
export async function untilIdle(patienceSeconds: number): Promise<void> {
  for (const endAt = Date.now() + patienceSeconds * 1000; Date.now() < endAt;) {
    const before = (await machineSeconds()).busy;
    await sleep(500);
    if (((await machineSeconds()).busy - before) / 0.5 < 0.16) return;
  }
}

/** What the figures depend on. */
export async function machineFacts(): Promise<Record<string, string>> {
  const first = async (command: string, ...args: string[]) => {
    const { stdout } = await promisify(execFile)(command, args).catch(() => ({ stdout: 'not installed' }));
    return stdout.split('\n')[0]?.trim() ?? '';
  };
  return {
    CPU: `${cpus().length} × ${cpus()[0]?.model.trim() ?? 'unknown'}`,
    Memory: `${Math.round(totalmem() / 1024 ** 3)} GiB`,
    Kernel: release(),
    Node: `${process.version}, OpenSSL ${process.versions.openssl}`,
    'C mover and sink': await first('openssl', 'version'),
    nbdkit: await first('nbdkit', '--version'),
    nbdcopy: await first('nbdcopy', '--version'),
    'qemu-img': await first('qemu-img', '--version'),
    Date: new Date().toISOString().slice(0, 10),
  };
}
