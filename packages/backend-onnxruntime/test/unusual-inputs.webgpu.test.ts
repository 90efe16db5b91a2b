// Tensors without elements, bytes and bools on WebGPU.
import { describe } from 'vitest';
import { swiftShaderEnvironment, withoutSwiftShader } from '../../../test/swiftshader.js';
import { createOnnxBackend } from '../src/index.js';
import { describeUnusualInputs } from './unusual-inputs.js';

describe.skipIf(!swiftShaderEnvironment)(`WebGPU on SwiftShader${withoutSwiftShader}`, () => {
  describeUnusualInputs('onnxruntime:webgpu', () => createOnnxBackend({ provider: 'webgpu', threads: 1 }));
});
