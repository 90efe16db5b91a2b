import { defineConfig } from 'vitest/config';
import { swiftShaderEnvironment } from './test/swiftshader.js';

/** Their processes see a software GPU. */
const webgpu = '**/*.webgpu.test.ts';

/** They collect garbage after every operation, which takes longer the more a process holds: each has one of its own. */
const counting = 'plugins/*/test/counted-memory.test.ts';

/** Nothing in them outlives a file but modules, which are loaded once for all. */
const pure = '{plugins/*,packages/{core,data,eval,formats,linalg,models,quant,train}}/test/**/!(counted-memory).test.ts';

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
          include: ['{packages,examples}/*/test/**/*.test.ts', 'test/**/*.test.ts', counting],
          exclude: [pure, webgpu, '**/node_modules/**'],
        },
      },
      {
        extends: true,
        test: { name: 'pure', include: [pure], isolate: false },
      },
      {
        extends: true,
        test: { name: 'webgpu', include: [`packages/*/test/${webgpu}`], env: { ...swiftShaderEnvironment } },
      },
    ],
  },
});
