import { defineConfig } from 'vitest/config';

/** Records the histories that the replay test replays: `scripts/record-histories.sh`. */
export default defineConfig({
  test: { include: ['test/workflows/record-histories.ts'], testTimeout: 600_000, hookTimeout: 180_000 },
});
