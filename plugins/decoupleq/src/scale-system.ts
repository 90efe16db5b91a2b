// The S-step's small systems on the host: one of G scales and G offsets a row, the offsets eliminated (arXiv 2404.12759).

/**
 * The normal equations [P₁₁ P₁₂; P₁₂ᵀ P₂₂]·δ = −[g₁; g₂] of one row, with P₂₂ = LLᵀ shared by all rows and V = P₁₂L⁻ᵀ. Unknowns without
 * offsets leave out `coupling`, `offsetFactor` and `offsetGradient`.
 */
export interface ScaleSystem {
  /** Unknown scales, G. */
  readonly size: number;
  /** S = P₁₁ − VVᵀ, [G, G]; entries with column ≥ row are read. */
  readonly schur: Float32Array | Float64Array;
  /** V, [G, G]. */
  readonly coupling?: Float32Array | Float64Array | undefined;
  /** L, lower [G, G]. */
  readonly offsetFactor?: Float64Array | undefined;
  readonly scaleGradient: Float32Array | Float64Array;
  readonly offsetGradient?: Float32Array | Float64Array | undefined;
  /** λ of the scales relative to the mean of P₁₁'s diagonal: it pulls δ towards 0, so that the objective never rises. */
  readonly ridge: number;
}

export interface ScaleSolution {
  /** δ of scales and offsets, [G] each. */
  readonly scale: Float64Array;
  readonly offset: Float64Array;
  /** Scales that the data cannot tell from the rest (all codes of a group equal): they stay where they are. */
  readonly held: number;
}

/** A pivot this far below its diagonal entry is what float32 products leave of 0. */
const FLOAT32_FLOOR = 2 ** -16;

/** Solves a row's system with centred ridge. Always finite for finite input. */
export function solveScaleSystem(system: ScaleSystem): ScaleSolution {
  const { size, schur, coupling, offsetFactor, scaleGradient, offsetGradient, ridge } = system;
  const factor = new Float64Array(size * size);
  const diagonal = new Float64Array(size);
  let trace = 0;
  for (let j = 0; j < size; j++) {
    for (let k = j; k < size; k++) factor[k * size + j] = schur[j * size + k];
    let entry = schur[j * (size + 1)];
    if (coupling) entry += dot(coupling, j * size, coupling, j * size, size);
    diagonal[j] = entry;
    trace += entry;
  }
  for (let j = 0; j < size; j++) factor[j * (size + 1)] += (ridge * trace) / size;
  const held = choleskyWithHolds(factor, size, FLOAT32_FLOOR, diagonal);

  const scale = Float64Array.from(scaleGradient, (g) => -g);
  const offset = new Float64Array(size);
  if (coupling && offsetFactor && offsetGradient) {
    // y = L⁻¹g₂; S·δ₁ = −g₁ + V·y; δ₂ = −L⁻ᵀ(y + Vᵀδ₁).
    offset.set(offsetGradient);
    forward(offsetFactor, size, offset);
    for (let j = 0; j < size; j++) scale[j] += dot(coupling, j * size, offset, 0, size);
    forward(factor, size, scale);
    backward(factor, size, scale);
    for (let j = 0; j < size; j++) addScaled(offset, coupling, j * size, scale[j], size);
    backward(offsetFactor, size, offset);
    for (let j = 0; j < size; j++) offset[j] = -offset[j];
  } else {
    forward(factor, size, scale);
    backward(factor, size, scale);
  }
  return { scale, offset, held };
}

/**
 * By how much the objective e + 2gᵀδ + δᵀPδ changes with a step. δᵀPδ = δ₁ᵀSδ₁ + ‖Vᵀδ₁ + Lᵀδ₂‖²: a sum of squares, so that rounding
 * errors of P cannot make a long step look good.
 */
export function objectiveChange(system: ScaleSystem, scale: Float64Array, offset: Float64Array): number {
  const { size, schur, coupling, offsetFactor, scaleGradient, offsetGradient } = system;
  let change = 0;
  for (let j = 0; j < size; j++) {
    let row = schur[j * (size + 1)] * scale[j];
    for (let k = j + 1; k < size; k++) row += 2 * schur[j * size + k] * scale[k];
    change += scale[j] * (2 * scaleGradient[j] + row);
  }
  if (!(coupling && offsetFactor && offsetGradient)) return change;
  const root = new Float64Array(size);
  for (let j = 0; j < size; j++) {
    addScaled(root, coupling, j * size, scale[j], size);
    for (let k = 0; k <= j; k++) root[k] += offsetFactor[j * size + k] * offset[j];
    change += 2 * offsetGradient[j] * offset[j];
  }
  for (let j = 0; j < size; j++) change += root[j] * root[j];
  return change;
}

/**
 * Replaces the lower triangle of a symmetric matrix [n, n] by its Cholesky factor. A pivot that is nothing but rounding error holds its unknown:
 * an infinite diagonal entry, under which `forward` and `backward` give 0. Returns how many are held. Pivots are compared with `floor`
 * times `diagonal`, the matrix's own by default.
 */
export function choleskyWithHolds(a: Float64Array, n: number, floor: number, diagonal?: Float64Array): number {
  let held = 0;
  for (let i = 0; i < n; i++) {
    const row = i * n;
    const own = diagonal ? diagonal[i] : a[row + i];
    for (let j = 0; j < i; j++) {
      const other = j * n;
      a[row + j] = (a[row + j] - dot(a, row, a, other, j)) / a[other + j];
    }
    const pivot = a[row + i] - dot(a, row, a, row, i);
    if (pivot > floor * own) {
      a[row + i] = Math.sqrt(pivot);
    } else {
      a[row + i] = Infinity;
      held++;
    }
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
    x[i] /= lower[i * (n + 1)];
    addScaled(x, lower, i * n, -x[i], i);
  }
}

type Floats = Float32Array | Float64Array;

/** Σ_{k<length} x[k]·y[k], in four chains so that additions overlap. */
function dot(x: Floats, xAt: number, y: Floats, yAt: number, length: number): number {
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

/** target += factor·x[at …]. */
function addScaled(target: Float64Array, x: Floats, at: number, factor: number, length: number): void {
  for (let k = 0; k < length; k++) target[k] += factor * x[at + k];
}
