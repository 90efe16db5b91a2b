// What GPTQ takes, from shapes.
import type { Cost, Workload } from '@lowbit/core';

/** Values for each weight, loops on the host counted as what kernels do meanwhile: the sweep within blocks, and the search that tries some 26 ranges. */
const SWEEP_VALUES = 100;
const SEARCH_VALUES = 500;

/**
 * Of each Linear [o, n]: the factor n³; feedback of errors o·n²; the errors of its codes and of rounding to nearest 8·o·n². Linears of a group share
 * a factor, which is counted as if they did not. In memory four matrices [n, n] and float32 copies of the weight.
 */
export function gptqCost({ linears }: Workload<{ readonly clip: 'minmax' | 'mse' }>): Cost {
  let flops = 0;
  let elements = 0;
  let bytes = 0;
  for (const { inFeatures: n, outFeatures: o, options } of linears) {
    flops += n ** 3 + 9 * o * n ** 2;
    elements += o * n * (SWEEP_VALUES + (options.clip === 'mse' ? SEARCH_VALUES : 0));
    bytes = Math.max(bytes, 4 * (4 * n ** 2 + 4 * o * n));
  }
  return { flops, elements, bytes };
}
