// The contract of a backend on TensorFlow's own library, which `pnpm oracle:tfjs-node` builds and links for the time of this test.
import { createRequire } from 'node:module';
import { createReferenceBackend } from '@lowbit/backend-reference';
import { describeBackend } from '@lowbit/testkit';
import { describe } from 'vitest';
import { createTfjsBackend } from '../src/index.js';

function isInstalled(): boolean {
  try {
    createRequire(import.meta.url).resolve('@tensorflow/tfjs-node');
    return true;
  } catch {
    return false;
  }
}

describe.skipIf(!isInstalled())(
  'TensorFlow for Node (skipped where @tensorflow/tfjs-node is not installed: its install needs a download)',
  () => {
    describeBackend('tfjs:node', () => createTfjsBackend({ device: 'node' }), { oracle: createReferenceBackend() });
  },
);
