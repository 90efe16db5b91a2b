import { defineConfig } from 'vitest/config';

export default defineConfig({
  test: {
    include: ['{packages,plugins,examples}/*/test/**/*.test.ts', 'test/**/*.test.ts'],
    setupFiles: ['test/no-console.ts', 'test/fixed-draws.ts'],
    testTimeout: 300_000,
    hookTimeout: 300_000,
    maxWorkers: 2,
  },
});
