// Householder QR of a few long vectors on the host, in float64. Vectors are rows, so that every loop runs over contiguous memory.

/**
 * Replaces the rows of `vectors` [count, length], count ≤ length, by orthonormal ones and returns the upper triangular r [count, count],
 * diagonal not negative, with vector_j = Σ_{i≤j} r[i,j]·q_i. Dependent vectors get orthonormal directions all the same.
 */
export function orthonormalizeRows(vectors: Float64Array, count: number, length: number): Float64Array {
  const r = new Float64Array(count * count);
  const reflectors: Float64Array[] = [];
  for (let j = 0; j < count; j++) {
    const x = vectors.subarray(j * length, (j + 1) * length);
    for (const [i, v] of reflectors.entries()) reflect(x, v, i);
    for (let i = 0; i < j; i++) r[i * count + j] = reflectors[i][length - i] * x[i];
    const norm = normOf(x, j);
    r[j * count + j] = norm;
    reflectors.push(reflectorOf(x, j, norm));
  }
  for (let j = count - 1; j >= 0; j--) {
    // Flipping q_j and row j of r by the reflector's sign makes the diagonal of r positive.
    const x = vectors.subarray(j * length, (j + 1) * length);
    const sign = reflectors[j][length - j];
    x.fill(0);
    x[j] = sign;
    for (let i = j; i >= 0; i--) reflect(x, reflectors[i], i);
  }
  return r;
}

/** Unit v on entries from `start`, followed by the sign s with (I − 2vvᵀ)x = s‖x‖e. A zero vector gives v = 0, s = 1. */
function reflectorOf(x: Float64Array, start: number, norm: number): Float64Array {
  const size = x.length - start;
  const v = new Float64Array(size + 1);
  v[size] = 1;
  if (norm === 0) return v;
  const sign = x[start] > 0 ? -1 : 1;
  v[size] = sign;
  for (let i = 0; i < size; i++) v[i] = x[start + i];
  v[0] -= sign * norm;
  const length = normOf(v.subarray(0, size), 0);
  for (let i = 0; i < size; i++) v[i] /= length;
  return v;
}

/** x ← (I − 2vvᵀ)x on the entries from `start`. */
function reflect(x: Float64Array, v: Float64Array, start: number): void {
  const size = x.length - start;
  let s0 = 0;
  let s1 = 0;
  let i = 0;
  for (; i + 1 < size; i += 2) {
    s0 += v[i] * x[start + i];
    s1 += v[i + 1] * x[start + i + 1];
  }
  if (i < size) s0 += v[i] * x[start + i];
  const factor = 2 * (s0 + s1);
  if (factor === 0) return;
  for (let k = 0; k < size; k++) x[start + k] -= factor * v[k];
}

/** Euclidean norm of the entries from `start`, scaled so that squares neither overflow nor vanish. */
function normOf(x: Float64Array, start: number): number {
  let peak = 0;
  for (let i = start; i < x.length; i++) peak = Math.max(peak, Math.abs(x[i]));
  if (peak === 0) return 0;
  let total = 0;
  for (let i = start; i < x.length; i++) total += (x[i] / peak) ** 2;
  return peak * Math.sqrt(total);
}
