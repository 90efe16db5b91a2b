// Folds a group's statistics over the calibration batches.
import { type Block, flattenRows, type LinearGroup, type Statistic, type Tensor } from '@lowbit/core';
import type { Run } from './run.js';

export interface FoldedStatistics {
  readonly values: ReadonlyMap<Statistic, Tensor>;
  /** Rows (tokens) that were folded. */
  readonly rows: number;
}

/**
 * Folds over what the group reads in the block as it is now, so that groups quantized before it are seen quantized ("true
 * sequential", GPTQ). One evaluation a batch; the old totals' memory is handed back to the backend.
 */
export async function foldStatistics(
  run: Run,
  block: Block,
  group: LinearGroup,
  statistics: readonly Statistic[],
  inputs: readonly Tensor[],
  onBatch: () => void,
): Promise<FoldedStatistics> {
  let totals: readonly Tensor[] | undefined;
  let rows = 0;
  for (const x of inputs) {
    const read = flattenRows(block.trace(x).inputs[group.name]);
    const previous: readonly Tensor[] | undefined = totals;
    const folded = statistics.map((statistic, s) => (previous ? statistic.merge(previous[s], statistic.of(read)) : statistic.of(read)));
    totals = await run.backend.evaluate(folded, previous && { release: previous });
    rows += read.shape[0];
    onBatch();
  }
  const values = totals ?? [];
  return { values: new Map(statistics.map((statistic, s) => [statistic, values[s]])), rows };
}
