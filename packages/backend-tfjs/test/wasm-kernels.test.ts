// Kernels of ours on WebAssembly: products in every form, and what views of one memory must not share.
import { createReferenceBackend } from '@lowbit/backend-reference';
import { createRng, matmul, read, reshape, type Tensor, tensor } from '@lowbit/core';
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
});
