// Rounding a dense weight in the representation of a quantized one.
import { type Backend, read, readFloats, roundToFloat16 } from '@lowbit/core';
import { AffineWeight, dequantizeCodes, fitGrid, type Grid, roundToGrid } from '@lowbit/quant';

export interface Rounded {
  readonly quantized: AffineWeight;
  /** What it stands for, [out, in]. */
  readonly weight: Float32Array;
}

/**
 * Rounds to nearest with the bits, groups, kind of zero and scale type of `like`. Each group takes its points from `like` or from a
 * range fitted to the group anew, whichever leaves the smaller squared error: a weight that `like` stands for comes back as it is, and
 * none comes out further from its target than the codes of `like` are.
 * @throws as `fitGrid`.
 */
export async function roundLike(backend: Backend, weight: Float32Array, like: AffineWeight, path: string): Promise<Rounded> {
  const candidates = [await gridOf(backend, like), fittedGrid(weight, like, path)].map((grid) => {
    const codes = roundToGrid(weight, grid);
    const values = dequantizeCodes(codes, grid);
    return { grid, codes, values, errors: groupErrors(weight, values, grid.groupSize) };
  });
  const [own, fitted] = candidates;
  const { groupSize } = own.grid;
  for (const [g, error] of own.errors.entries()) {
    if (!(fitted.errors[g] < error)) continue;
    own.grid.scale[g] = fitted.grid.scale[g];
    own.grid.offset[g] = fitted.grid.offset[g];
    if (own.grid.zeroPoint && fitted.grid.zeroPoint) own.grid.zeroPoint[g] = fitted.grid.zeroPoint[g];
    const [start, end] = [g * groupSize, (g + 1) * groupSize];
    own.codes.set(fitted.codes.subarray(start, end), start);
    own.values.set(fitted.values.subarray(start, end), start);
  }
  return { quantized: AffineWeight.fromGrid(own.codes, own.grid), weight: own.values };
}

/** The points of a quantized weight, in arrays of their own. */
async function gridOf(backend: Backend, like: AffineWeight): Promise<Grid> {
  const { bits, groupSize, outFeatures, inFeatures, zeroKind, scaleDtype, zeroPoint } = like;
  const [offset] = await backend.evaluate([like.effectiveOffset]);
  return {
    ...{ bits, groupSize, outFeatures, inFeatures, zeroKind, scaleDtype },
    scale: (await readFloats(like.scale)).slice(),
    offset: (await readFloats(offset)).slice(),
    zeroPoint: zeroPoint && Uint8Array.from(await read(zeroPoint)),
  };
}

/** Points for the weight's own ranges. */
function fittedGrid(weight: Float32Array, like: AffineWeight, path: string): Grid {
  const { bits, groupSize, zeroKind, scaleDtype } = like;
  const symmetric = zeroKind === 'symmetric';
  const grid = fitGrid(weight, like.codes.shape, { bits, groupSize, symmetric, scaleDtype, clip: 'mse', path });
  if (zeroKind !== 'free') return grid;
  // A free offset is stored as the scale is, not as a multiple of it.
  const offset = scaleDtype === 'float16' ? grid.offset.map(roundToFloat16) : grid.offset;
  return { ...grid, zeroKind, zeroPoint: undefined, offset };
}

/** Squared error of each group; NaN where a point is not finite. */
function groupErrors(weight: Float32Array, values: Float32Array, groupSize: number): Float64Array {
  const errors = new Float64Array(weight.length / groupSize);
  for (let i = 0; i < weight.length; i++) errors[Math.floor(i / groupSize)] += (values[i] - weight[i]) ** 2;
  return errors;
}
