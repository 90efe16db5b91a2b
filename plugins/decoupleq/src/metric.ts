// What the steps need of a layer's Hessian beside itself, prepared once for all Linears that share it.
import { type Tensor, tensor } from '@lowbit/core';
import { type QuadraticForm, quadraticForm } from '@lowbit/linalg';
import type { LayerProblem } from './problem.js';
import { choleskyWithHolds } from './scale-system.js';

/** H in the forms that products read. */
export interface Metric {
  /** [n, n] */
  readonly hessian: Tensor;
  /** For the errors of rows. */
  readonly form: QuadraticForm;
  grouped(groupSize: number, ridge: number): GroupedMetric;
}

/** H seen by groups of inputs. */
interface GroupedMetric {
  /** Rows of group j from its own columns on, [groupSize, n − j·groupSize]. */
  readonly strips: readonly Tensor[];
  /** Lower L [groups, groups] of the offsets' own system P₂₂ + λI = LLᵀ; P₂₂[j, k] = 1ᵀH_jk 1 is the same for all rows. */
  readonly offsetFactor: Float64Array;
  /** λ of it. */
  readonly offsetRidge: number;
  /** (H·1_k summed over the columns of each group) · L⁻ᵀ by group of rows: [groups, groupSize, groups]. */
  readonly coupling: Tensor;
}

/** By the Hessian's values: Linears of a group have one array between them. */
const prepared = new WeakMap<Float32Array, Metric>();

/** What float64 sums of float32 entries leave of a pivot of 0. */
const FLOAT64_FLOOR = 2 ** -40;
const FIRST_RIDGE = 1e-9;

export function metricOf({ hessian, inFeatures }: LayerProblem): Metric {
  const known = prepared.get(hessian);
  if (known) return known;
  const grouped = new Map<string, GroupedMetric>();
  const metric: Metric = {
    hessian: tensor(hessian, [inFeatures, inFeatures]),
    form: quadraticForm(hessian, inFeatures),
    grouped(groupSize, ridge) {
      const key = `${groupSize} ${ridge}`;
      const made = grouped.get(key) ?? groupMetric(hessian, inFeatures, groupSize, ridge);
      grouped.set(key, made);
      return made;
    },
  };
  prepared.set(hessian, metric);
  return metric;
}

function groupMetric(hessian: Float32Array, n: number, groupSize: number, ridge: number): GroupedMetric {
  const groups = n / groupSize;
  const strips = Array.from({ length: groups }, (_, j) => {
    const start = j * groupSize;
    const strip = new Float32Array(groupSize * (n - start));
    for (let i = 0; i < groupSize; i++) strip.set(hessian.subarray((start + i) * n + start, (start + i + 1) * n), i * (n - start));
    return tensor(strip, [groupSize, n - start]);
  });
  const sums = groupSums(hessian, n, n, groupSize);
  const { offsetFactor, offsetRidge } = factorOffsets(sums, groups, groupSize, ridge);
  // Rows of the sums times L⁻ᵀ: forward substitution, since (row · L⁻ᵀ)ᵀ = L⁻¹ · rowᵀ.
  const coupling = new Float32Array(n * groups);
  const solved = new Float64Array(groups);
  for (let i = 0; i < n; i++) {
    for (let k = 0; k < groups; k++) {
      let total = sums[i * groups + k];
      for (let l = 0; l < k; l++) total -= offsetFactor[k * groups + l] * solved[l];
      solved[k] = total / offsetFactor[k * (groups + 1)];
    }
    coupling.set(solved, i * groups);
  }
  return { strips, offsetFactor, offsetRidge, coupling: tensor(coupling, [groups, groupSize, groups]) };
}

/** L of the offsets' system, with as much ridge as it takes: the one asked for unless float32 sums have left H indefinite. */
function factorOffsets(
  sums: Float64Array,
  groups: number,
  groupSize: number,
  ridge: number,
): Pick<GroupedMetric, 'offsetFactor' | 'offsetRidge'> {
  const system = new Float64Array(groups * groups);
  for (let i = 0; i < sums.length / groups; i++) {
    const row = Math.floor(i / groupSize) * groups;
    for (let k = 0; k < groups; k++) system[row + k] += sums[i * groups + k];
  }
  let trace = 0;
  for (let j = 0; j < groups; j++) trace += system[j * (groups + 1)];
  for (let relative = ridge; ; relative = Math.max(10 * relative, FIRST_RIDGE)) {
    const offsetFactor = system.slice();
    const offsetRidge = (relative * trace) / groups;
    for (let j = 0; j < groups; j++) offsetFactor[j * (groups + 1)] += offsetRidge;
    if (choleskyWithHolds(offsetFactor, groups, FLOAT64_FLOOR) === 0) return { offsetFactor, offsetRidge };
  }
}

/** Sums over consecutive columns of a matrix [rows, columns]: [rows, columns / groupSize]. */
function groupSums(matrix: Float32Array, rows: number, columns: number, groupSize: number): Float64Array {
  const sums = new Float64Array((rows * columns) / groupSize);
  for (let g = 0, i = 0; g < sums.length; g++) {
    let total = 0;
    for (const end = i + groupSize; i < end; i++) total += matrix[i];
    sums[g] = total;
  }
  return sums;
}
