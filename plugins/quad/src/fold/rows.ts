// Large matrices through a graph a few rows at a time: embeddings and heads.
import { type Backend, readFloats, type Tensor, tensor } from '@lowbit/core';
import { transientCompute } from '@lowbit/linalg';

/** Elements of a panel of rows. */
const PANEL = 2 ** 22;

/**
 * `graph` of the rows of a matrix [rows, in], which gives [rows, columns], through `finish`: the matrix is read once, and intermediates are
 * those of a panel.
 */
export async function byRows(
  backend: Backend,
  matrix: Tensor,
  columns: number,
  graph: (rows: Tensor) => Tensor,
  finish: (values: Float32Array) => Float32Array = (values) => values,
): Promise<Tensor> {
  const [rows, width] = matrix.shape;
  const [leaf] = matrix.isLeaf ? [matrix] : await backend.evaluate([matrix]);
  const values = await readFloats(leaf);
  const compute = transientCompute(backend);
  const result = new Float32Array(rows * columns);
  const panelRows = Math.max(1, Math.floor(PANEL / width));
  for (let start = 0; start < rows; start += panelRows) {
    const end = Math.min(rows, start + panelRows);
    const panel = tensor(values.subarray(start * width, end * width), [end - start, width]);
    await compute([graph(panel)], (y) => result.set(finish(y), start * columns));
  }
  return tensor(result, [rows, columns]);
}
