// The paper's equations as plain loops in float64, one row at a time (arXiv 2404.12759): what the tests compare with.

export type Matrix = readonly (readonly number[])[];

/** One row in three parts, codes 0 … 2^b − 1. */
export interface OracleRow {
  readonly codes: readonly number[];
  readonly scale: readonly number[];
  readonly offset: readonly number[];
}

export function toMatrix(data: ArrayLike<number>, rows: number, columns: number): number[][] {
  return Array.from({ length: rows }, (_, i) => Array.from({ length: columns }, (__, j) => data[i * columns + j]));
}

function halfEven(x: number): number {
  const floor = Math.floor(x);
  if (x - floor === 0.5) return floor % 2 === 0 ? floor : floor + 1;
  return Math.round(x);
}

/** ŵ = s·q + z. */
export function values({ codes, scale, offset }: OracleRow): number[] {
  const groupSize = codes.length / scale.length;
  return codes.map((code, i) => scale[Math.floor(i / groupSize)] * code + offset[Math.floor(i / groupSize)]);
}

/** (v − w)H(v − w)ᵀ. */
export function rowError(h: Matrix, w: readonly number[], v: readonly number[]): number {
  return w.reduce((total, _, i) => total + w.reduce((sum, __, j) => sum + (v[i] - w[i]) * h[i][j] * (v[j] - w[j]), 0), 0);
}

/** Gaussian elimination with pivoting. */
export function solveDense(a: Matrix, b: readonly number[]): number[] {
  const work = a.map((row, i) => [...row, b[i]]);
  const n = b.length;
  for (let i = 0; i < n; i++) {
    let best = i;
    for (let k = i; k < n; k++) if (Math.abs(work[k][i]) > Math.abs(work[best][i])) best = k;
    [work[i], work[best]] = [work[best], work[i]];
    for (let k = 0; k < n; k++) {
      if (k === i) continue;
      const factor = work[k][i] / work[i][i];
      for (let j = i; j <= n; j++) work[k][j] -= factor * work[i][j];
    }
  }
  return work.map((row, i) => row[n] / row[i]);
}

function invert(a: Matrix): number[][] {
  const columns = a.map((_, j) =>
    solveDense(
      a,
      a.map((__, i) => (i === j ? 1 : 0)),
    ),
  );
  return a.map((_, i) => columns.map((column) => column[i]));
}

/** The range that covers a group and 0: s = (hi − lo)/(2^b − 1), z = lo. */
export function coveringGrid(w: readonly number[], bits: number, groupSize: number): { scale: number[]; offset: number[] } {
  const groups = Array.from({ length: w.length / groupSize }, (_, g) => w.slice(g * groupSize, (g + 1) * groupSize));
  const offset = groups.map((group) => Math.min(0, ...group));
  return { scale: groups.map((group, g) => (Math.max(0, ...group) - offset[g]) / (2 ** bits - 1)), offset };
}

export function nearest(w: readonly number[], bits: number, scale: readonly number[], offset: readonly number[]): number[] {
  const groupSize = w.length / scale.length;
  return w.map((value, i) => {
    const g = Math.floor(i / groupSize);
    return Math.min(2 ** bits - 1, Math.max(0, halfEven((value - offset[g]) / scale[g])));
  });
}

/** GPTQ with static groups and inverses instead of a factor: round input i, spread its error by the column of the inverse, remove it. */
export function gptqRow(h: Matrix, w: readonly number[], bits: number, scale: readonly number[], offset: readonly number[]): number[] {
  const n = w.length;
  const order = w.map((_, i) => i).sort((a, b) => h[b][b] - h[a][a] || a - b);
  let inverse = invert(order.map((i) => order.map((j) => h[i][j])));
  const row = order.map((i) => w[i]);
  const codes = new Array<number>(n).fill(0);
  order.forEach((input, step) => {
    const g = Math.floor((input * scale.length) / n);
    const code = Math.min(2 ** bits - 1, Math.max(0, halfEven((row[step] - offset[g]) / scale[g])));
    codes[input] = code;
    const error = (row[step] - scale[g] * code - offset[g]) / inverse[step][step];
    for (let j = step; j < n; j++) row[j] -= error * inverse[step][j];
    const pivot = inverse[step];
    inverse = inverse.map((line) => line.map((value, j) => value - (line[step] * pivot[j]) / pivot[step]));
  });
  return codes;
}

/** Normal equations P·(s, z) = y of one row: A has the codes of a group in one row and its indicator in another, P = AHAᵀ, y = AHwᵀ. */
export function normalEquations(h: Matrix, w: readonly number[], codes: readonly number[], groups: number): { p: number[][]; y: number[] } {
  const groupSize = w.length / groups;
  const inGroup = (i: number, j: number): number => (Math.floor(i / groupSize) === j ? 1 : 0);
  const a = [
    ...Array.from({ length: groups }, (_, j) => codes.map((code, i) => code * inGroup(i, j))),
    ...Array.from({ length: groups }, (_, j) => codes.map((__, i) => inGroup(i, j))),
  ];
  const times = (x: readonly number[]): number[] => h.map((line) => line.reduce((total, value, j) => total + value * x[j], 0));
  const product = a.map(times);
  const dot = (x: readonly number[], y: readonly number[]): number => x.reduce((total, value, i) => total + value * y[i], 0);
  return { p: a.map((line) => product.map((other) => dot(line, other))), y: product.map((line) => dot(line, w)) };
}

/** The S-step: scales and offsets of least error for the codes. */
export function scaleStep(
  h: Matrix,
  w: readonly number[],
  codes: readonly number[],
  groups: number,
): { scale: number[]; offset: number[] } {
  const { p, y } = normalEquations(h, w, codes, groups);
  const theta = solveDense(p, y);
  return { scale: theta.slice(0, groups), offset: theta.slice(groups) };
}

/** Best of the 160 shrink factors by rounding to nearest. */
export function bestShrink(h: Matrix, w: readonly number[], bits: number, grid: { scale: number[]; offset: number[] }): number {
  let best = { error: Infinity, factor: 1 };
  for (let step = 0; step < 160; step++) {
    const factor = 1 - step / 200;
    const [scale, offset] = [grid.scale.map((s) => s * factor), grid.offset.map((z) => z * factor)];
    const error = rowError(h, w, values({ codes: nearest(w, bits, scale, offset), scale, offset }));
    if (error < best.error) best = { error, factor };
  }
  return best.factor;
}

export interface OracleOutcome extends OracleRow {
  readonly error: number;
  /** Error after each half-step. */
  readonly trace: number[];
}

/** The published alternation for one row, codes by GPTQ. */
export function alternate(h: Matrix, w: readonly number[], bits: number, groupSize: number, iterations: number): OracleOutcome {
  const groups = w.length / groupSize;
  const grid = coveringGrid(w, bits, groupSize);
  const measured = (codes: number[], scale: number[], offset: number[]) => ({
    codes,
    scale,
    offset,
    error: rowError(h, w, values({ codes, scale, offset })),
  });
  let state = measured(nearest(w, bits, grid.scale, grid.offset), grid.scale, grid.offset);
  const trace = [state.error];
  const accept = (candidate: typeof state): boolean => {
    const isBetter = candidate.error < state.error;
    if (isBetter) state = candidate;
    trace.push(state.error);
    return isBetter;
  };
  accept(measured(gptqRow(h, w, bits, grid.scale, grid.offset), grid.scale, grid.offset));
  for (let iteration = 0; iteration < iterations - 1; iteration++) {
    let { scale, offset } = state;
    if (iteration === 0) {
      const factor = bestShrink(h, w, bits, grid);
      const shrunk = { scale: grid.scale.map((s) => s * factor), offset: grid.offset.map((z) => z * factor) };
      ({ scale, offset } = scaleStep(h, w, nearest(w, bits, shrunk.scale, shrunk.offset), groups));
    }
    accept(measured(gptqRow(h, w, bits, scale, offset), scale, offset));
    const solved = scaleStep(h, w, state.codes, groups);
    accept(measured(state.codes, solved.scale, solved.offset));
  }
  return { ...state, trace };
}
