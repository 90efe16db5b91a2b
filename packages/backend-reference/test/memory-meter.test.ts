// What counts as live memory: leaves until they are released or out of reach, values until their last use, views once.
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { add, exp, lazyTensor, mul, neg, reshape, sum, type Tensor, tensor } from '@lowbit/core';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { createReferenceBackend, MemoryMeter } from '../src/index.js';

setFlagsFromString('--expose-gc');
const collect = runInNewContext('gc') as () => void;
async function collectGarbage(): Promise<void> {
  await new Promise(setImmediate);
  collect();
}

/** Float32 elements. */
const zeros = (size: number): Tensor => tensor(new Float32Array(size));

function metered(meter = new MemoryMeter()) {
  return { meter, backend: createReferenceBackend({ meter }) };
}

describe('MemoryMeter', () => {
  it('counts a chain as its leaf and two values, however long it is', async () => {
    await fc.assert(
      fc.asyncProperty(fc.integer({ min: 1, max: 50 }), fc.integer({ min: 2, max: 6 }), async (size, length) => {
        const { meter, backend } = metered();
        let x = zeros(size);
        for (let i = 0; i < length; i++) x = exp(x);
        await backend.evaluate([x]);
        expect(meter.peak).toBe(4 * size * 3);
      }),
    );
  });

  it('keeps a value until its last user is computed', async () => {
    const { meter, backend } = metered();
    const shared = exp(zeros(10));
    await backend.evaluate([add(shared, neg(exp(shared)))]);
    // The leaf; shared, its exponential and that negated, or shared, the negated one and the sum.
    expect(meter.peak).toBe(4 * 10 * 4);
  });

  it('computes equal nodes once', async () => {
    const { meter, backend } = metered();
    const x = zeros(10);
    await backend.evaluate([mul(exp(x), exp(x))]);
    expect(meter.peak).toBe(4 * 10 * 3);
  });

  it('counts each element as wide as its type, and one memory once', async () => {
    const { meter, backend } = metered();
    const values = new Float32Array(10);
    const views = [tensor(values), tensor(values, [2, 5]), tensor(values.subarray(0, 5)), tensor(new Uint8Array(7))];
    await backend.evaluate(views);
    expect(meter.peak).toBe(4 * 10 + 7);
    meter.reset();
    await backend.evaluate([sum(reshape(views[1], [5, 2]))]);
    expect(meter.peak).toBe(4 * 10 + 7 + 4);
  });

  it('forgets what is released, and a leaf that is read from elsewhere after its last use', async () => {
    const { meter, backend } = metered();
    const [x, far] = [zeros(10), lazyTensor([10], 'float32', () => new Float32Array(10))];
    const [y] = await backend.evaluate([add(x, far)], { release: [x] });
    expect(meter.peak).toBe(4 * 10 * 3);
    expect(await meter.held()).toBe(4 * 10);
    await backend.evaluate([y], { release: [y] });
    expect(await meter.held()).toBe(0);
  });

  it('forgets what nobody can reach once the garbage is collected', async () => {
    const { meter, backend } = metered(new MemoryMeter(collectGarbage));
    const kept: Tensor[] = [];
    const run = async (): Promise<void> => {
      const [lost, found] = await backend.evaluate([exp(zeros(1000)), neg(zeros(10))]);
      expect(lost.size).toBe(1000);
      kept.push(found);
    };
    await run();
    expect(await meter.held()).toBe(4 * 10);
    expect(kept[0].size).toBe(10);
  });
});

it('without a meter nothing is kept, not even until the event loop turns', async () => {
  const backend = createReferenceBackend();
  const [size, count] = [250_000, 40];
  collect();
  const before = process.memoryUsage().arrayBuffers;
  let x = zeros(size);
  for (let i = 0; i < count; i++) [x] = await backend.evaluate([neg(x)]);
  collect();
  expect(process.memoryUsage().arrayBuffers - before).toBeLessThan((4 * size * count) / 2);
  expect(x.size).toBe(size);
});
