// What zeroth-order fine-tuning takes, from shapes: forward passes, and directions drawn and applied.
import type { Cost, Workload } from '@lowbit/core';
import { isReplayed, type QuzoOptions } from './options.js';

/** Values for each trained element and query: drawn, rounded, added for either sign, taken back in the update. */
const DIRECTION_VALUES = 12;

/** Logits that exist at one time, and values of their size then. */
const LOGITS_AT_ONCE = 2 ** 23;
const LOGIT_VALUES = 6;

/** Forward passes of a query: one for each sign. */
const SIGNS = 2;

export function quzoCost(work: Workload<QuzoOptions>): Cost {
  const { options, linears, windows, tokens, width, vocabularySize, forward, weights } = work;
  const { steps, queries, batchWindows, judgeEvery, holdOut, parameters, rank } = options;
  if (windows === 0) return { flops: 0, elements: 0, bytes: 0 };
  const trained = linears.reduce((total, { inFeatures, outFeatures }) => {
    if (parameters === 'scales') return total + (inFeatures * outFeatures) / 32;
    return total + (parameters === 'adapters' ? rank * (inFeatures + outFeatures) : inFeatures * outFeatures);
  }, 0);
  const judged = Math.max(1, Math.round(windows * holdOut)) * (1 + Math.ceil(steps / judgeEvery));
  const passes = steps * queries * SIGNS * Math.min(batchWindows, windows) + judged;
  const logits = tokens * vocabularySize;
  const replayed = isReplayed(options) ? options.carryWindow : 1;
  return {
    flops: passes * (forward.flops + 2 * logits * width),
    elements: passes * (forward.elements + 4 * logits) + steps * queries * (DIRECTION_VALUES * replayed * trained + 2 * SIGNS * weights),
    bytes:
      8 * trained +
      4 * LOGIT_VALUES * Math.min(LOGITS_AT_ONCE, batchWindows * logits) +
      Math.min(batchWindows, windows) * (forward.bytes + 2 * 4 * tokens * width),
  };
}
