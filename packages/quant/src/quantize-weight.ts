// Round to nearest: the weight quantizer every other one is measured against.
import type { Shape } from '@lowbit/core';
import { AffineWeight } from './affine-weight.js';
import { fitGrid, type GridOptions, roundToGrid } from './grid.js';

/**
 * Fits a grid to a weight [out, in] and takes each weight to its nearest point. `importance` and errors as in `fitGrid`.
 */
export function quantizeWeight(weight: Float32Array, shape: Shape, options: GridOptions, importance?: Float32Array): AffineWeight {
  const grid = fitGrid(weight, shape, options, importance);
  return AffineWeight.fromGrid(roundToGrid(weight, grid), grid);
}
