import { defineConfig } from 'vitest/config';
import { swiftShaderEnvironment } from './test/swiftshader.js';

/** Their processes see a software GPU. */
const webgpu = '**/*.webgpu.test.ts';

export default defineConfig({
  test: {
    setupFiles: ['test/no-console.ts', 'test/fixed-draws.ts'],
    testTimeout: 300_000,
    hookTimeout: 300_000,
    maxWorkers: 2,
    projects: [
      {
        extends: true,
        test: {
          name: 'cpu',
          include: ['{packages,plugins,examples}/*/test/**/*.test.ts', 'test/**/*.test.ts'],
          exclude: [webgpu, '**/node_modules/**'],
        },
      },
      {
        extends: true,
        test: { name: 'webgpu', include: [`packages/*/test/${webgpu}`], env: { ...swiftShaderEnvironment } },
      },
    ],
  },
});
