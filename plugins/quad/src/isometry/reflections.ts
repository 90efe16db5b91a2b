// The orthogonal complement of a few directions without a d×d matrix: Householder reflectors in compact WY form, in float64 on the host.

/** Orthonormal columns P [width, rank], and Q = I − V K Vᵀ, orthogonal, whose first columns are those of P up to their signs. */
export interface Reflections {
  readonly width: number;
  readonly rank: number;
  /** P, [width, rank], row-major. */
  readonly basis: Float64Array;
  /** V, [width, rank]: unit vectors, zero above the diagonal. */
  readonly reflectors: Float64Array;
  /** V K, [width, rank], with K upper triangular (Schreiber & Van Loan, 1989). */
  readonly scaled: Float64Array;
}

/**
 * Of independent columns [width, rank], rank ≤ width, meant to be orthonormal: P is what they are up to rounding, orthonormal to
 * float64 (their Householder QR).
 */
export function reflections(columns: ArrayLike<number>, width: number, rank: number): Reflections {
  // Columns are kept as rows, so that every loop runs over contiguous memory.
  const remaining = rowsOf(columns, width, rank);
  const v = remaining.map(() => new Float64Array(width));
  const signs = new Float64Array(rank);
  for (let j = 0; j < rank; j++) {
    signs[j] = setReflector(v[j], remaining[j], j);
    for (let later = j + 1; later < rank; later++) addScaled(remaining[later], -2 * dot(v[j], remaining[later]), v[j]);
  }
  const scaled = scaledReflectors(v, width);
  // Q e_j = e_j − V K Vᵀ e_j, and Vᵀ e_j is row j of V.
  const basis = v.map((_, j) => {
    const column = new Float64Array(width);
    column[j] = signs[j];
    for (let i = 0; i <= j; i++) addScaled(column, -signs[j] * v[i][j], scaled[i]);
    return column;
  });
  return { width, rank, basis: columnsOf(basis, width), reflectors: columnsOf(v, width), scaled: columnsOf(scaled, width) };
}

/** Columns of V K: H₀ H₁ … H_j = (I − V K Vᵀ)(I − 2vvᵀ) appends to V K the column 2v − 2 V K (Vᵀv). */
function scaledReflectors(v: readonly Float64Array[], width: number): Float64Array[] {
  const scaled: Float64Array[] = [];
  for (const [j, reflector] of v.entries()) {
    const column = new Float64Array(width);
    addScaled(column, 2, reflector);
    for (let i = 0; i < j; i++) addScaled(column, -2 * dot(v[i], reflector), scaled[i]);
    scaled.push(column);
  }
  return scaled;
}

/** Fills v with the unit vector on entries from `start` for which (I − 2vvᵀ)x = s‖x‖e there, and returns s. */
function setReflector(v: Float64Array, x: Float64Array, start: number): number {
  let norm = 0;
  for (let i = start; i < x.length; i++) norm = Math.hypot(norm, x[i]);
  // The sign that adds and does not cancel.
  const sign = x[start] > 0 ? -1 : 1;
  for (let i = start; i < x.length; i++) v[i] = x[i];
  v[start] -= sign * norm;
  const length = Math.sqrt(dot(v, v));
  for (let i = start; i < x.length; i++) v[i] /= length;
  return sign;
}

function dot(a: Float64Array, b: Float64Array): number {
  let total = 0;
  for (let i = 0; i < a.length; i++) total += a[i] * b[i];
  return total;
}

function addScaled(to: Float64Array, factor: number, from: Float64Array): void {
  for (let i = 0; i < to.length; i++) to[i] += factor * from[i];
}

function rowsOf(columns: ArrayLike<number>, width: number, rank: number): Float64Array[] {
  return Array.from({ length: rank }, (_, j) => Float64Array.from({ length: width }, (_, i) => columns[i * rank + j]));
}

function columnsOf(rows: readonly Float64Array[], width: number): Float64Array {
  const columns = new Float64Array(rows.length * width);
  for (const [j, row] of rows.entries()) for (let i = 0; i < width; i++) columns[i * rows.length + j] = row[i];
  return columns;
}
