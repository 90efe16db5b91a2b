// Some rows of row-major matrices.

/** The indices of all rows. */
export function everyRow(count: number): Int32Array {
  return Int32Array.from({ length: count }, (_, r) => r);
}

/** Rows of a matrix `width` wide: a view where they follow each other. */
export function gatherRows<A extends Float32Array | Uint8Array>(matrix: A, width: number, rows: Int32Array): A {
  const [first, last] = [rows[0], rows[rows.length - 1]];
  if (rows.every((row, i) => row === first + i)) return matrix.subarray(first * width, (last + 1) * width) as A;
  const gathered = matrix.slice(0, rows.length * width) as A;
  rows.forEach((row, i) => {
    gathered.set(matrix.subarray(row * width, (row + 1) * width), i * width);
  });
  return gathered;
}
