import { defineConfig } from 'vitest/config';

export default defineConfig({
  test: {
    include: ['test/**/*.test.ts'],
    exclude: ['test/deep/**'],
    testTimeout: 60_000,
    hookTimeout: 120_000,
    // Two cores: real servers, nbdkit and qemu run beside the tests.
    maxWorkers: 2,
  },
});
