import { chmod, mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { cachePath } from '../../lab/cache.js';
import { FLOORS, probeTools, toolFindings, type TransportProbe } from '../../src/nbd/index.js';
import { tempDir } from './nbdkit.js';

const NBDKIT = cachePath('nbdkit-vddk', 'bin', 'nbdkit');
const LIBRARY = cachePath('vddk');

/** A program that answers for itself what a test wants to hear. */
async function program(text: string): Promise<string> {
  const file = join(await tempDir(), 'tool');
  await writeFile(file, `#!/bin/sh\n${text}\n`);
  await chmod(file, 0o755);
  return file;
}

/** nbdkit as it answers in those versions. */
const nbdkitOf = ({ server = FLOORS.nbdkit as string, plugin = FLOORS['vddk plugin'] as string, library = '8.0.3' }) =>
  program(`case "$1" in
--version) echo "nbdkit ${server} (nbdkit-${server}-1)" ;;
curl) echo name=curl; echo version=${server} ;;
vddk) echo name=vddk; echo version=${plugin}; ${library === '' ? ':' : `echo vddk_library_version=${library}`} ;;
esac`);
const nbdinfoOf = (version: string) => program(`echo "nbdinfo ${version}"; echo "libnbd ${version}"`);

const found = (probe: TransportProbe, wanted: 'auto' | 'vddk' | 'https') =>
  toolFindings('here', probe, wanted).map(({ code, severity }) => `${code} ${severity}`);

/** The version just below: the last number one less, or the one before it where that is 0. */
function below(version: string): string {
  const numbers = version.split('.').map(Number);
  const last = numbers.findLastIndex((number) => number > 0);
  return numbers.map((number, index) => (index < last ? number : index === last ? number - 1 : 999)).join('.');
}

describe('[S35] what is missing', () => {
  it('says nothing where everything is there', async () => {
    const probe = await probeTools({ nbdkit: NBDKIT, vddkLibdir: LIBRARY });
    expect(probe).toMatchObject({ nbdkit: { usable: true }, https: { usable: true }, nbdinfo: { usable: true } });
    expect(found(probe, 'auto')).toEqual([]);
  });

  it('nbdkit is an error, whatever the transport', async () => {
    const probe = await probeTools({ nbdkit: '/nonexistent/nbdkit', vddkLibdir: LIBRARY });
    expect(found(probe, 'https')).toEqual(['N1 error']);
    expect(toolFindings('here', probe, 'auto')[0]).toMatchObject({
      object: 'here',
      observed: 'nbdkit is not usable: /nonexistent/nbdkit is not installed.',
      expected: 'nbdkit 1.32.5 or newer',
    });
  });

  it('the vddk plugin is an error for vddk alone', async () => {
    const nbdkit = await program(`[ "$1" != vddk ] || { echo "nbdkit: error: cannot open plugin" >&2; exit 1; }
exec nbdkit "$@"`);
    const probe = await probeTools({ nbdkit, vddkLibdir: LIBRARY });
    expect(found(probe, 'vddk')).toEqual(['N2 error']);
    expect(found(probe, 'https')).toEqual(['N2 info']);
    expect(found(probe, 'auto')).toEqual(['N2 info']);
    const without = await probeTools({ nbdkit });
    expect(without.vddk.why).toBe('no `transfer.vddkLibdir` is configured');
  });

  it('both plugins together leave nothing to read with', async () => {
    const nbdkit = await program('[ "$1" = --version ] || exit 1; echo nbdkit 1.42.3');
    expect(found(await probeTools({ nbdkit }), 'auto')).toEqual(['N2 error', 'N2 error']);
  });

  it('encryption of VDDK is a warning that says what travels in the clear, and only where VDDK may be used', async () => {
    const vddkTransports = ['nbdssl', 'nbd'];
    const probe = await probeTools({ nbdkit: NBDKIT, vddkLibdir: LIBRARY, vddkTransports });
    expect(found(probe, 'auto')).toEqual(['N8 warning']);
    expect(found(probe, 'https')).toEqual([]);
    const [finding] = toolFindings('here', probe, 'vddk');
    expect(finding?.observed).toContain('VDDK may read disks by nbd, without encryption: the blocks cross the network');
    expect(finding?.remedy).toContain('set transfer.vddkTransports to [nbdssl] there');
    const of = (...ways: string[]) => found({ ...probe, vddk: { usable: true, ways } }, 'vddk');
    expect([of('nbdssl'), of('hotadd', 'nbdssl')]).toEqual([[], []]);
    expect([of('nbd'), of('san'), of('hotadd')]).toEqual(Array(3).fill(['N8 warning']));
  });

  it('nbdinfo is a warning', async () => {
    const probe = await probeTools({ nbdkit: NBDKIT, nbdinfo: '/nonexistent/nbdinfo', vddkLibdir: LIBRARY });
    expect(found(probe, 'auto')).toEqual(['N5 warning']);
  });
});

describe('[S36] what is too old', () => {
  it.each([
    ['nbdkit', FLOORS.nbdkit, true],
    ['nbdkit', below(FLOORS.nbdkit), false],
    ['vddk plugin', FLOORS['vddk plugin'], true],
    ['vddk plugin', below(FLOORS['vddk plugin']), false],
    ['nbdinfo', FLOORS.nbdinfo, true],
    ['nbdinfo', below(FLOORS.nbdinfo), false],
    // Compared by number, not by letter.
    ['nbdkit', '1.100.0', true],
    ['nbdkit', '1.4.9', false],
    ['vddk plugin', '2.0', true],
  ])('%s %s: %s', async (tool, version, isEnough) => {
    const nbdkit = await nbdkitOf({
      ...(tool === 'nbdkit' && { server: version }),
      ...(tool === 'vddk plugin' && { plugin: version }),
    });
    const nbdinfo = await nbdinfoOf(tool === 'nbdinfo' ? version : FLOORS.nbdinfo);
    const findings = toolFindings('here', await probeTools({ nbdkit, nbdinfo, vddkLibdir: '/vddk' }), 'vddk');
    if (isEnough) return expect(findings).toEqual([]);
    const floor = FLOORS[tool as keyof typeof FLOORS];
    expect(findings).toHaveLength(1);
    expect(findings[0]?.observed).toContain(`${tool} ${version} is older than ${floor}.`);
    expect(findings[0]?.severity).toBe(tool === 'nbdinfo' ? 'warning' : 'error');
  });
});

describe('[S37] what is there and does not work', () => {
  it('a plugin file that is no plugin is found by asking the real nbdkit to load it', async () => {
    const plugin = join(await tempDir(), 'nbdkit-vddk-plugin.so');
    await writeFile(plugin, 'this is no library');
    const nbdkit = await program(`[ "$1" != vddk ] || { shift; exec nbdkit ${plugin} "$@"; }; exec nbdkit "$@"`);
    const { vddk } = await probeTools({ nbdkit, vddkLibdir: LIBRARY });
    expect(vddk.usable).toBe(false);
    expect(vddk.why).toMatch(/cannot open plugin/);
  });

  it('a VDDK library that does not load is found although the dump ends well', async () => {
    const libdir = await tempDir();
    await mkdir(join(libdir, 'lib64'));
    await writeFile(join(libdir, 'lib64/libvixDiskLib.so.8'), 'this is no library');
    const { vddk } = await probeTools({ nbdkit: NBDKIT, vddkLibdir: libdir });
    expect(vddk).toEqual({ usable: false, why: `no VDDK library loads from ${libdir}` });
  });
});
