// What corrections and trained adapters take, from shapes.
import type { Cost, Workload } from '@lowbit/core';
import { type TrainingCourse, trainingCost } from '@lowbit/train';

/** Adapters as a share of the weights, where ranks follow from an overhead in bits: 5 % of some 3 bits a weight, in float16. */
const ADAPTER_SHARE = 0.01;

interface AdapterOptions extends Pick<TrainingCourse, 'epochs' | 'maxTokens' | 'batchWindows' | 'holdOut'> {
  readonly rank?: number | undefined;
}

function adapterElements({ linears }: Pick<Workload<{ readonly rank?: number | undefined }>, 'linears'>): number {
  return linears.reduce(
    (total, { inFeatures, outFeatures, options: { rank } }) =>
      total + (rank === undefined ? ADAPTER_SHARE * inFeatures * outFeatures : rank * (inFeatures + outFeatures)),
    0,
  );
}

export function adapterTrainingCost(work: Workload<AdapterOptions>, hasTeacher: boolean): Cost {
  const { epochs, maxTokens, batchWindows, holdOut } = work.options;
  return trainingCost(work, { epochs, maxTokens, batchWindows, holdOut, parameters: adapterElements(work), hasTeacher });
}

/** A singular value decomposition by subspace iteration: products of the error with a few more vectors than the rank. */
const SUBSPACE_PRODUCTS = 24;

/** Values for each weight in loops on the host, counted as what kernels do meanwhile. */
const HOST_VALUES = 200;

/** Of each Linear [o, n] a root of its second moment, n³ and products with it, and a truncated decomposition of the error; for each round. */
export function correctionCost(
  work: Workload<{ readonly rank?: number | undefined; readonly rounds: number; readonly form: string }>,
): Cost {
  let [flops, elements, bytes] = [0, 0, 0];
  for (const { inFeatures: n, outFeatures: o, options } of work.linears) {
    const rank = options.rank ?? Math.ceil((ADAPTER_SHARE * n * o) / (n + o));
    const rounds = options.form === 'loftq' ? options.rounds : 1;
    flops += n ** 3 + rounds * (4 * o * n ** 2 + SUBSPACE_PRODUCTS * 2 * o * n * (rank + 10));
    elements += HOST_VALUES * rounds * o * n;
    bytes = Math.max(bytes, 4 * (4 * n ** 2 + 6 * o * n));
  }
  return { flops, elements, bytes };
}
