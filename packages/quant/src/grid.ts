// Quantization grids on the host: the points of each group of weights, and rounding onto them.
import { formatShape, LowbitError, type Shape } from '@lowbit/core';
import { resolveGroupSize } from './groups.js';
import { coveringGrid, leastErrorGrid, nearestInteger, type RangeOptions, type ScaleDtype } from './range.js';

/**
 * Where a grid's offset comes from: implied by the scale (symmetric), an integer code that stands for 0 (offset = −scale · zeroPoint),
 * or a float of its own (decoupleQ, arXiv 2404.12759).
 */
export type ZeroKind = 'symmetric' | 'integer' | 'free';

/**
 * Points w = scale · code + offset with codes 0 … 2^bits − 1; each `groupSize` consecutive inputs of an output row share a scale and
 * an offset. Arrays are [out, in / groupSize], row-major. Scales are rounded as they will be stored, are never 0 and may be negative.
 */
export interface Grid {
  readonly bits: number;
  readonly groupSize: number;
  readonly outFeatures: number;
  readonly inFeatures: number;
  readonly zeroKind: ZeroKind;
  readonly scaleDtype: ScaleDtype;
  readonly scale: Float32Array;
  readonly offset: Float32Array;
  /** The code that stands for 0, for `zeroKind` 'integer'. */
  readonly zeroPoint: Uint8Array | undefined;
}

export interface GridOptions extends RangeOptions {
  /** Inputs that share a scale; −1: all inputs of an output channel. */
  readonly groupSize: number;
  /** 'minmax' covers every weight of a group; 'mse' shrinks the range where that lowers the rounding error. */
  readonly clip: 'minmax' | 'mse';
  /** Path of the layer, for messages. */
  readonly path?: string | undefined;
}

/** The code nearest to w, ties to even. */
export function nearestCode(w: number, scale: number, offset: number, maxCode: number): number {
  const code = nearestInteger((w - offset) / scale);
  return Math.min(maxCode, Math.max(0, code));
}

/**
 * Fits a grid to every group of a weight [out, in].
 * @param importance weights of the inputs' errors in the 'mse' search, [in]: the diagonal of the layer Hessian, for example.
 * @throws GROUP_SIZE, BITS_RANGE, SHAPE_WEIGHT, SHAPE_IMPORTANCE, WEIGHT_NOT_FINITE, or SCALE_RANGE, naming the path.
 */
export function fitGrid(weight: Float32Array, shape: Shape, options: GridOptions, importance?: Float32Array): Grid {
  const { bits, symmetric, scaleDtype, path = 'weight' } = options;
  const [outFeatures, inFeatures] = checkWeight(weight, shape, bits, path);
  const groupSize = resolveGroupSize({ path, inFeatures }, options.groupSize);
  if (importance && importance.length !== inFeatures) {
    throw new LowbitError('SHAPE_IMPORTANCE', `${path}: ${importance.length} importances do not fit ${inFeatures} inputs`);
  }
  const perRow = inFeatures / groupSize;
  const scale = new Float32Array(outFeatures * perRow);
  const offset = new Float32Array(scale.length);
  const zeroPoint = symmetric ? undefined : new Uint8Array(scale.length);
  for (let g = 0; g < scale.length; g++) {
    const values = weight.subarray(g * groupSize, (g + 1) * groupSize);
    const column = (g % perRow) * groupSize;
    const group =
      options.clip === 'mse'
        ? leastErrorGrid(values, options, importance?.subarray(column, column + groupSize))
        : coveringGrid(values, options);
    if (!Number.isFinite(group.scale)) {
      const advice = scaleDtype === 'float16' ? "; use scaleDtype 'float32'" : '';
      throw new LowbitError(
        'SCALE_RANGE',
        `${path}: weights of output ${Math.floor(g / perRow)} need a scale beyond ${scaleDtype}${advice}`,
      );
    }
    scale[g] = group.scale;
    offset[g] = -group.scale * group.zero;
    if (zeroPoint) zeroPoint[g] = group.zero;
  }
  return { bits, groupSize, outFeatures, inFeatures, zeroKind: symmetric ? 'symmetric' : 'integer', scaleDtype, scale, offset, zeroPoint };
}

function checkWeight(weight: Float32Array, shape: Shape, bits: number, path: string): Shape {
  if (!(Number.isInteger(bits) && bits >= 1 && bits <= 8))
    throw new LowbitError('BITS_RANGE', `${path}: bits must be an integer from 1 to 8, got ${bits}`);
  if (shape.length !== 2 || shape[0] * shape[1] !== weight.length) {
    throw new LowbitError('SHAPE_WEIGHT', `${path}: ${weight.length} weights do not fill a matrix ${formatShape(shape)}`);
  }
  const bad = weight.findIndex((w) => !Number.isFinite(w));
  if (bad >= 0) {
    throw new LowbitError(
      'WEIGHT_NOT_FINITE',
      `${path}: output ${Math.floor(bad / shape[1])}, input ${bad % shape[1]} is ${weight[bad]}; check the checkpoint`,
    );
  }
  return shape;
}

/** The code of each weight, [out, in]: round to nearest. */
export function roundToGrid(weight: Float32Array, grid: Pick<Grid, 'bits' | 'groupSize' | 'scale' | 'offset'>): Uint8Array {
  const codes = new Uint8Array(weight.length);
  const maxCode = 2 ** grid.bits - 1;
  for (let g = 0, i = 0; g < grid.scale.length; g++) {
    const scale = grid.scale[g];
    const offset = grid.offset[g];
    for (const end = i + grid.groupSize; i < end; i++) codes[i] = nearestCode(weight[i], scale, offset, maxCode);
  }
  return codes;
}

/** The weights that codes stand for, [out, in]; in float32, as the `dequantize` operator computes them. */
export function dequantizeCodes(codes: Uint8Array, grid: Grid): Float32Array {
  const weight = new Float32Array(codes.length);
  for (let g = 0, i = 0; g < grid.scale.length; g++) {
    const scale = grid.scale[g];
    const offset = grid.offset[g];
    for (const end = i + grid.groupSize; i < end; i++) weight[i] = Math.fround(scale * codes[i]) + offset;
  }
  return weight;
}
