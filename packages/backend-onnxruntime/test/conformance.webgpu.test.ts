// ONNX Runtime's WebGPU provider, on a software GPU.
import { createReferenceBackend } from '@lowbit/backend-reference';
import { describeBackend } from '@lowbit/testkit';
import { describe } from 'vitest';
import { swiftShaderEnvironment, withoutSwiftShader } from '../../../test/swiftshader.js';
import { createOnnxBackend } from '../src/index.js';

describe.skipIf(!swiftShaderEnvironment)(`WebGPU on SwiftShader${withoutSwiftShader}`, () => {
  describeBackend('onnxruntime:webgpu', () => createOnnxBackend({ provider: 'webgpu', threads: 1 }), { oracle: createReferenceBackend() });
});
