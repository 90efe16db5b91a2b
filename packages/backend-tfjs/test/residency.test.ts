// What stays on the device, how often it travels, and that memory does not grow.
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { add, createRng, exp, grad, matmul, mean, mul, read, relu, reshape, square, sub, sum, type Tensor, tensor } from '@lowbit/core';
import { adam, trainStep } from '@lowbit/train';
import { afterEach, describe, expect, it } from 'vitest';
import { createTfjsBackend, type TfjsBackend, type TfjsBackendOptions } from '../src/index.js';

setFlagsFromString('--expose-gc');
const collect = runInNewContext('gc') as () => void;

/**
 * Until nothing more leaves the device: what nobody reaches is found by the collector at one time and reported at another. Steps whose leaves are
 * to be gone have to be functions of their own, since a frame may reach what its last turn of a loop made.
 */
async function collectGarbage(backend: TfjsBackend): Promise<void> {
  let [pieces, quiet] = [-1, 0];
  for (let turn = 0; turn < 200 && quiet < 10; turn++) {
    collect();
    await new Promise((resolve) => setTimeout(resolve, 1));
    const now = backend.statistics.device.pieces;
    quiet = now === pieces ? quiet + 1 : 0;
    pieces = now;
  }
}

const normal = (seed: number, shape: readonly [number, number]): Tensor => tensor(createRng(seed).normal(shape[0] * shape[1]), shape);

describe.each(['cpu', 'wasm'] as const)('tfjs:%s', (device) => {
  const open: TfjsBackend[] = [];
  const create = async (options: TfjsBackendOptions = {}): Promise<TfjsBackend> => {
    const backend = await createTfjsBackend({ device, ...options });
    open.push(backend);
    return backend;
  };
  afterEach(async () => {
    for (const backend of open.splice(0)) await backend.dispose();
  });

  it('copies each unchanged leaf to the device once in 100 training steps, and holds as much after them as after 10', async () => {
    const backend = await create();
    const [x, y, frozen, rate] = [normal(1, [16, 24]), normal(2, [16, 8]), normal(3, [24, 32]), tensor(0.01)];
    let weight = normal(4, [32, 8]);
    const train = async (): Promise<number> => {
      const loss = mean(square(sub(matmul(relu(matmul(x, frozen)), weight), y)));
      const [slope] = grad(loss, [weight]);
      const [value, next] = await backend.evaluate([loss, sub(weight, mul(slope, rate))], { release: [weight] });
      weight = next;
      return (await read(value))[0];
    };
    const losses: number[] = [];
    const held: number[][] = [];
    for (let step = 1; step <= 100; step++) {
      losses.push(await train());
      if (step % 90 !== 10) continue;
      await collectGarbage(backend);
      const { resident, device: memory } = backend.statistics;
      held.push([resident.uploads, resident.bytes, memory.bytes, memory.pieces]);
    }
    expect(held[0][0]).toBe(5);
    expect(held[1]).toEqual(held[0]);
    expect(losses[99]).toBeLessThan(0.5 * losses[0]);
  });

  it('trains with Adam on memory that does not grow', async () => {
    const backend = await create();
    const [x, y] = [normal(1, [16, 24]), normal(2, [16, 8])];
    let state = adam().start(new Map([['w', normal(4, [24, 8])]]));
    const lossOf = (parameters: ReadonlyMap<string, Tensor>): Tensor => mean(square(sub(matmul(x, parameters.get('w') as Tensor), y)));
    const train = async (step: number): Promise<void> => {
      ({ state } = await trainStep({ backend, optimizer: adam(), state, lossOf, step, learningRate: 0.01, release: true }));
    };
    const held: number[][] = [];
    for (let step = 1; step <= 40; step++) {
      await train(step);
      if (step % 30 !== 10) continue;
      await collectGarbage(backend);
      held.push([backend.statistics.resident.bytes, backend.statistics.device.pieces]);
    }
    expect(held[1]).toEqual(held[0]);
  });

  it('keeps the memory of a chain at its leaf and two values, however long it is', async () => {
    const backend = await create();
    let x = tensor(new Float32Array(1000));
    for (let i = 0; i < 20; i++) x = reshape(mul(exp(x), 0), i % 2 === 0 ? [10, 100] : [1000]);
    await backend.evaluate([x]);
    // And the constant 0.
    expect(backend.statistics.device.peakBytes).toBe(3 * 4000 + 4);
  });

  it('prepares the weights of a chain of products one by one', async () => {
    const backend = await create();
    let x = normal(6, [8, 40]);
    for (let i = 0; i < 10; i++) x = matmul(x, exp(normal(7 + i, [40, 40])));
    await backend.evaluate([x]);
    // Leaves, and at one time a weight with the product before and after it.
    expect(backend.statistics.device.peakBytes).toBe(4 * (320 + 10 * 1600) + 4 * (1600 + 2 * 320));
  });

  it('frees everything of an evaluation but its results', async () => {
    const backend = await create();
    const x = normal(5, [40, 40]);
    const [y] = await backend.evaluate([sum(matmul(exp(x), add(x, 1)))]);
    const { device: memory } = backend.statistics;
    expect(memory.bytes).toBe(4 * 1600 + 4 + 4);
    expect(await read(y)).toHaveLength(1);
  });

  it('lets the leaves go that were not used for longest, results for host memory, and computes on', async () => {
    const backend = await create({ residentBytes: 8000 });
    const results: Tensor[] = [];
    const leaves = [1, 2, 3, 4].map((factor) => tensor(new Float32Array(1000).fill(factor)));
    for (const leaf of leaves) results.push(...(await backend.evaluate([mul(leaf, 10)])));
    expect(backend.statistics.resident.bytes).toBeLessThanOrEqual(8000);
    for (const [i, result] of results.entries()) expect((await read(result))[999]).toBe(10 * (i + 1));
    const [total] = await backend.evaluate([sum(results.reduce((a, b) => add(a, b)))]);
    expect((await read(total))[0]).toBe(100_000);
  });

  it('lets the leaves go that nobody can reach', async () => {
    const backend = await create();
    const leave = async (): Promise<void> => {
      await backend.evaluate([mul(tensor(new Float32Array(1000)), 2)]);
    };
    for (let i = 0; i < 5; i++) await leave();
    await collectGarbage(backend);
    expect(backend.statistics.resident.bytes).toBe(0);
  });

  it('refuses a result that was released, and reads results after dispose', async () => {
    const backend = await create();
    const [kept, released] = await backend.evaluate([mul(tensor([1, 2]), 2), mul(tensor([1, 2]), 3)]);
    await backend.evaluate([mul(released, 2)], { release: [released] });
    await expect(read(released)).rejects.toThrow(/TENSOR_RELEASED/);
    await expect(backend.evaluate([mul(released, 2)])).rejects.toThrow(/TENSOR_RELEASED/);
    await backend.dispose();
    expect(Array.from(await read(kept))).toEqual([2, 4]);
    await expect(backend.evaluate([mul(kept, 2)])).rejects.toThrow(/BACKEND_DISPOSED/);
  });

  it('computes with what another evaluation released meanwhile from its own leaf', async () => {
    const backend = await create();
    const x = tensor([1, 2, 3]);
    const [view] = await backend.evaluate([reshape(x, [3, 1])], { release: [x] });
    const [y] = await backend.evaluate([mul(view, 2)]);
    expect(Array.from(await read(y))).toEqual([2, 4, 6]);
  });
});
