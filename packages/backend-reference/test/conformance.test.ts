import { describeBackend } from '@lowbit/testkit';
import { createReferenceBackend } from '../src/index.js';

describeBackend('reference', createReferenceBackend, { oracle: createReferenceBackend() });
