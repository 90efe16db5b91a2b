// Tensors without elements, bytes and bools on the processor.
import { createOnnxBackend } from '../src/index.js';
import { describeUnusualInputs } from './unusual-inputs.js';

describeUnusualInputs('onnxruntime:cpu', () => createOnnxBackend({ threads: 1 }));
