// A recipe whose second block takes until it is cancelled; that of `deaf.ts` does not even end then.
import { setTimeout } from 'node:timers/promises';
import { defineMethod } from '@lowbit/core';
import { z } from 'zod';

export const waits = defineMethod({
  name: 'test-waits',
  version: 1,
  options: z.strictObject({ isDeaf: z.boolean().default(false) }),
  async quantizeLinear(linear, { path, options, signal, warn }) {
    if (path.includes('layers.0')) return linear;
    warn('WAITING', 'the first block is done');
    while (options.isDeaf || !signal?.aborted) await setTimeout(10);
    signal.throwIfAborted();
    return linear;
  },
});

export default waits();
