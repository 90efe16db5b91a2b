// QR by panels: Householder reflections in float64 within a panel, block Gram-Schmidt on a backend between panels.
import { type Backend, LowbitError, matmul, sub, tensor } from '@lowbit/core';
import { type TransientCompute, transientCompute } from './compute.js';
import { orthonormalizeRows } from './householder.js';
import { cut, paste } from './submatrix.js';

export interface QrResult {
  /** Orthonormal columns, [rows, columns]. */
  readonly q: Float32Array;
  /** Upper triangular [columns, columns] with a diagonal that is not negative; A = Q R. */
  readonly r: Float64Array;
}

export interface QrOptions {
  /** Columns of a panel; speed only. */
  readonly panelSize?: number;
}

/** Gram-Schmidt is repeated while a pass still finds more than this of a unit vector: "twice is enough" (Giraud et al., 2005) but for noise. */
const LEFT_OVER = 0.1;
const MAX_PASSES = 5;

/**
 * Thin QR of A [rows, columns] with rows ≥ columns. Unique for full rank; dependent columns get arbitrary orthonormal directions and
 * rounding noise in R. Of a matrix of standard normals, Q is uniformly distributed (Haar), the diagonal of R being positive.
 * @throws SHAPE_QR for more columns than rows.
 */
export async function qr(
  backend: Backend,
  matrix: Float32Array,
  [rows, columns]: readonly [number, number],
  { panelSize = 32 }: QrOptions = {},
): Promise<QrResult> {
  if (matrix.length !== rows * columns)
    throw new LowbitError('SHAPE_DATA', `qr: ${matrix.length} values do not fill a matrix [${rows}, ${columns}]`);
  if (rows < columns)
    throw new LowbitError('SHAPE_QR', `qr: a matrix [${rows}, ${columns}] has more columns than rows; pass its transpose`);
  const compute = transientCompute(backend);
  const q = new Float32Array(rows * columns);
  const r = new Float64Array(columns * columns);
  for (let start = 0; start < columns; start += panelSize) {
    const width = Math.min(panelSize, columns - start);
    const panel = cut(matrix, columns, 0, start, rows, width);
    const coefficients =
      start === 0 ? orthonormalizePanel(panel, rows, width, 0) : await extend(compute, q, rows, columns, panel, width, r, start);
    paste(q, columns, 0, start, rows, width, coefficients.q);
    for (let i = 0; i < width; i++) r.set(coefficients.r.subarray(i * width, (i + 1) * width), (start + i) * columns + start);
  }
  return { q, r };
}

interface Panel {
  /** [rows, width] */
  readonly q: Float32Array;
  /** [width, width] */
  readonly r: Float64Array;
}

/**
 * Orthonormalizes a panel against the columns of q so far (the later ones are still zero, which keeps one shape for all panels) and
 * adds its coefficients to the columns of r: P = Q S + V T, repeated on V.
 */
async function extend(
  compute: TransientCompute,
  q: Float32Array,
  rows: number,
  columns: number,
  panel: Float32Array,
  width: number,
  r: Float64Array,
  start: number,
): Promise<Panel> {
  let v = panel;
  let t: Float64Array | undefined;
  let found = 1;
  for (let pass = 0; pass < 2 || (found > LEFT_OVER && pass < MAX_PASSES); pass++) {
    const basis = tensor(q, [rows, columns]);
    const current = tensor(v, [rows, width]);
    const s = matmul(basis, current, { transposeA: true });
    let remainder = new Float32Array(0);
    await compute([s, sub(current, matmul(basis, s))], (projections, rest) => {
      found = peakOf(projections);
      for (let i = 0; i < start; i++) {
        for (let j = 0; j < width; j++)
          r[i * columns + start + j] += t ? dotColumn(projections, i, t, j, width) : projections[i * width + j];
      }
      remainder = rest.slice();
    });
    const step = orthonormalizePanel(remainder, rows, width, start + pass);
    v = step.q;
    t = t ? multiply(step.r, t, width) : step.r;
  }
  return { q: v, r: t as Float64Array };
}

function peakOf(values: Float32Array): number {
  return values.reduce((peak, value) => Math.max(peak, Math.abs(value)), 0);
}

/** Row i of a [·, width] times column j of b [width, width]. */
function dotColumn(a: Float32Array | Float64Array, i: number, b: Float64Array, j: number, width: number): number {
  let total = 0;
  for (let k = 0; k < width; k++) total += a[i * width + k] * b[k * width + j];
  return total;
}

function multiply(a: Float64Array, b: Float64Array, width: number): Float64Array {
  return Float64Array.from({ length: width * width }, (_, at) => dotColumn(a, Math.floor(at / width), b, at % width, width));
}

/**
 * QR of one panel [rows, width] on the host. A column of zeros (or one that projection emptied) gets the direction of the axis
 * `first` + its index instead, with zeros in r; the next pass orthogonalizes it.
 */
function orthonormalizePanel(panel: Float32Array, rows: number, width: number, first: number): Panel {
  const transposed = new Float64Array(rows * width);
  for (let i = 0; i < rows; i++) {
    for (let j = 0; j < width; j++) transposed[j * rows + i] = panel[i * width + j];
  }
  const empty = Array.from({ length: width }, (_, j) => j).filter((j) =>
    transposed.subarray(j * rows, (j + 1) * rows).every((value) => value === 0),
  );
  for (const j of empty) transposed[j * rows + ((first + j) % rows)] = 1;
  const r = orthonormalizeRows(transposed, width, rows);
  for (const j of empty) for (let i = 0; i <= j; i++) r[i * width + j] = 0;
  const q = new Float32Array(rows * width);
  for (let i = 0; i < rows; i++) {
    for (let j = 0; j < width; j++) q[i * width + j] = transposed[j * rows + i];
  }
  return { q, r };
}
