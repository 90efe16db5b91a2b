// Cholesky factor and triangular inverse of one small matrix on the host, in float64 and in place.

/**
 * Replaces the lower triangle of a symmetric matrix [n, n] at `offset` by its Cholesky factor; above the diagonal nothing is read or
 * written. False, with the matrix half done, when a pivot is not above `floor[i]` (0 without floors) or not finite.
 */
export function choleskyInPlace(a: Float64Array, n: number, offset = 0, floor?: Float64Array): boolean {
  for (let i = 0; i < n; i++) {
    const rowI = offset + i * n;
    for (let j = 0; j < i; j++) {
      const rowJ = offset + j * n;
      a[rowI + j] = (a[rowI + j] - dot(a, rowI, rowJ, j)) / a[rowJ + j];
    }
    const pivot = a[rowI + i] - dot(a, rowI, rowI, i);
    if (!(pivot > (floor ? floor[i] : 0)) || pivot === Infinity) return false;
    a[rowI + i] = Math.sqrt(pivot);
  }
  return true;
}

/** Replaces the lower triangular [n, n] by its inverse, column by column from the last; above the diagonal nothing is read or written. */
export function invertLowerInPlace(a: Float64Array, n: number): void {
  for (let j = n - 1; j >= 0; j--) {
    const diagonal = 1 / a[j * n + j];
    a[j * n + j] = diagonal;
    // X[i,j] = −(Σ_{j<k≤i} X[i,k] L[k,j]) / L[j,j]; rows from the last, so that L[k,j] for k < i is still there.
    for (let i = n - 1; i > j; i--) {
      let total = 0;
      for (let k = j + 1; k <= i; k++) total += a[i * n + k] * a[k * n + j];
      a[i * n + j] = -total * diagonal;
    }
  }
}

/** Σ_{k<length} a[x+k]·a[y+k], in four chains so that additions overlap. */
function dot(a: Float64Array, x: number, y: number, length: number): number {
  let s0 = 0;
  let s1 = 0;
  let s2 = 0;
  let s3 = 0;
  let k = 0;
  for (; k + 3 < length; k += 4) {
    s0 += a[x + k] * a[y + k];
    s1 += a[x + k + 1] * a[y + k + 1];
    s2 += a[x + k + 2] * a[y + k + 2];
    s3 += a[x + k + 3] * a[y + k + 3];
  }
  for (; k < length; k++) s0 += a[x + k] * a[y + k];
  return s0 + s1 + (s2 + s3);
}
