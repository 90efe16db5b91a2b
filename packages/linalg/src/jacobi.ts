// All eigenpairs of one small symmetric matrix on the host, by cyclic Jacobi rotations in float64.
import { LowbitError } from '@lowbit/core';

export interface SymmetricEigen {
  /** Descending. */
  readonly values: Float64Array;
  /** Row i is the unit eigenvector of values[i], [n, n]. */
  readonly vectors: Float64Array;
}

const MAX_SWEEPS = 60;

/**
 * Eigenvalues and eigenvectors of a symmetric [n, n] (Golub & Van Loan, §8.5). Cost about 60 n³ flops, much less when the matrix is
 * nearly diagonal: meant for projected problems of some hundred rows at most.
 * @throws EIGEN_INPUT when an element is not finite.
 */
export function symmetricEigen(matrix: Float64Array, n: number): SymmetricEigen {
  const a = Float64Array.from(matrix);
  if (a.some((value) => !Number.isFinite(value))) {
    throw new LowbitError('EIGEN_INPUT', `symmetricEigen: the ${n}×${n} matrix has elements that are not finite; check how it was summed`);
  }
  const v = new Float64Array(n * n);
  for (let i = 0; i < n; i++) v[i * (n + 1)] = 1;
  const negligible = 1e-16 * Math.sqrt(a.reduce((total, value) => total + value * value, 0));
  for (let sweep = 0, isDone = n < 2; sweep < MAX_SWEEPS && !isDone; sweep++) {
    isDone = true;
    for (let p = 0; p < n - 1; p++) {
      for (let q = p + 1; q < n; q++) {
        if (Math.abs(a[p * n + q]) <= negligible) continue;
        isDone = false;
        rotate(a, v, n, p, q);
      }
    }
  }
  const order = Array.from({ length: n }, (_, i) => i).sort((i, j) => a[j * (n + 1)] - a[i * (n + 1)]);
  const vectors = new Float64Array(n * n);
  for (const [to, from] of order.entries()) vectors.set(v.subarray(from * n, (from + 1) * n), to * n);
  return { values: Float64Array.from(order, (i) => a[i * (n + 1)]), vectors };
}

/** Zeroes a[p, q]: A ← JᵀAJ on rows and columns p and q, V ← JᵀV. */
function rotate(a: Float64Array, v: Float64Array, n: number, p: number, q: number): void {
  const apq = a[p * n + q];
  const theta = (a[q * (n + 1)] - a[p * (n + 1)]) / (2 * apq);
  const t = (theta >= 0 ? 1 : -1) / (Math.abs(theta) + Math.hypot(theta, 1));
  const c = 1 / Math.sqrt(t * t + 1);
  const s = t * c;
  a[p * (n + 1)] -= t * apq;
  a[q * (n + 1)] += t * apq;
  a[p * n + q] = 0;
  a[q * n + p] = 0;
  for (let k = 0; k < n; k++) {
    const vp = v[p * n + k];
    const vq = v[q * n + k];
    v[p * n + k] = c * vp - s * vq;
    v[q * n + k] = s * vp + c * vq;
    if (k === p || k === q) continue;
    const kp = a[p * n + k];
    const kq = a[q * n + k];
    a[p * n + k] = a[k * n + p] = c * kp - s * kq;
    a[q * n + k] = a[k * n + q] = s * kp + c * kq;
  }
}
