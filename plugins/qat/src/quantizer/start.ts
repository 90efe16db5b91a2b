// Where the training of a weight begins: grid and codes, and the weight behind them.
import { lazyTensor, read, readFloats, roundHalfEven, roundToFloat16, type Shape, type Tensor, tensor } from '@lowbit/core';
import { AffineWeight, fitGrid, type Grid, nearestCode, roundToGrid, type ScaleDtype, symmetricZero, type ZeroKind } from '@lowbit/quant';

/** The grid of a weight, as options name it. */
export interface GridFormat {
  readonly bits: number;
  /** Inputs that share a scale; −1: all inputs of an output channel. */
  readonly groupSize: number;
  readonly zero: ZeroKind;
  readonly clip: 'minmax' | 'mse';
  readonly scaleDtype: ScaleDtype;
}

export interface WeightStart {
  /** Grid and codes, in memory. */
  readonly weight: AffineWeight;
  /** The weight behind the codes, float32 [out, in]. */
  readonly latent: Tensor;
}

/**
 * A leaf that is computed whenever it is read: once a training, which holds what it trains and not also what it began with.
 * @throws what `compute` throws: it is called once to see that it does not.
 */
export async function recomputed(shape: Shape, compute: () => Promise<Float32Array>): Promise<Tensor> {
  await compute();
  return lazyTensor(shape, 'float32', compute);
}

/** The grid on which rounding to nearest puts a weight, before and after zero points give way to free offsets where the format has these. */
interface NearestGrid {
  readonly rounding: Grid;
  readonly stored: Grid;
}

/**
 * The grid on which rounding to nearest puts a weight [out, in]. A free offset is that of the nearest zero point, rounded as it is stored.
 * @throws what `fitGrid` throws, naming the path.
 */
export function nearestGrid(values: Float32Array, shape: Shape, { zero, ...rest }: GridFormat, path?: string): NearestGrid {
  const rounding = fitGrid(values, shape, { ...rest, symmetric: zero === 'symmetric', path });
  if (zero !== 'free') return { rounding, stored: rounding };
  const store = (o: number): number => Math.max(-65504, Math.min(65504, roundToFloat16(o)));
  const offset = rest.scaleDtype === 'float16' ? rounding.offset.map(store) : rounding.offset;
  return { rounding, stored: { ...rounding, zeroKind: 'free', zeroPoint: undefined, offset } };
}

/**
 * A dense weight that is given a grid: codes are those of rounding to nearest. Where float32, in which a graph computes codes, has another
 * nearest code than float64, in which the host does, the weight moves towards its code until they agree: a few units of the last place. Codes of a free
 * offset are those of the zero point that it stood for.
 */
export async function denseStart(weight: Float32Array, shape: Shape, format: GridFormat, path: string): Promise<WeightStart> {
  const { rounding, stored } = nearestGrid(weight, shape, format, path);
  const rounded = AffineWeight.fromGrid(roundToGrid(weight, rounding), stored);
  return { weight: rounded, latent: tensor(await aligned(weight, rounded), shape) };
}

/** Weights moved as little as makes the codes of a graph those of the given weight. */
export async function aligned(values: Float32Array, weight: AffineWeight): Promise<Float32Array> {
  const { groupSize, bits } = weight;
  const [codes, scale, offset] = [await read(weight.codes), await readFloats(weight.scale), await hostOffsets(weight)];
  const largest = 2 ** bits - 1;
  const codeOf = (w: number, s: number, o: number): number =>
    Math.max(0, Math.min(largest, roundHalfEven(Math.fround(Math.fround(w - o) / s))));
  const result = values.slice();
  for (let g = 0, i = 0; g < scale.length; g++) {
    for (const end = i + groupSize; i < end; i++) {
      const onGrid = Math.fround(scale[g] * codes[i]) + offset[g];
      for (let share = 2 ** -22; share <= 1 && codeOf(result[i], scale[g], offset[g]) !== codes[i]; share *= 2) {
        result[i] = values[i] + (onGrid - values[i]) * share;
      }
    }
  }
  return result;
}

/** How far from its code a weight may lie that was moved towards it, in codes: not so near the edge that the first steps undo it. */
const REACH = 0.45;

/**
 * Weights that round to the codes of a quantized weight: where they do not, they move just within the step of their code. Training then
 * begins with what the quantizer found, and codes that it was in two minds about change first.
 */
export async function withinCodes(values: Float32Array, weight: AffineWeight): Promise<Float32Array> {
  const { groupSize, bits } = weight;
  const [codes, scale, offset] = [await read(weight.codes), await readFloats(weight.scale), await hostOffsets(weight)];
  const largest = 2 ** bits - 1;
  const moved = values.map((w, i) => {
    const g = Math.floor(i / groupSize);
    const position = (w - offset[g]) / scale[g];
    const low = codes[i] === 0 ? -Infinity : codes[i] - REACH;
    const high = codes[i] === largest ? Infinity : codes[i] + REACH;
    const isElsewhere = nearestCode(w, scale[g], offset[g], largest) !== codes[i];
    return isElsewhere ? offset[g] + scale[g] * Math.min(high, Math.max(low, position)) : w;
  });
  return aligned(moved, weight);
}

/** `effectiveOffset` of a weight in memory. */
async function hostOffsets({ scale, zeroPoint, offset, bits }: AffineWeight): Promise<Float32Array> {
  if (offset) return readFloats(offset);
  const points = zeroPoint && (await read(zeroPoint));
  return (await readFloats(scale)).map((s, g) => -s * (points ? points[g] : symmetricZero(bits)));
}
