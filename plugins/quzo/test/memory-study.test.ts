// Counted memory: what counts and for how long, and the study that holds steps of training against it.
import { createReferenceBackend } from '@lowbit/backend-reference';
import { add, createRng, exp, type Model, matmul, mul, reshape, type StudyContext, sum, tensor } from '@lowbit/core';
import { quantize } from '@lowbit/pipeline';
import { rtn } from '@lowbit/rtn';
import { createToyModel } from '@lowbit/testkit';
import { describe, expect, it } from 'vitest';
import { countingBackend } from '../src/experiments/counting-backend.js';
import { memory } from '../src/experiments/memory.js';

const engine = createReferenceBackend();
const floats = (size: number) => tensor(new Float32Array(size).fill(1));

describe('a backend that counts', () => {
  it('counts what is kept, what is read, and values up to their last use', async () => {
    const [kept, a] = [new ArrayBuffer(1000), floats(10)];
    const counting = countingBackend(engine, () => [kept]);
    // Two values live at once at most: exp(a) goes when the product has been made, and a view of it is no value of its own.
    const product = mul(exp(a), a);
    const [made] = await counting.evaluate([sum(reshape(product, [2, 5]))]);
    expect(counting.peak).toBe(1000 + 40 + 2 * 40);
    expect(made.size).toBe(1);
  });

  it('counts memory once, whoever views it, and results until they are released', async () => {
    const weights = new Float32Array(100);
    const view = tensor(weights.subarray(0, 10));
    const counting = countingBackend(engine, () => [weights.buffer]);
    const [first] = await counting.evaluate([add(view, view)]);
    expect(counting.peak).toBe(400 + 40);
    const [second] = await counting.evaluate([add(view, view)]);
    expect(counting.peak).toBe(400 + 40 + 40);
    await counting.evaluate([add(first, second)], { release: [first, second] });
    expect(counting.peak).toBe(400 + 3 * 40);
    // Both are gone by now, and a result of theirs is there.
    await counting.evaluate([exp(view)]);
    expect(counting.peak).toBe(400 + 3 * 40);
  });

  it('no longer counts what was kept once it is released', async () => {
    const [old, large] = [floats(50), tensor(new Float32Array(40 * 40), [40, 40])];
    const counting = countingBackend(engine, () =>
      [old.source, large.source].flatMap((s) => (s.kind === 'leaf' && s.data ? [s.data.buffer] : [])),
    );
    await counting.evaluate([exp(old)], { release: [old] });
    expect(counting.peak).toBe(200 + 6400 + 200);
    await counting.evaluate([sum(matmul(large, large))]);
    expect(counting.peak).toBe(6400 + 200 + 6400 + 4);
  });
});

describe('quzo/memory', () => {
  const sizes = { hiddenSize: 64, innerSize: 96, vocabularySize: 64, contextLength: 32, headCount: 4, keyValueHeadCount: 4 };
  async function contextOf(dense: Model): Promise<StudyContext> {
    const { model: quantized } = await quantize({ model: dense, backend: engine, recipe: [rtn({ bits: 8, groupSize: 32 })] });
    const unused = (): never => {
      throw new Error('not asked for');
    };
    return {
      outcome: { arm: memory.arms[0], model: 'toy', seed: 0, scores: {}, logs: [], bitsPerWeight: 8.5, seconds: 1 },
      ...{ dense, quantized, backend: engine, rng: createRng(1), signal: undefined },
      ...{ progress: () => {}, quantize: unused, scoresOf: unused, layerErrors: unused },
    };
  }

  it('counts each kind of step, with what it keeps for each weight, and names the published ratios', async () => {
    const toy = createToyModel({ ...sizes, blockCount: 3 });
    const dense = toy.with({ config: { ...toy.config, source: { intermediate_size: sizes.innerSize } } });
    const rows = await memory.study(await contextOf(dense));
    const counted = (quantity: string): number => {
      const row = rows.find((one) => one['quantity'] === quantity && one['unit'] === 'MB');
      return 1e6 * Number(row?.['counted']);
    };
    const codes = 3 * (4 * 64 * 64 + 3 * 64 * 96);
    const step = counted('a step of quzo on INT8 codes, rounded at random');
    const [long, short] = [counted('the same, the carry in float32'), counted('the same, the carry in 16 bits')];
    expect(long - step).toBeCloseTo(4 * codes, 0);
    expect(short - step).toBeCloseTo(2 * codes, 0);
    // One tile's carry, of each size of tensor.
    expect(counted('the same with error feedback, the carry rebuilt') - step).toBeCloseTo(4 * (64 * 64 + 64 * 96), 0);
    expect(rows.filter((row) => row['published'] !== undefined).map((row) => row['published'])).toEqual([2.94, 5.47, 7.8]);
    const verdicts = (memory.claims ?? []).flatMap((claim) => claim.check(rows));
    expect(verdicts.map(({ holds }) => holds)).toHaveLength(5);
    expect(verdicts.slice(0, 3).every(({ holds }) => holds)).toBe(true);
  });
});
