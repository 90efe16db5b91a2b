// Kernels of ours on WebAssembly, in the place of those that are slow, lose a NaN, or write beside their output.
import { createReferenceBackend } from '@lowbit/backend-reference';
import {
  add,
  createRng,
  equal,
  exp,
  less,
  lessEqual,
  matmul,
  maximum,
  minimum,
  read,
  reshape,
  sum,
  type Tensor,
  tensor,
  transpose,
  where,
} from '@lowbit/core';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { createTfjsBackend, type TfjsBackend } from '../src/index.js';

const rng = createRng(3);

function normal(name: string, shape: readonly number[]): Tensor {
  return tensor(rng.at(name).normal(shape.reduce((product, size) => product * size, 1)), shape);
}

describe('kernels for WebAssembly', () => {
  const oracle = createReferenceBackend();
  let backend: TfjsBackend;
  beforeAll(async () => {
    backend = await createTfjsBackend({ device: 'wasm' });
  });
  afterAll(() => backend.dispose());

  async function expectEqual(tensors: readonly Tensor[]): Promise<void> {
    const computed = await backend.evaluate(tensors);
    for (const [i, exact] of (await oracle.evaluate(tensors)).entries()) {
      const [actual, expected] = [await read(computed[i]), await read(exact)];
      expect(computed[i].shape).toEqual(exact.shape);
      for (const [at, value] of expected.entries()) expect(Math.abs(actual[at] - value), `${i}: ${at}`).toBeLessThan(1e-4);
    }
  }

  // One row, few and many: of a product and its transpose, the cheaper one is computed.
  const shapes: readonly (readonly number[])[] = [
    [1, 5, 40],
    [40, 5, 1],
    [33, 17, 29],
    [7, 64, 100],
  ];
  const batches: readonly (readonly [readonly number[], readonly number[]])[] = [
    [[], []],
    [[3], [3]],
    [[3], [1]],
    [[1], [3]],
    [[2, 3], [3]],
  ];
  it.each(shapes)('multiplies %i × %i by × %i, transposed or not, in batches that are equal or one', async (rows, inner, columns) => {
    const products = [false, true].flatMap((transposeA) =>
      [false, true].flatMap((transposeB) =>
        batches.map(([batchesA, batchesB]) => {
          const a = normal('a', [...batchesA, ...(transposeA ? [inner, rows] : [rows, inner])]);
          const b = normal('b', [...batchesB, ...(transposeB ? [columns, inner] : [inner, columns])]);
          return matmul(a, b, { transposeA, transposeB });
        }),
      ),
    );
    await expectEqual(products);
  });

  it('multiplies by one leaf in several shapes', async () => {
    const weight = normal('weight', [6, 4]);
    await expectEqual([matmul(normal('x', [2, 6]), weight), matmul(normal('y', [2, 3]), reshape(weight, [3, 8]))]);
    await expectEqual([matmul(normal('z', [2, 12]), reshape(weight, [12, 2]))]);
  });

  it('gives the same bits for rows alone as among others', async () => {
    const [x, weight] = [normal('x', [9, 48]), normal('weight', [20, 48])];
    const [all] = await backend.evaluate([matmul(x, weight, { transposeB: true })]);
    const values = await read(x);
    for (let row = 0; row < 9; row++) {
      const alone = tensor(values.slice(48 * row, 48 * (row + 1)) as Float32Array, [1, 48]);
      const [one] = await backend.evaluate([matmul(alone, weight, { transposeB: true })]);
      expect(Array.from(await read(one))).toEqual(Array.from((await read(all)).slice(20 * row, 20 * (row + 1))));
    }
  });

  it('leaves nothing behind', async () => {
    const product = (transposeA: boolean) => matmul(normal('a', [3, 8, 8]), normal('b', [3, 8, 8]), { transposeA, transposeB: true });
    for (const transposeA of [false, true]) {
      const { pieces } = backend.statistics.device;
      const x = product(transposeA);
      const leaves = x.source.kind === 'expression' ? x.source.inputs : [];
      const [result] = await backend.evaluate([x]);
      await backend.evaluate([matmul(result, result)], { release: [result, ...leaves] });
      expect(backend.statistics.device.pieces - pieces).toBeLessThanOrEqual(1);
    }
  });

  it('compares and picks broadcast elements of every type', async () => {
    const column = tensor(Int32Array.of(0, 2, 4), [3, 1]);
    const row = tensor(Int32Array.of(1, 2, 3, 4));
    const [a, b] = [normal('a', [2, 1, 3, 1]), normal('b', [5, 1, 4])];
    const truths = [tensor(Uint8Array.of(1, 0, 1, 0, 1, 1), [2, 3], 'bool'), tensor(Uint8Array.of(0, 0, 1), [3], 'bool')];
    await expectEqual([
      ...[equal, less, lessEqual, maximum, minimum].map((operator) => operator(column, row)),
      ...[less, lessEqual, maximum, minimum].map((operator) => operator(a, b)),
      where(less(a, b), a, b),
      where(less(column, row), column, row),
    ]);
    await expectEqual([where(truths[0], truths[0], truths[1]), where(truths[1], truths[0], truths[1]), less(truths[1], truths[0])]);
    // What is behind the output is still what it was.
    await expectEqual([sum(normal('c', [300, 7]), [0])]);
  });

  it('keeps a NaN on either side of a maximum or minimum', async () => {
    const [x, y] = [tensor([1, Number.NaN, 3]), tensor([Number.NaN, 2, -3])];
    const results = await backend.evaluate([maximum(x, y), minimum(x, y), maximum(x, Number.NaN)]);
    expect(await Promise.all(results.map(async (result) => Array.from(await read(result))))).toEqual([
      [Number.NaN, Number.NaN, 3],
      [Number.NaN, Number.NaN, -3],
      [Number.NaN, Number.NaN, Number.NaN],
    ]);
  });

  it('broadcasts over more axes than its kernels take, and says where it cannot', async () => {
    const [x, y] = [normal('x', [2, 2, 2, 2, 2, 2, 2]), normal('y', [2, 1, 1, 1, 1, 1])];
    await expectEqual([add(x, y), exp(x), maximum(x, y)]);
    const alternating = add(normal('x', [2, 1, 2, 1, 2, 1, 2]), normal('y', [1, 2, 1, 2, 1, 2, 1]));
    for (const beyond of [transpose(x, [6, 5, 4, 3, 2, 1, 0]), sum(x, [0]), alternating]) {
      await expect(backend.evaluate([beyond])).rejects.toThrow(/TFJS_KERNEL: .*it takes six axes at most/);
    }
  });
});
