// The two factors of a low-rank correction: how a product is split into them, and how they begin when nothing is to be corrected.
import { type Backend, LowbitError, matmul, type Rng, tensor } from '@lowbit/core';
import { symmetricEigen, transientCompute } from '@lowbit/linalg';

/** γ · up · down = Δ, where γ is the `scaling` that was asked for: the parts of a `LowRankLinear` of that scaling. */
export interface LowRankFactors {
  /** [rank, in] */
  readonly down: Float32Array;
  /** [out, rank] */
  readonly up: Float32Array;
}

/**
 * The factors of Δ = basis · coefficients, [out, rank] · [rank, in] with orthonormal columns in `basis`. They depend on Δ alone: with
 * its singular value decomposition Δ = P Σ Qᵀ, up = P √(Σ/|γ|) and down = ±√(Σ/|γ|) Qᵀ, the sign γ's. The largest element of each
 * column of `up` is positive; components are ordered by falling singular value.
 */
export async function splitFactors(
  backend: Backend,
  basis: Float32Array,
  coefficients: Float32Array,
  rank: number,
  scaling: number,
): Promise<LowRankFactors> {
  checkScaling(scaling);
  const inFeatures = coefficients.length / rank;
  const outFeatures = basis.length / rank;
  // Coefficients C = Y Σ Qᵀ, from the eigenvectors of C Cᵀ; whatever their accuracy, basis·Y · YᵀC is Δ.
  const { vectors } = symmetricEigen(rowProducts(coefficients, rank, inFeatures), rank);
  const rotation = tensor(Float32Array.from(vectors), [rank, rank]);
  const left = matmul(tensor(basis, [outFeatures, rank]), rotation, { transposeB: true });
  const right = matmul(rotation, tensor(coefficients, [rank, inFeatures]));
  let up = new Float32Array(0);
  let down = new Float32Array(0);
  await transientCompute(backend)([left, right], (leftValues, rightValues) => {
    up = leftValues.slice();
    down = rightValues.slice();
  });
  for (let k = 0; k < rank; k++) {
    const row = down.subarray(k * inFeatures, (k + 1) * inFeatures);
    const singularValue = Math.sqrt(row.reduce((total, value) => total + value * value, 0));
    const half = Math.sqrt(singularValue / Math.abs(scaling)) * signOfColumn(up, rank, k);
    for (let i = k; i < up.length; i += rank) up[i] *= half;
    const rest = half === 0 ? 0 : 1 / (half * scaling);
    for (let i = 0; i < inFeatures; i++) row[i] *= rest;
  }
  return { down, up };
}

/** LoRA's start (arXiv 2106.09685): `down` uniform in ±1/√in, `up` zero, so that a corrected layer begins as its base. */
export function zeroFactors([outFeatures, inFeatures]: readonly [number, number], rank: number, rng: Rng): LowRankFactors {
  if (!Number.isInteger(rank) || rank < 1)
    throw new LowbitError('CORRECTION_RANK', `zeroFactors: rank ${rank} was asked for; ask for an integer of at least 1`);
  const bound = 1 / Math.sqrt(inFeatures);
  return { down: rng.uniform(rank * inFeatures).map((value) => (2 * value - 1) * bound), up: new Float32Array(outFeatures * rank) };
}

/** γ · up · down, [out, in]. */
export async function correctionOf(
  backend: Backend,
  { down, up }: LowRankFactors,
  [outFeatures, inFeatures]: readonly [number, number],
  scaling = 1,
): Promise<Float32Array> {
  const rank = up.length / outFeatures;
  let product = new Float32Array(0);
  await transientCompute(backend)([matmul(tensor(up, [outFeatures, rank]), tensor(down, [rank, inFeatures]))], (values) => {
    product = values.map((value) => value * scaling);
  });
  return product;
}

function checkScaling(scaling: number): void {
  if (scaling === 0 || !Number.isFinite(scaling))
    throw new LowbitError('CORRECTION_SCALING', `a correction's scaling is ${scaling}; give a finite number other than 0`);
}

/** C Cᵀ in float64, [rows, rows]. */
function rowProducts(c: Float32Array, rows: number, columns: number): Float64Array {
  const products = new Float64Array(rows * rows);
  for (let i = 0; i < rows; i++) {
    for (let j = 0; j <= i; j++) {
      let total = 0;
      for (let k = 0; k < columns; k++) total += c[i * columns + k] * c[j * columns + k];
      products[i * rows + j] = products[j * rows + i] = total;
    }
  }
  return products;
}

/** Sign of the element of largest magnitude in column k, the first of equals; +1 for zeros. */
function signOfColumn(matrix: Float32Array, columns: number, k: number): number {
  let peak = 0;
  for (let i = k; i < matrix.length; i += columns) if (Math.abs(matrix[i]) > Math.abs(peak)) peak = matrix[i];
  return peak < 0 ? -1 : 1;
}
