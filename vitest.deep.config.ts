import { defineConfig } from 'vitest/config';

/** What takes minutes: whole migrations that are cancelled, rejected, doubted. `npm run test:deep`. */
export default defineConfig({
  test: {
    include: ['test/deep/**/*.test.ts'],
    // As in vitest.config.ts: limits of what never ends.
    testTimeout: 600_000,
    hookTimeout: 600_000,
    expect: { poll: { timeout: 50_000 } },
    maxWorkers: 2,
  },
});
