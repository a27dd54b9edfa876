import { spawn, type ChildProcess } from 'node:child_process';
import { createWriteStream, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import type { Duplex } from 'node:stream';
import { uuidOf } from './datapath.js';
import { XapiError } from './errors.js';
import type { Pool } from './pool.js';
import { haltVm, hearGuest, noteStart } from './power.js';
import { qemuArguments } from './qemu.js';
import { Monitor } from './qmp.js';
import { formatDate, textOf } from './values.js';

/** A guest that dies or stops sooner than this is not started again: it would go on for ever. */
const BOUNCE_MS = 60_000;
const LAST_WORDS = 5;

interface Machine {
  child: ChildProcess;
  monitor: Monitor;
  /** Resolves once the process has ended and the database says so. */
  ended: Promise<void>;
  startedAt: number;
  /** Somebody asked for the end: it is no crash and leads to no new start. */
  isEnding: boolean;
  /** The guest shut itself down. */
  hasShutDown: boolean;
  /** Last lines of the process's own complaints. */
  complaints: string[];
}

const PRESS_AGAIN_MS = 3_000;
/**
 * On a busy host qemu 7.2 now and then sleeps over a timer of an idle guest, which then stands still until something wakes
 * its main loop. A question does.
 */
const ASK_MS = 1_000;

/** The running VMs: one qemu process each, which dies with this process. */
export class Machines {
  readonly #pool: Pool;
  readonly #machines = new Map<string, Machine>();
  #isStopping = false;

  constructor(pool: Pool) {
    this.#pool = pool;
    mkdirSync(this.#folder('consoles'), { recursive: true });
    mkdirSync(this.#folder('machines'), { recursive: true });
  }

  /** Where everything the guest ever wrote on its serial console is kept. */
  consolePath(vmUuid: string): string {
    return join(this.#folder('consoles'), `${vmUuid}.log`);
  }

  pidOf(vmRef: string): number | undefined {
    return this.#machines.get(vmRef)?.child.pid;
  }

  /** Starts the process; returns once its monitor answers. */
  async start(vmRef: string, paused: boolean): Promise<void> {
    const uuid = uuidOf(this.#pool.db.get('VM', vmRef));
    const args = ['--pdeathsig', 'KILL', '--', 'qemu-system-x86_64', ...qemuArguments(this.#pool, vmRef, paused)];
    // setpriv has the kernel kill qemu when this process goes, however it goes.
    const child = spawn('setpriv', args, { stdio: ['pipe', 'pipe', 'pipe', 'pipe'] });
    const complaints: string[] = [];
    child.on('error', (error) => complaints.push(error.message));
    if (child.pid !== undefined) this.#remember(uuid, child.pid);
    this.#keepConsole(vmRef, uuid, child);
    const ended = new Promise<void>((resolve) => {
      child.on('close', () => {
        clearInterval(asking);
        this.#afterEnd(vmRef, uuid, machine);
        resolve();
      });
    });
    const monitor = new Monitor(child.stdio[3] as Duplex, (name, data) => this.#onEvent(vmRef, machine, name, data));
    const asking = setInterval(() => void monitor.execute('query-status').catch(() => undefined), ASK_MS);
    const startedAt = Date.now();
    const machine: Machine = { child, monitor, ended, startedAt, isEnding: false, hasShutDown: false, complaints };
    if (child.stderr !== null) {
      createInterface({ input: child.stderr }).on('line', (line) => {
        complaints.push(line);
        complaints.splice(0, complaints.length - LAST_WORDS);
      });
    }
    this.#machines.set(vmRef, machine);
    try {
      await monitor.execute('qmp_capabilities');
    } catch {
      machine.isEnding = true;
      child.kill('SIGKILL');
      await ended;
      throw new XapiError('INTERNAL_ERROR', [`The machine did not start: ${complaints.join('; ')}`]);
    }
  }

  /** A monitor command without an answer worth keeping. */
  async command(vmRef: string, command: string): Promise<void> {
    await this.#machines.get(vmRef)?.monitor.execute(command);
  }

  /**
   * Presses the power button, again and again: a guest whose ACPI daemon is not up yet misses it.
   * False when the guest has not ended within the time.
   */
  async shutDown(vmRef: string, timeoutMs: number): Promise<boolean> {
    const machine = this.#machines.get(vmRef);
    if (machine === undefined) return true;
    machine.isEnding = true;
    const press = () => void machine.monitor.execute('system_powerdown').catch(() => undefined);
    press();
    const presses = setInterval(press, PRESS_AGAIN_MS);
    let timer: NodeJS.Timeout | undefined;
    const timeout = new Promise<'late'>((resolve) => (timer = setTimeout(() => resolve('late'), timeoutMs)));
    const outcome = await Promise.race([machine.ended, timeout]);
    clearInterval(presses);
    clearTimeout(timer);
    if (outcome === 'late') machine.isEnding = false;
    return outcome !== 'late';
  }

  async kill(vmRef: string): Promise<void> {
    const machine = this.#machines.get(vmRef);
    if (machine === undefined) return haltVm(this.#pool, vmRef);
    machine.isEnding = true;
    machine.child.kill('SIGKILL');
    await machine.ended;
  }

  /** Runs `work` while the guest, if there is one, stands still. */
  async whilePaused<T>(vmRef: string, work: () => Promise<T>): Promise<T> {
    const running = this.#pool.db.get('VM', vmRef)['power_state'] === 'Running' ? this.#machines.get(vmRef) : undefined;
    await running?.monitor.execute('stop');
    try {
      return await work();
    } finally {
      await running?.monitor.execute('cont').catch(() => undefined);
    }
  }

  /** The guest's screen as PNG; undefined where it does not run. */
  async screen(vmRef: string): Promise<Buffer | undefined> {
    const machine = this.#machines.get(vmRef);
    if (machine === undefined) return undefined;
    const file = join(this.#folder('machines'), `${uuidOf(this.#pool.db.get('VM', vmRef))}.png`);
    await machine.monitor.execute('screendump', { filename: file, format: 'png' });
    const picture = await readFile(file);
    rmSync(file, { force: true });
    return picture;
  }

  /** Types a text into the guest's serial console. */
  type(vmRef: string, text: string): boolean {
    return this.#machines.get(vmRef)?.child.stdin?.write(text) !== undefined;
  }

  async stopAll(): Promise<void> {
    this.#isStopping = true;
    await Promise.all([...this.#machines.keys()].map((vmRef) => this.kill(vmRef)));
  }

  /** Ends what an earlier process left behind, told by pid and start time, and says Halted of every VM. */
  recover(): void {
    const folder = this.#folder('machines');
    for (const name of readdirSync(folder)) {
      if (name.endsWith('.json')) {
        const { pid, startTicks } = JSON.parse(readFileSync(join(folder, name), 'utf8')) as Traces;
        if (startTicks !== undefined && startTicksOf(pid) === startTicks) process.kill(pid, 'SIGKILL');
      }
      rmSync(join(folder, name), { force: true });
    }
    for (const [ref, vm] of this.#pool.db.entries('VM')) {
      const ran = ['Running', 'Paused'].includes(textOf(vm, 'power_state'));
      if (ran && vm['is_control_domain'] !== true) haltVm(this.#pool, ref);
    }
  }

  #folder(name: string): string {
    return join(this.#pool.stateDir, name);
  }

  #remember(uuid: string, pid: number): void {
    const traces: Traces = { pid, startTicks: startTicksOf(pid) };
    writeFileSync(join(this.#folder('machines'), `${uuid}.json`), JSON.stringify(traces));
  }

  #keepConsole(vmRef: string, uuid: string, child: ChildProcess): void {
    const log = createWriteStream(this.consolePath(uuid), { flags: 'a' });
    log.write(`\n=== start ${formatDate()} ===\n`);
    if (child.stdout === null) return;
    child.stdout.pipe(log);
    createInterface({ input: child.stdout }).on('line', (line) => hearGuest(this.#pool, vmRef, line));
  }

  #onEvent(vmRef: string, machine: Machine, name: string, data: Record<string, unknown>): void {
    if (name === 'SHUTDOWN') machine.hasShutDown = data['guest'] === true || data['reason'] === 'guest-reset';
    if (name === 'RESET' && data['guest'] === true && this.#pool.db.find('VM', vmRef) !== undefined) {
      noteStart(this.#pool, vmRef);
      this.#pool.db.flush();
    }
  }

  #afterEnd(vmRef: string, uuid: string, machine: Machine): void {
    this.#machines.delete(vmRef);
    rmSync(join(this.#folder('machines'), `${uuid}.json`), { force: true });
    const vm = this.#pool.db.find('VM', vmRef);
    if (vm === undefined) return;
    const host = textOf(vm, 'resident_on');
    const action = textOf(vm, machine.hasShutDown ? 'actions_after_shutdown' : 'actions_after_crash');
    haltVm(this.#pool, vmRef);
    const again = action.endsWith('restart') && Date.now() - machine.startedAt > BOUNCE_MS;
    if (again && !machine.isEnding && !this.#isStopping) this.onRestart(vmRef, host);
    this.#pool.db.flush();
  }

  /** What `actions_after_...` restart does; set by the server, which knows how to boot. */
  onRestart: (vmRef: string, hostRef: string) => void = () => undefined;
}

interface Traces {
  pid: number;
  startTicks: string | undefined;
}

/** Field 22 of /proc/PID/stat: with the pid it names one process for ever. */
function startTicksOf(pid: number): string | undefined {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
    return stat.slice(stat.lastIndexOf(')') + 2).split(' ')[19];
  } catch {
    return undefined;
  }
}
