// The exact optimum of rows with a few inputs, by trying every code: how far from it do the heuristics end (arXiv 2404.12759)?
import { type Backend, LowbitError, type Rng, tensor } from '@lowbit/core';
import { gptqCodes, roundToGrid } from '@lowbit/quant';
import { codeStepOf } from './code-steps/select.js';
import { decouple } from './layer.js';
import { type DecoupleqInput, type DecoupleqOptions, decoupleqOptions } from './options.js';
import type { LayerProblem, Quantized } from './problem.js';
import { type SharedHessian, sharedHessian } from './shared-hessian.js';
import { coveringScales } from './stored-scales.js';

/** The best that one group of inputs with one scale and a free offset can do. */
export interface GlobalOptimum {
  /** (ŵ − w)H(ŵ − w)ᵀ. */
  readonly error: number;
  readonly codes: Uint8Array;
  readonly scale: number;
  readonly offset: number;
}

/** Beyond this many combinations of codes a row takes minutes. */
const MOST_COMBINATIONS = 2 ** 24;

/**
 * The least error over all codes of a row and, for each, the best scale and offset in closed form; float64.
 *
 * With the offset at its optimum the error is that of the matrix H' = H − H11ᵀH / 1ᵀH1, in which codes count up to a constant; the best
 * scale then is qH'w / qH'q and takes (qH'w)² / qH'q off wH'w. Codes that differ by a constant give the same weights, so only those with
 * a 0 are tried.
 * @throws BRUTE_FORCE_SIZE for more inputs or bits than can be tried.
 */
export function globalOptimum(weight: ArrayLike<number>, hessian: ArrayLike<number>, bits: number): GlobalOptimum {
  const n = weight.length;
  const sums = product(hessian, new Float64Array(n).fill(1));
  const total = sums.reduce((a, b) => a + b, 0);
  const centred = Float64Array.from({ length: n * n }, (_, i) => hessian[i] - (sums[Math.floor(i / n)] * sums[i % n]) / total);
  const pull = product(centred, weight);
  // All codes 0, and the offset alone.
  let best = { gain: 0, scale: 1, codes: new Uint8Array(n) };
  forEachCode(n, bits, (codes) => {
    if (!codes.includes(0)) return;
    const curvature = form(centred, codes, codes);
    // Equal codes have none, up to rounding.
    if (!(curvature > 1e-12 * total)) return;
    const along = dot(codes, pull);
    const gain = along ** 2 / curvature;
    if (gain > best.gain) best = { gain, scale: along / curvature, codes: codes.slice() };
  });
  const { scale, codes } = best;
  const offset = (dot(sums, weight) - scale * dot(sums, codes)) / total;
  const residual = Float64Array.from(codes, (code, i) => scale * code + offset - weight[i]);
  return { error: form(hessian, residual, residual), codes, scale, offset };
}

/** The least error over all codes of a row on a grid that is given; float64. Throws as `globalOptimum`. */
export function fixedGridOptimum(
  weight: ArrayLike<number>,
  hessian: ArrayLike<number>,
  { bits, scale, offset }: { readonly bits: number; readonly scale: number; readonly offset: number },
): { readonly error: number; readonly codes: Uint8Array } {
  const residual = new Float64Array(weight.length);
  let best = { error: Infinity, codes: new Uint8Array(weight.length) };
  forEachCode(weight.length, bits, (codes) => {
    for (let i = 0; i < residual.length; i++) residual[i] = scale * codes[i] + offset - weight[i];
    const error = form(hessian, residual, residual);
    if (error < best.error) best = { error, codes: codes.slice() };
  });
  return best;
}

/** Errors of one random row, relative to wHwᵀ; float64. */
export interface BruteForceRow {
  /** The least over codes, scale and offset. */
  readonly optimum: number;
  readonly decoupleq: number;
  readonly gptq: number;
  readonly nearest: number;
  /** The least over codes on the covering grid, which GPTQ and rounding to nearest use. */
  readonly fixedOptimum: number;
}

export interface BruteForceStudy {
  readonly backend: Backend;
  readonly rng: Rng;
  readonly rows: number;
  /** One group; at most 6 or so. */
  readonly inputs: number;
  readonly bits: number;
  /** decoupleQ's other options. Offsets are free and nothing is rounded to float16: the optimum is that of real numbers. */
  readonly options?: Omit<DecoupleqInput, 'bits' | 'groupSize' | 'zero' | 'scaleDtype'>;
}

/** Rows that share a Hessian: the answer must not hang on a single one. */
const ROWS_PER_LAYER = 10;
/** Observations behind a Hessian. */
const SAMPLES = 64;

/** decoupleQ against the exact optimum on normal weights with correlated inputs. All methods see the same dampened Hessian. */
export async function bruteForceStudy({ backend, rng, rows, inputs, bits, options }: BruteForceStudy): Promise<BruteForceRow[]> {
  const parsed = decoupleqOptions.parse({ ...options, bits, groupSize: -1, zero: 'free', scaleDtype: 'float32' });
  const found: BruteForceRow[] = [];
  for (let layer = 0; found.length < rows; layer++) {
    const weight = rng.at('weight', layer).normal(Math.min(ROWS_PER_LAYER, rows - found.length) * inputs);
    const gram = tensor(correlatedGram(rng.at('inputs', layer), inputs), [inputs, inputs]);
    found.push(...(await studyLayer(backend, weight, await sharedHessian({ backend, gram, ...parsed, path: 'random rows' }), parsed)));
  }
  return found;
}

async function studyLayer(
  backend: Backend,
  weight: Float32Array,
  { hessian, factor }: SharedHessian,
  options: DecoupleqOptions,
): Promise<BruteForceRow[]> {
  const { bits, zero } = options;
  const n = factor.order.length;
  const outFeatures = weight.length / n;
  const problem: LayerProblem = { backend, weight, outFeatures, inFeatures: n, bits, groupSize: n, zero, hessian, factor };
  const covering = coveringScales(problem, 'float32');
  const grid = { ...problem, ...covering };
  const { quantized } = await decouple(problem, { ...options, codeStep: codeStepOf(options) });
  const gptq = { ...covering, codes: await gptqCodes(backend, factor, weight, grid) };
  const nearest = { ...covering, codes: roundToGrid(weight, grid) };
  return Array.from({ length: outFeatures }, (_, row) => {
    const w = weight.subarray(row * n, (row + 1) * n);
    const energy = form(hessian, w, w);
    const errorOf = ({ codes, scale, offset }: Quantized): number => {
      const residual = Float64Array.from(w, (value, i) => scale[row] * codes[row * n + i] + offset[row] - value);
      return form(hessian, residual, residual) / energy;
    };
    return {
      optimum: globalOptimum(w, hessian, bits).error / energy,
      decoupleq: errorOf(quantized),
      gptq: errorOf(gptq),
      nearest: errorOf(nearest),
      fixedOptimum: fixedGridOptimum(w, hessian, { bits, scale: covering.scale[row], offset: covering.offset[row] }).error / energy,
    };
  });
}

/** Gram matrix of normal inputs of which half the variance is common to all. */
function correlatedGram(rng: Rng, inputs: number): Float32Array {
  const own = rng.at('own').normal(SAMPLES * inputs);
  const common = rng.at('common').normal(SAMPLES);
  const x = own.map((value, i) => value + common[Math.floor(i / inputs)]);
  const gram = new Float32Array(inputs * inputs);
  for (let s = 0; s < SAMPLES; s++) {
    for (let i = 0; i < inputs; i++) {
      for (let j = 0; j < inputs; j++) gram[i * inputs + j] += x[s * inputs + i] * x[s * inputs + j];
    }
  }
  return gram;
}

/** Visits all (2^bits)^n codes; the array is one and the same. */
function forEachCode(n: number, bits: number, visit: (codes: Uint8Array) => void): void {
  const combinations = 2 ** (bits * n);
  if (combinations > MOST_COMBINATIONS) {
    throw new LowbitError(
      'BRUTE_FORCE_SIZE',
      `brute force: ${n} inputs of ${bits} bits have 2^${bits * n} combinations; try at most ${Math.floor(Math.log2(MOST_COMBINATIONS) / bits)} inputs`,
    );
  }
  const codes = new Uint8Array(n);
  for (let index = 0; index < combinations; index++) {
    for (let i = 0; i < n; i++) codes[i] = (index >> (bits * i)) & (2 ** bits - 1);
    visit(codes);
  }
}

function dot(a: ArrayLike<number>, b: ArrayLike<number>): number {
  let total = 0;
  for (let i = 0; i < a.length; i++) total += a[i] * b[i];
  return total;
}

/** Mv for a matrix [n, n]. */
function product(matrix: ArrayLike<number>, v: ArrayLike<number>): Float64Array {
  const n = v.length;
  const result = new Float64Array(n);
  for (let i = 0; i < n; i++) for (let j = 0; j < n; j++) result[i] += matrix[i * n + j] * v[j];
  return result;
}

/** aMbᵀ */
function form(matrix: ArrayLike<number>, a: ArrayLike<number>, b: ArrayLike<number>): number {
  const n = a.length;
  let total = 0;
  for (let i = 0; i < n; i++) {
    if (a[i] === 0) continue;
    let row = 0;
    for (let j = 0; j < n; j++) row += matrix[i * n + j] * b[j];
    total += a[i] * row;
  }
  return total;
}
