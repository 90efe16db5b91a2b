// Options, the program cache and the buffer pool of the ONNX Runtime backend.
import { existsSync } from 'node:fs';
import {
  createRng,
  div,
  exp,
  grad,
  lazyTensor,
  matmul,
  maximum,
  mean,
  mul,
  read,
  reshape,
  square,
  structureOf,
  sum,
  type Tensor,
  tensor,
} from '@lowbit/core';
import { afterAll, describe, expect, it } from 'vitest';
import { BufferPool } from '../src/buffer-pool.js';
import { createOnnxBackend } from '../src/index.js';
import type { Program } from '../src/program.js';
import { ProgramCache } from '../src/program-cache.js';
import { workingBytes } from '../src/working-bytes.js';

describe('options', () => {
  it('rejects an unknown provider and names the known ones', async () => {
    await expect(createOnnxBackend({ provider: 'tpu' as never })).rejects.toThrow(/BACKEND_PROVIDER: .*'tpu'; known: cpu, webgpu, cuda/);
  });

  it('rejects a thread count below one', async () => {
    await expect(createOnnxBackend({ threads: 0 })).rejects.toThrow(/BACKEND_THREADS/);
    await expect(createOnnxBackend({ threads: 100_000 })).rejects.toThrow(/BACKEND_THREADS.*from 1 to 1024/);
  });

  it('rejects a cache without room for a program', async () => {
    await expect(createOnnxBackend({ programs: 0 })).rejects.toThrow(/BACKEND_PROGRAMS/);
  });

  it('computes the same whether programs keep their memory or not', async () => {
    const x = tensor(createRng(4).normal(48 * 48), [48, 48]);
    const results: Tensor[] = [];
    for (const keepMemory of [true, false]) {
      const backend = await createOnnxBackend({ threads: 1, keepMemory });
      results.push(...(await backend.evaluate(grad(mean(square(matmul(exp(x), x))), [x]))));
      await backend.dispose();
    }
    expect(await read(results[1])).toEqual(await read(results[0]));
  });

  it('says what a provider needs when its device is missing', async () => {
    const missing = process.platform === 'darwin' ? 'dml' : 'coreml';
    await expect(createOnnxBackend({ provider: missing })).rejects.toThrow(
      /BACKEND_UNAVAILABLE: .*here \(.*backend not found.*\): it exists on \w+ only/,
    );
  });

  it('chooses a provider that works here where it is left to it, and says why', async () => {
    const backend = await createOnnxBackend({ provider: 'auto', threads: 1 });
    const [, provider] = backend.name.split(':');
    expect(backend.chosen).toMatch(
      new RegExp(`^${provider}, since .*(no GPU here|could not be started \\(.+\\)|a \\d+-cube matmul takes)`),
    );
    const [y] = await backend.evaluate([mul(tensor([1, 2]), 3)]);
    expect(Array.from(await read(y))).toEqual([3, 6]);
    await backend.dispose();
    const named = await createOnnxBackend({ threads: 1 });
    expect(named.chosen).toBeUndefined();
    await named.dispose();
  });

  it('names the driver, the libraries and the command that CUDA needs', async (test) => {
    const outcome = await createOnnxBackend({ provider: 'cuda', threads: 1 }).then(
      (backend) => backend.dispose(),
      (error: unknown) => String(error),
    );
    // What is tested is the error of a machine without CUDA, and one that has it gives none.
    if (outcome === undefined) test.skip('skipped since CUDA works on this machine, so that nothing is missing to be named');
    expect(outcome).toMatch(/BACKEND_UNAVAILABLE: .*'cuda'.*CUDA 12 and cuDNN 9.*--onnxruntime-node-install=cuda12/);
    const [, installer] = /`node (.+) --onnx/.exec(outcome as string) ?? [];
    expect(existsSync(installer), installer).toBe(true);
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

describe('working memory', () => {
  const structure = (root: Tensor) => structureOf([root]);
  const x = tensor(new Float32Array(1000));

  it('is what lives at once, results and leaves left out', () => {
    // Two values of a chain live at once; the last one is the result.
    expect(workingBytes(structure(exp(exp(exp(exp(x))))))).toBe(8000);
    expect(workingBytes(structure(exp(x)))).toBe(0);
    const y = exp(x);
    expect(workingBytes(structure(sum(mul(y, exp(y)))))).toBe(12000);
  });

  it('counts a reshaped value once', () => {
    const chain = exp(reshape(exp(reshape(exp(x), [10, 100])), [1000]));
    expect(workingBytes(structure(chain))).toBe(8000);
  });

  it('of idle programs is limited: the least recently used are dropped, the last few stay', async () => {
    const released: string[] = [];
    const program = (key: string): Program => ({ run: async () => 0, release: async () => void released.push(key) });
    const cache = new ProgramCache(async ({ key }) => program(key), { programs: 100, bytes: 20_000 });
    const sizes = Array.from({ length: 12 }, (_, i) => structure(exp(exp(exp(tensor(new Float32Array(1000 + i)))))));
    for (const one of sizes) {
      const cached = cache.acquire(one);
      await cached.program;
      await cached.giveBack();
    }
    await Promise.resolve();
    // 8000 bytes each: two fit, eight are always kept.
    expect(released).toEqual(sizes.slice(0, 4).map(({ key }) => key));
    expect(cache.compilations).toBe(12);
    cache.acquire(sizes[11]);
    expect(cache.compilations).toBe(12);
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

  it('refuses views', () => {
    const pool = new BufferPool(40);
    const whole = new Float32Array(8);
    pool.give('float32', whole.subarray(0, 4));
    expect(pool.take('float32', 4).buffer).not.toBe(whole.buffer);
  });

  it('lets go of the sizes that were not given for longest when it is full', () => {
    const pool = new BufferPool(100);
    const [old, recent] = [new Float32Array(8), new Float32Array(12)];
    pool.give('float32', old);
    pool.give('float32', recent);
    pool.give('float32', new Float32Array(6));
    expect(pool.take('float32', 8)).not.toBe(old);
    expect(pool.take('float32', 12)).toBe(recent);
  });

  it('keeps types of equal size apart', () => {
    const pool = new BufferPool(1000);
    pool.give('int32', new Int32Array(4));
    expect(pool.take('float32', 4)).toBeInstanceOf(Float32Array);
  });
});
