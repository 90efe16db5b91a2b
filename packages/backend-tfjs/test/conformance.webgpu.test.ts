// The contract of a backend on WebGPU, on a software GPU.
import { createReferenceBackend } from '@lowbit/backend-reference';
import { describeBackend } from '@lowbit/testkit';
import { describe } from 'vitest';
import { swiftShaderEnvironment, withoutSwiftShader } from '../../../test/swiftshader.js';
import { createTfjsBackend } from '../src/index.js';

describe.skipIf(!swiftShaderEnvironment)(`WebGPU on SwiftShader${withoutSwiftShader}`, () => {
  describeBackend('tfjs:webgpu', () => createTfjsBackend({ device: 'webgpu' }), { oracle: createReferenceBackend() });
});
