// The exact optimum of rows with a few inputs, by trying every code: how far from it do the heuristics end (arXiv 2404.12759)?
import { LowbitError } from '@lowbit/core';

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
