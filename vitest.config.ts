import { defineConfig } from 'vitest/config';

export default defineConfig({
  test: {
    include: ['test/**/*.test.ts'],
    exclude: ['test/deep/**'],
    // Limits of what never ends, not of what is slow: a busy machine takes ten times as long.
    testTimeout: 300_000,
    hookTimeout: 600_000,
    expect: { poll: { timeout: 50_000 } },
    // Two cores: real servers, nbdkit and qemu run beside the tests.
    maxWorkers: 2,
  },
});
