import { readFile } from 'node:fs/promises';
import { setTimeout as delay } from 'node:timers/promises';
import type { Finding } from '../../src/shared/index.js';
import { actInGuest } from '../guest.js';
import type { Lab } from '../lab.js';
import { XcpngAdmin } from '../xcpng/admin.js';
import { checkBaseUntouched } from './checks.js';
import { WHY } from './story.js';
import type { Surefire, WatchLine } from './surefire.js';
import type { Teller } from './tell.js';

const BOOT_MS = 300_000;
const READ_BACK_MS = 300_000;

/** What one VM's migration showed on its way; asserted at the end. */
export interface Played {
  vm: string;
  outcome: string;
  report: Record<string, unknown>;
  failure?: string | undefined;
  testCopyBooted: boolean;
  targetBooted: boolean;
}

export interface Stage {
  lab: Lab;
  surefire: Surefire;
  tell: Teller;
  /** Whether the demo answers the gates and plays the guest's administrator. */
  yes: boolean;
  /** Address of a migration in the Web UI. */
  webUrl(vm: string): string;
  /** How a person runs the program from another terminal. */
  command(text: string): string;
}

/** Follows one VM from its first stage to its end, and plays the people where asked to. */
export async function play(stage: Stage, vm: string): Promise<Played> {
  const { surefire, tell } = stage;
  const seen = new Set<string>();
  const played = { vm, outcome: 'unknown', report: {}, testCopyBooted: false, targetBooted: false } as Played;
  // The people act beside the watching: what they wait for is what the watching sees.
  const acts: Promise<void>[] = [];
  const trouble = new AbortController();
  for await (const line of surefire.watch(vm, trouble.signal)) {
    show(stage, vm, line);
    tell.event({ vm, ...line });
    if (line.event === 'record' && line.text) seen.add(line.text);
    if (line.event === 'waiting') {
      acts.push(atGate(stage, vm, line, seen, played).catch((error: unknown) => trouble.abort(error)));
    }
    if (line.event === 'end') {
      played.outcome = line.outcome ?? 'unknown';
      played.report = line.report ?? {};
      played.failure = line.failure?.message;
    }
  }
  await Promise.all(acts);
  trouble.signal.throwIfAborted();
  return played;
}

function show({ tell }: Stage, vm: string, line: WatchLine): void {
  if (line.event === 'stage') tell.line(`── ${line.stage}: ${WHY[line.stage ?? ''] ?? ''}`, vm);
  if (line.event === 'record') tell.line(`   ${line.text}`, vm);
  if (line.event === 'progress' && line.progress) {
    tell.line(`   ${line.progress.disk}, ${line.progress.phase}: ${line.progress.text}`, vm);
  }
  if (line.event === 'retry') tell.line(`   tries again after: ${line.why}`, vm);
}

async function atGate(stage: Stage, vm: string, line: WatchLine, seen: Set<string>, played: Played): Promise<void> {
  const { waitingFor = '' } = line;
  await meanwhile(stage, vm, waitingFor);
  if (stage.yes) return answer(stage, vm, waitingFor, seen, played);
  await ask(stage, vm, line);
  // Who only watches wants to know as well what the guest says on its console.
  if (waitingFor === 'verification') played.testCopyBooted = await sawBoot(stage, vm, await testVmOf(stage, vm));
  if (waitingFor === 'acceptance') played.targetBooted = await sawBoot(stage, vm, await targetVmOf(stage, vm));
}

/** Production goes on: between the snapshots and after the copy the guest writes, whoever answers the gates. */
async function meanwhile({ lab, tell }: Stage, vm: string, waitingFor: string): Promise<void> {
  if (waitingFor !== 'tools-removal' && waitingFor !== 'verification') return;
  for (const said of await actInGuest(lab.description, vm, 'write')) tell.line(`   meanwhile ${said}`, vm);
}

/** Without `--yes`: what answers this gate, word for word. */
async function ask(stage: Stage, vm: string, line: WatchLine): Promise<void> {
  const { tell, webUrl, command, surefire } = stage;
  const inGuest = (action: string) => `npm run lab -- guest ${vm} ${action}`;
  const first: Record<string, string[]> = {
    'tools-removal': [inGuest('remove-tools'), inGuest('reboot')],
    'power-off': [inGuest('shutdown')],
  };
  const answers = (line.command ?? '').replace(/^surefire /, '');
  tell.line(`>> Waiting for you: ${line.instruction}`, vm);
  if (line.waitingFor === 'warnings') {
    const { status } = (await surefire.must('status', vm)) as { status?: { findings?: Finding[] } };
    for (const { code, observed, remedy } of status?.findings ?? [])
      tell.line(`   ${code}: ${observed}; ${remedy}`, vm);
  }
  tell.line('   in another terminal:', vm);
  for (const text of first[line.waitingFor ?? ''] ?? []) tell.line(`     ${text}`, vm);
  if (answers) tell.line(`     ${command(answers)}`, vm);
  tell.line(`   or in the Web UI: ${webUrl(vm)}`, vm);
}

/** With `--yes`: the guest's administrator acts, then the operator answers. */
async function answer(stage: Stage, vm: string, waitingFor: string, seen: Set<string>, played: Played): Promise<void> {
  const { lab, surefire, tell } = stage;
  const guest = async (action: 'remove-tools' | 'reboot') => {
    for (const said of await actInGuest(lab.description, vm, action))
      tell.line(`   the guest's administrator: ${said}`, vm);
  };
  const approve = async (...more: string[]) => {
    await surefire.must('approve', vm, '--as', 'demo', ...more);
  };
  switch (waitingFor) {
    case 'warnings':
      return approve('--reason', 'read in the demo');
    case 'tools-removal': {
      // A word without evidence: the gate must not believe it.
      const early = await surefire.run('approve', vm, '--as', 'demo');
      if (early.exitCode !== 13) throw new Error(`the tools gate of ${vm} opened although Tools are installed`);
      tell.line('   the operator confirmed too early and was refused: Tools are still there', vm);
      await guest('remove-tools');
      await until(
        () => [...seen].some((text) => text.startsWith('VMware Tools are gone')),
        180_000,
        `Tools of ${vm} to be seen gone`,
      );
      await guest('reboot');
      return approve();
    }
    case 'verification': {
      played.testCopyBooted = await sawBoot(stage, vm, await testVmOf(stage, vm));
      await checkBaseUntouched(stage, vm);
      tell.line('   the base copy is byte for byte what it was before the test copy booted; the clone is not', vm);
      return approve('--reason', 'it booted');
    }
    case 'cutover-approval':
      return approve('--reason', 'the maintenance window has begun');
    case 'acceptance':
      played.targetBooted = await sawBoot(stage, vm, await targetVmOf(stage, vm));
      await until(
        () => [...seen].some((text) => text.includes('was read back in full')),
        READ_BACK_MS,
        `the read-back of ${vm}`,
      );
      return approve('--reason', 'it serves');
    default:
      throw new Error(`${vm} waits for ${waitingFor}, which this demo does not expect`);
  }
}

async function artifactsOf({ surefire }: Stage, vm: string): Promise<{ testVmUuid?: string; targetVmUuid?: string }> {
  const { status } = (await surefire.must('status', vm)) as { status?: { artifacts?: Record<string, string> } };
  return status?.artifacts ?? {};
}
const testVmOf = async (stage: Stage, vm: string) => (await artifactsOf(stage, vm)).testVmUuid ?? '';
const targetVmOf = async (stage: Stage, vm: string) => (await artifactsOf(stage, vm)).targetVmUuid ?? '';

/** Waits for the proof that the guest prints on its serial console: the nonce of its disk, and that its files are whole. */
async function sawBoot({ lab, tell }: Stage, vm: string, vmUuid: string): Promise<boolean> {
  const made = lab.description.vms.find(({ name }) => name === vm);
  const place = (await new XcpngAdmin(lab.pool.adminUrl).vms())[vmUuid];
  if (!made || !place) throw new Error(`the pool has no VM ${vmUuid} of ${vm}`);
  const proof = new RegExp(`^BOOTPROOF nonce=${made.nonce} firmware=${made.firmware} .*payload=ok.*$`, 'm');
  let found: string | undefined;
  await until(
    async () => (found = proof.exec(await readFile(place.consolePath, 'utf8').catch(() => ''))?.[0]) !== undefined,
    BOOT_MS,
    `${place.name} to boot`,
  );
  tell.line(`   ${place.name} says on its console: ${found}`, vm);
  return true;
}

async function until(isTrue: () => boolean | Promise<boolean>, timeoutMs: number, what: string): Promise<void> {
  for (const deadline = Date.now() + timeoutMs; !(await isTrue()); await delay(250)) {
    if (Date.now() > deadline) throw new Error(`Waited ${timeoutMs / 1000} s in vain for ${what}.`);
  }
}
