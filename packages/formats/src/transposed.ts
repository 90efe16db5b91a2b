// Weights of families that store them the other way round.
import { lazyTensor, readFloats, type Tensor } from '@lowbit/core';

/** Edge of the squares that are moved together, so that reads and writes stay near each other. */
const TILE = 32;

/** A leaf [columns, rows] over a float32 leaf [rows, columns]: fetched and turned each time it is needed. */
export function transposed(leaf: Tensor): Tensor {
  const [rows, columns] = leaf.shape;
  return lazyTensor([columns, rows], 'float32', async () => {
    const from = await readFloats(leaf);
    const to = new Float32Array(from.length);
    for (let row = 0; row < rows; row += TILE) {
      for (let column = 0; column < columns; column += TILE) turnTile(from, to, [rows, columns], [row, column]);
    }
    return to;
  });
}

function turnTile(from: Float32Array, to: Float32Array, shape: readonly [number, number], start: readonly [number, number]): void {
  const [rows, columns] = shape;
  const [lastRow, lastColumn] = [Math.min(rows, start[0] + TILE), Math.min(columns, start[1] + TILE)];
  for (let row = start[0]; row < lastRow; row++) {
    for (let column = start[1]; column < lastColumn; column++) to[column * rows + row] = from[row * columns + column];
  }
}
