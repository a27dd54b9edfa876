import { execa } from 'execa';
import { describe, expect, it } from 'vitest';

const PROGRAMS = { bench: 'bench/main.ts', chaos: 'bench/chaos/main.ts', fuzz: 'test/fuzz/main.ts' };

// They are checks: one that was told nonsense and did nothing must not look as if all were well.
describe('the programs of the developers refuse', () => {
  it.each([
    ['bench', ['--runs', 'abc'], "'abc' is invalid. It must be a whole number from 1."],
    ['bench', ['--size', '2'], "'2' is invalid. It must be a number above 0, at most 1."],
    ['chaos', ['--beside', '0'], "'0' is invalid. It must be a whole number from 1."],
    ['fuzz', ['--seconds', 'abc'], "'abc' is invalid. It must be a number from 1."],
    ['fuzz', ['--peer', 'nobody'], "'nobody' is invalid. Allowed choices are"],
  ] as const)(
    '%s %j',
    async (program, args, why) => {
      const { exitCode, stdout, stderr } = await execa('node_modules/.bin/tsx', [PROGRAMS[program], ...args], {
        reject: false,
      });
      expect(stderr).toContain(why);
      expect(stderr).toContain('Next: see with --help what it takes.');
      expect([exitCode, stdout]).toEqual([2, '']);
    },
    60_000,
  );
});
