// Options, the program cache and the buffer pool of the ONNX Runtime backend.
import { createRng, div, grad, lazyTensor, matmul, maximum, mean, mul, read, square, sum, type Tensor, tensor } from '@lowbit/core';
import { afterAll, describe, expect, it } from 'vitest';
import { BufferPool } from '../src/buffer-pool.js';
import { createOnnxBackend } from '../src/index.js';

describe('options', () => {
  it('rejects an unknown provider and names the known ones', async () => {
    await expect(createOnnxBackend({ provider: 'tpu' as never })).rejects.toThrow(/BACKEND_PROVIDER: .*'tpu'; known: cpu, webgpu, cuda/);
  });

  it('rejects a thread count below one', async () => {
    await expect(createOnnxBackend({ threads: 0 })).rejects.toThrow(/BACKEND_THREADS/);
  });

  it('rejects a cache without room for a program', async () => {
    await expect(createOnnxBackend({ programs: 0 })).rejects.toThrow(/BACKEND_PROGRAMS/);
  });

  it('says what a provider needs when its device is missing', async () => {
    const missing = process.platform === 'darwin' ? 'dml' : 'coreml';
    await expect(createOnnxBackend({ provider: missing })).rejects.toThrow(/BACKEND_UNAVAILABLE: .*only/);
  });
});

describe('program cache', () => {
  it('drops the least recently used program and compiles it again when needed', async () => {
    const backend = await createOnnxBackend({ programs: 2 });
    afterAll(() => backend.dispose());
    const run = (size: number): Promise<unknown> => backend.evaluate([mul(tensor(new Float32Array(size)), 2)]);
    for (const size of [1, 2, 1, 3, 1, 2]) await run(size);
    // 1, 2 and 3 once each; 2 once more, since it was the oldest when 3 came.
    expect(backend.statistics.compilations).toBe(4);
    expect(backend.statistics.evaluations).toBe(6);
  });

  it('keeps a dropped program until the evaluations that use it are done', async () => {
    const backend = await createOnnxBackend({ programs: 1 });
    afterAll(() => backend.dispose());
    const slow = (size: number): Tensor =>
      lazyTensor([size], 'float32', async () => {
        await new Promise((resolve) => setTimeout(resolve, 5));
        return new Float32Array(size).fill(size);
      });
    const results = await Promise.all([1, 2, 3].map((size) => backend.evaluate([mul(slow(size), 2)])));
    expect(await Promise.all(results.map(async ([y]) => (await read(y))[0]))).toEqual([2, 4, 6]);
  });

  it('tells programs apart that differ in a constant JSON does not have', async () => {
    const backend = await createOnnxBackend();
    afterAll(() => backend.dispose());
    const largest = async (limit: number): Promise<number> => (await read((await backend.evaluate([maximum(tensor([3]), limit)]))[0]))[0];
    expect([await largest(Infinity), await largest(-Infinity)]).toEqual([Infinity, 3]);
    const [plus, minus] = await backend.evaluate([div(tensor([1]), 0), div(tensor([1]), -0)]);
    expect([(await read(plus))[0], (await read(minus))[0]]).toEqual([Infinity, -Infinity]);
  });

  it('shares the forward pass between a loss and its gradient', async () => {
    const backend = await createOnnxBackend();
    afterAll(() => backend.dispose());
    const w = tensor(createRng(1).normal(16), [4, 4]);
    const loss = mean(square(matmul(w, w)));
    const [gradient] = grad(loss, [w]);
    const [, together] = await backend.evaluate([loss, gradient]);
    const [alone] = await backend.evaluate([gradient]);
    expect(await read(together)).toEqual(await read(alone));
  });
});

describe('threads', () => {
  it('gives the same bytes in two backends with the same number of threads', async () => {
    const x = tensor(createRng(2).normal(300 * 200), [300, 200]);
    const graph = (): Tensor => sum(matmul(x, x, { transposeB: true }), [1]);
    const results: Tensor[] = [];
    for (let i = 0; i < 2; i++) {
      const backend = await createOnnxBackend({ threads: 2 });
      const [y] = await backend.evaluate([graph()]);
      results.push(y);
      await backend.dispose();
    }
    expect(await read(results[0])).toEqual(await read(results[1]));
  });
});

describe('BufferPool', () => {
  it('hands back what it was given, once', () => {
    const pool = new BufferPool(1000);
    const buffer = new Float32Array(8);
    pool.give('float32', buffer);
    pool.give('float32', buffer);
    expect(pool.take('float32', 8)).toBe(buffer);
    expect(pool.take('float32', 8)).not.toBe(buffer);
  });

  it('refuses views and what exceeds its limit', () => {
    const pool = new BufferPool(40);
    const whole = new Float32Array(8);
    pool.give('float32', whole.subarray(0, 4));
    expect(pool.take('float32', 4).buffer).not.toBe(whole.buffer);
    pool.give('float32', new Float32Array(11));
    expect(pool.take('float32', 11)).toHaveLength(11);
  });

  it('keeps types of equal size apart', () => {
    const pool = new BufferPool(1000);
    pool.give('int32', new Int32Array(4));
    expect(pool.take('float32', 4)).toBeInstanceOf(Float32Array);
  });
});
