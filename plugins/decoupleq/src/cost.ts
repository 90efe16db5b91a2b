// What decoupleQ takes, from shapes.
import type { Cost, Workload } from '@lowbit/core';
import { trainingCost } from '@lowbit/train';
import type { DecoupleqOptions } from './options.js';

/** Errors of candidate ranges: each is a product with the Hessian. */
const CANDIDATES = { full: 160, 'coarse-to-fine': 14, none: 0 } as const;

/** Share of the rows that half-steps after the first still work on. */
const OPEN_ROWS = 0.5;

/** Values for each weight of an Adam step on the relaxed weight, of a tried range, and of everything else. */
const RELAXATION_VALUES = 10;
const CANDIDATE_VALUES = 8;
const SWEEP_VALUES = 150;

/** Each Adam step is an evaluation of its own, which takes as long as this many values whatever its size. */
const STEP_VALUES = 3e6;

/** Of each Linear [o, n] the half-steps, then training the scales of its block. */
export function decoupleqCost(work: Workload<DecoupleqOptions>): Cost {
  let flops = 0;
  let elements = 0;
  let bytes = 0;
  let scales = 0;
  for (const { inFeatures: n, outFeatures: o, options } of work.linears) {
    const codeSteps = 1 + OPEN_ROWS * Math.max(0, options.iterations - 2);
    const relaxations = options.codeStep === 'gptq' ? 0 : options.relaxationSteps;
    const candidates = CANDIDATES[options.search];
    flops += n ** 3 + o * n ** 2 * (20 + 2 * candidates + codeSteps * (2 * relaxations + 8));
    elements += o * n * (SWEEP_VALUES + CANDIDATE_VALUES * candidates + codeSteps * (RELAXATION_VALUES * relaxations + SWEEP_VALUES));
    elements += codeSteps * relaxations * STEP_VALUES;
    bytes = Math.max(bytes, 4 * (5 * n ** 2 + 8 * o * n));
    scales += (2 * o * n) / (options.groupSize === -1 ? n : options.groupSize);
  }
  const { blockEpochs: epochs, blockBatch: batchWindows, blockHoldOut: holdOut } = work.options;
  const course = { epochs, batchWindows, holdOut, judgements: holdOut === 0 ? 2 : epochs + 2, hasTeacher: false, oneByOne: true };
  const training = trainingCost(work, { ...course, parameters: scales });
  return { flops: flops + training.flops, elements: elements + training.elements, bytes: Math.max(bytes, training.bytes) };
}
