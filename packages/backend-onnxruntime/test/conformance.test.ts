import { createReferenceBackend } from '@lowbit/backend-reference';
import { describeBackend } from '@lowbit/testkit';
import { createOnnxBackend } from '../src/index.js';

describeBackend('onnxruntime:cpu', () => createOnnxBackend({ threads: 2 }), { oracle: createReferenceBackend() });
