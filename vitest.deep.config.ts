import { defineConfig } from 'vitest/config';

/** What takes minutes: whole migrations that are cancelled, rejected, doubted. `npm run test:deep`. */
export default defineConfig({
  test: {
    include: ['test/deep/**/*.test.ts'],
    testTimeout: 300_000,
    hookTimeout: 180_000,
    maxWorkers: 2,
  },
});
