import { execa } from 'execa';

/** The oldest versions that were proved to work (R32): they are run against every transport and fault of this project. */
export const FLOORS = { nbdkit: '1.32.5', 'vddk plugin': '1.42.3', nbdinfo: '1.14.2' } as const;

/** One program or plugin, as it answered for itself. */
export interface ProbedTool {
  usable: boolean;
  version?: string;
  /** Why it is not usable; a sentence's end, such as `nbdkit is not installed`. */
  why?: string;
}

/** What a transfer host can read with, and why not. */
export interface TransportProbe {
  nbdkit: ProbedTool;
  /** Never needed; people look at exports with it. */
  nbdinfo: ProbedTool;
  https: ProbedTool;
  /** `version` is the VDDK library's. */
  vddk: ProbedTool & {
    /** `transfer.vddkTransports` there. */
    ways?: readonly string[];
  };
}

export interface ProbeOptions {
  nbdkit: string;
  nbdinfo?: string;
  vddkLibdir?: string | undefined;
  vddkTransports?: readonly string[];
}

/**
 * What this host can read with. Plugins are asked, not looked for: a plugin that nbdkit cannot load says so, and that of
 * vddk ends well even when no library loads, so the line that names the library's version is what counts (nbdkit 1.42).
 */
export async function probeTools(options: ProbeOptions): Promise<TransportProbe> {
  const { nbdkit, nbdinfo = 'nbdinfo', vddkLibdir, vddkTransports: ways } = options;
  const [server, curl, vddk, info] = await Promise.all([
    ask(nbdkit, '--version'),
    ask(nbdkit, 'curl', '--dump-plugin'),
    vddkLibdir === undefined ? undefined : ask(nbdkit, 'vddk', `libdir=${vddkLibdir}`, '--dump-plugin'),
    ask(nbdinfo, '--version'),
  ]);
  return {
    nbdkit: atLeast('nbdkit', firstVersion(server)),
    nbdinfo: atLeast('nbdinfo', firstVersion(info)),
    https:
      curl.why === undefined ? { usable: true, version: field(curl, 'version') } : { usable: false, why: curl.why },
    vddk:
      vddk === undefined
        ? { usable: false, why: 'no `transfer.vddkLibdir` is configured' }
        : { ...vddkOf(vddk, vddkLibdir ?? ''), ...(ways && { ways }) },
  };
}

function vddkOf(dump: Answer, libdir: string): ProbedTool {
  const plugin = atLeast('vddk plugin', { ...dump, version: field(dump, 'version') });
  if (!plugin.usable) return plugin;
  const version = field(dump, 'vddk_library_version');
  return version === undefined
    ? { usable: false, why: `no VDDK library loads from ${libdir}` }
    : { usable: true, version };
}

interface Answer {
  text: string;
  why?: string;
}

async function ask(program: string, ...args: string[]): Promise<Answer> {
  const result = await execa(program, args, { reject: false, cleanup: false, timeout: 30_000, stdin: 'ignore' });
  const text = String(result.stdout);
  if (!result.failed) return { text };
  if (result.code === 'ENOENT') return { text, why: `${program} is not installed` };
  const [said = ''] = String(result.stderr).trim().split('\n');
  return { text, why: said || result.shortMessage };
}

const firstVersion = (answer: Answer) => ({ ...answer, version: /\d+(\.\d+)+/.exec(answer.text)?.[0] });
const field = ({ text }: Answer, name: string) => new RegExp(`^${name}=(.*)$`, 'm').exec(text)?.[1];

function atLeast(tool: keyof typeof FLOORS, { why, version }: Answer & { version?: string | undefined }): ProbedTool {
  if (why !== undefined) return { usable: false, why };
  if (version === undefined) return { usable: false, why: `${tool} does not tell its version` };
  const floor = FLOORS[tool];
  if (isOlder(version, floor)) return { usable: false, version, why: `${tool} ${version} is older than ${floor}` };
  return { usable: true, version };
}

/** Compares dotted numbers, each as a number: 1.9 is older than 1.10. */
export function isOlder(version: string, floor: string): boolean {
  const have = version.split('.').map(Number);
  const wanted = floor.split('.').map(Number);
  const first = wanted.findIndex((number, index) => (have[index] ?? 0) !== number);
  return first >= 0 && (have[first] ?? 0) < (wanted[first] ?? 0);
}
