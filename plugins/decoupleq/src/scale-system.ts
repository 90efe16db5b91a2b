// The S-step's small systems on the host: one of G scales and G offsets a row, the offsets eliminated (arXiv 2404.12759).

/**
 * The normal equations [P₁₁ P₁₂; P₁₂ᵀ P₂₂]·δ = −[g₁; g₂] of one row, with P₂₂ = LLᵀ shared by all rows and V = P₁₂L⁻ᵀ. Unknowns without
 * offsets leave out `coupling`, `offsetFactor` and `offsetGradient`.
 */
export interface ScaleSystem {
  /** S = P₁₁ − VVᵀ, [G, G]; entries with column ≥ row are read. */
  readonly schur: Float32Array | Float64Array;
  /** V, [G, G]. */
  readonly coupling?: Float32Array | Float64Array | undefined;
  /** L, lower [G, G]: of P₂₂ with its own ridge on the diagonal. */
  readonly offsetFactor?: Float64Array | undefined;
  /** That ridge, absolute; it pulls offsets as `ridge` pulls scales. */
  readonly offsetRidge?: number;
  readonly scaleGradient: Float32Array | Float64Array;
  readonly offsetGradient?: Float32Array | Float64Array | undefined;
  /** λ of the scales relative to the mean of P₁₁'s diagonal: it pulls δ towards 0, so that the objective never rises. */
  readonly ridge: number;
}

interface ScaleSolution {
  /** δ of scales and offsets, [G] each. */
  readonly scale: Float64Array;
  readonly offset: Float64Array;
  /** Scales that the data cannot tell from the rest (all codes of a group equal): they stay where they are. */
  readonly held: number;
}

/** A pivot this far below its diagonal entry is what float32 products leave of 0. */
const FLOAT32_FLOOR = 2 ** -16;

/** Solves systems of one size after the other; what it returns holds until the next call. */
export interface ScaleSolver {
  /** The solution with centred ridge. Always finite for finite input. */
  solve(system: ScaleSystem): ScaleSolution;
  /**
   * By how much the objective e + 2gᵀδ + δᵀPδ changes with a step. δᵀPδ = δ₁ᵀSδ₁ + ‖Vᵀδ₁ + Lᵀδ₂‖² less the offsets' ridge: all
   * but a sum of squares, so that rounding errors of P cannot make a long step look good.
   */
  change(system: ScaleSystem, scale: Float64Array, offset: Float64Array): number;
}

export function scaleSolver(size: number): ScaleSolver {
  const factor = new Float64Array(size * size);
  const diagonal = new Float64Array(size);
  const scale = new Float64Array(size);
  const offset = new Float64Array(size);

  const fill = ({ schur, coupling, ridge }: ScaleSystem): void => {
    let trace = 0;
    for (let j = 0; j < size; j++) {
      for (let k = j; k < size; k++) factor[k * size + j] = schur[j * size + k];
      let entry = schur[j * (size + 1)];
      if (coupling) for (let k = j * size; k < (j + 1) * size; k++) entry += coupling[k] * coupling[k];
      diagonal[j] = entry;
      trace += entry;
    }
    for (let j = 0; j < size; j++) factor[j * (size + 1)] += (ridge * trace) / size;
  };

  return {
    solve(system) {
      const { coupling, offsetFactor, scaleGradient, offsetGradient } = system;
      fill(system);
      const held = choleskyWithHolds(factor, size, FLOAT32_FLOOR, diagonal);
      for (let j = 0; j < size; j++) scale[j] = -scaleGradient[j];
      if (!(coupling && offsetFactor && offsetGradient)) {
        offset.fill(0);
        forward(factor, size, scale);
        backward(factor, size, scale);
        return { scale, offset, held };
      }
      // y = L⁻¹g₂; S·δ₁ = −g₁ + V·y; δ₂ = −L⁻ᵀ(y + Vᵀδ₁).
      offset.set(offsetGradient);
      forward(offsetFactor, size, offset);
      for (let j = 0; j < size; j++) {
        let total = 0;
        for (let k = 0; k < size; k++) total += coupling[j * size + k] * offset[k];
        scale[j] += total;
      }
      forward(factor, size, scale);
      backward(factor, size, scale);
      addTransposed(offset, coupling, scale);
      backward(offsetFactor, size, offset);
      for (let j = 0; j < size; j++) offset[j] = -offset[j];
      return { scale, offset, held };
    },
    change({ schur, coupling, offsetFactor, offsetRidge = 0, scaleGradient, offsetGradient }, scale, offset) {
      let change = 0;
      for (let j = 0; j < size; j++) {
        let row = 0;
        for (let k = j + 1; k < size; k++) row += schur[j * size + k] * scale[k];
        change += scale[j] * (2 * (scaleGradient[j] + row) + schur[j * (size + 1)] * scale[j]);
      }
      if (!(coupling && offsetFactor && offsetGradient)) return change;
      const root = new Float64Array(size);
      addTransposed(root, coupling, scale);
      for (let j = 0; j < size; j++) {
        for (let k = 0; k <= j; k++) root[k] += offsetFactor[j * size + k] * offset[j];
        change += offset[j] * (2 * offsetGradient[j] - offsetRidge * offset[j]);
      }
      for (let j = 0; j < size; j++) change += root[j] * root[j];
      return change;
    },
  };
}

/** target += Vᵀx. */
function addTransposed(target: Float64Array, matrix: Float32Array | Float64Array, x: Float64Array): void {
  const size = target.length;
  for (let j = 0; j < size; j++) for (let k = 0; k < size; k++) target[k] += matrix[j * size + k] * x[j];
}

/**
 * Replaces the lower triangle of a symmetric matrix [n, n] by its Cholesky factor. A pivot that is nothing but rounding error holds its unknown:
 * an infinite diagonal entry, under which `forward` and `backward` give 0. Returns how many are held. Pivots are compared with `floor`
 * times `diagonal`, the matrix's own by default. Two rows meet two columns at a time, so that every number loaded serves twice.
 */
export function choleskyWithHolds(a: Float64Array, n: number, floor: number, diagonal?: Float64Array): number {
  let held = 0;
  const settle = (i: number, pivot: number, own: number): void => {
    const isHeld = !(pivot > floor * own);
    a[i * (n + 1)] = isHeld ? Infinity : Math.sqrt(pivot);
    if (isHeld) held++;
  };
  for (let i = 0; i < n; i += 2) {
    const first = i * n;
    // The last row of an odd number is its own partner.
    const second = i + 1 < n ? first + n : first;
    for (let j = 0; j < i; j += 2) {
      const left = j * n;
      const right = left + n;
      let s00 = a[first + j];
      let s01 = a[first + j + 1];
      let s10 = a[second + j];
      let s11 = a[second + j + 1];
      for (let k = 0; k < j; k++) {
        const x0 = a[first + k];
        const x1 = a[second + k];
        const y0 = a[left + k];
        const y1 = a[right + k];
        s00 -= x0 * y0;
        s01 -= x0 * y1;
        s10 -= x1 * y0;
        s11 -= x1 * y1;
      }
      const pivot = a[left + j];
      const below = a[right + j];
      const next = a[right + j + 1];
      s00 /= pivot;
      s10 /= pivot;
      a[first + j] = s00;
      a[second + j] = s10;
      a[first + j + 1] = (s01 - below * s00) / next;
      a[second + j + 1] = (s11 - below * s10) / next;
    }
    settle(i, a[first + i] - dot(a, first, a, first, i), diagonal ? diagonal[i] : a[first + i]);
    if (second === first) break;
    a[second + i] = (a[second + i] - dot(a, first, a, second, i)) / a[first + i];
    settle(i + 1, a[second + i + 1] - dot(a, second, a, second, i + 1), diagonal ? diagonal[i + 1] : a[second + i + 1]);
  }
  return held;
}

/** x ← L⁻¹x, 0 where an unknown is held. */
function forward(lower: Float64Array, n: number, x: Float64Array): void {
  for (let i = 0; i < n; i++) x[i] = (x[i] - dot(lower, i * n, x, 0, i)) / lower[i * (n + 1)];
}

/** x ← L⁻ᵀx. */
function backward(lower: Float64Array, n: number, x: Float64Array): void {
  for (let i = n - 1; i >= 0; i--) {
    const value = x[i] / lower[i * (n + 1)];
    x[i] = value;
    for (let k = 0; k < i; k++) x[k] -= lower[i * n + k] * value;
  }
}

/** Σ_{k<length} x[k]·y[k], in four chains so that additions overlap. */
function dot(x: Float64Array, xAt: number, y: Float64Array, yAt: number, length: number): number {
  let s0 = 0;
  let s1 = 0;
  let s2 = 0;
  let s3 = 0;
  let k = 0;
  for (; k + 3 < length; k += 4) {
    s0 += x[xAt + k] * y[yAt + k];
    s1 += x[xAt + k + 1] * y[yAt + k + 1];
    s2 += x[xAt + k + 2] * y[yAt + k + 2];
    s3 += x[xAt + k + 3] * y[yAt + k + 3];
  }
  for (; k < length; k++) s0 += x[xAt + k] * y[yAt + k];
  return s0 + s1 + (s2 + s3);
}
