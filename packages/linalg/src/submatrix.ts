// Rectangles of row-major float32 matrices: cut out, put back, and the split that keeps the number of distinct shapes small.

/** The rectangle [rows, columns] at (row, column) of a matrix whose rows are `stride` long: a dense copy, or a view where whole rows are taken. */
export function cut(source: Float32Array, stride: number, row: number, column: number, rows: number, columns: number): Float32Array {
  if (columns === stride) return source.subarray(row * stride, (row + rows) * stride);
  const block = new Float32Array(rows * columns);
  for (let i = 0; i < rows; i++) {
    const start = (row + i) * stride + column;
    block.set(source.subarray(start, start + columns), i * columns);
  }
  return block;
}

/** Writes a dense block [rows, columns] into the rectangle at (row, column). */
export function paste(
  target: Float32Array,
  stride: number,
  row: number,
  column: number,
  rows: number,
  columns: number,
  block: Float32Array,
): void {
  for (let i = 0; i < rows; i++) target.set(block.subarray(i * columns, (i + 1) * columns), (row + i) * stride + column);
}

/** Writes the lower triangle of a dense block [size, size] at (start, start); what lies above the diagonal is left as it is. */
export function pasteLower(target: Float32Array, stride: number, start: number, size: number, block: Float32Array): void {
  for (let i = 0; i < size; i++) target.set(block.subarray(i * size, i * size + i + 1), (start + i) * stride + start);
}

/**
 * Where a recursion over `size` rows divides: the largest block·2^k below `size`. All but the last part of each level are then of
 * sizes block·2^k whatever the matrix size, and programs compiled for one matrix serve the others.
 */
export function splitPoint(size: number, block: number): number {
  let first = block;
  while (first * 2 < size) first *= 2;
  return first;
}
