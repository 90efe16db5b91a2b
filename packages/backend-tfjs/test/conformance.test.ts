// The contract of a backend, on the devices that need no hardware.
import { createReferenceBackend } from '@lowbit/backend-reference';
import { describeBackend } from '@lowbit/testkit';
import { createTfjsBackend } from '../src/index.js';

for (const device of ['cpu', 'wasm'] as const) {
  describeBackend(`tfjs:${device}`, () => createTfjsBackend({ device }), { oracle: createReferenceBackend() });
}
