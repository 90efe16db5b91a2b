// One weight by GPTQ: the grid, the sweep, and whether the sweep was worth it.
import type { Backend, Shape } from '@lowbit/core';
import { AffineWeight, fitGrid, type GptqFactor, type GridOptions, gptqSolve, relativeGramError, roundToGrid } from '@lowbit/quant';

export interface GptqOutcome {
  readonly weight: AffineWeight;
  /** tr((W − Ŵ)H(W − Ŵ)ᵀ) / tr(WHWᵀ) on the calibration rows, with error feedback. */
  readonly loss: number;
  /** The same for rounding to nearest on the same grid. `weight` has those codes when they are no worse: GPTQ is greedy and promises nothing. */
  readonly nearestLoss: number;
}

/**
 * Quantizes a weight [out, in] whose inputs have the Gram matrix behind `factor`. The grid is fitted to the weight as it is given and stays
 * while errors are fed back ("static groups"). A search for its ranges counts errors by what they cost at the output: without
 * that, the few inputs with massive activations lose the weights that matter most.
 * @throws as `fitGrid` and `gptqSolve`.
 */
export async function gptqWeight(
  backend: Backend,
  weight: Float32Array,
  shape: Shape,
  factor: GptqFactor,
  options: GridOptions,
): Promise<GptqOutcome> {
  const grid = fitGrid(weight, shape, options, importanceOf(factor));
  const { codes, relativeError: loss } = await gptqSolve(backend, factor, weight, grid);
  const nearest = roundToGrid(weight, grid);
  const nearestLoss = await relativeGramError(backend, factor, weight, nearest, grid);
  return { weight: AffineWeight.fromGrid(loss < nearestLoss ? codes : nearest, grid), loss, nearestLoss };
}

/** What an error in each input's weights costs when no other makes up for it: the damped diagonal of the Hessian, [in]. */
export function importanceOf({ gram, order, dampening }: GptqFactor): Float32Array {
  const inputs = order.length;
  const diagonal = Float32Array.from({ length: inputs }, (_, i) => gram[i * (inputs + 1)]);
  const floor = (dampening * diagonal.reduce((total, value) => total + value, 0)) / inputs;
  return diagonal.map((value) => value + floor);
}
