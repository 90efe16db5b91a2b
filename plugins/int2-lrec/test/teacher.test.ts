// Teachers: a cached answer is what a live one says, up to the tail, and only for the windows that were cached.
import { createReferenceBackend } from '@lowbit/backend-reference';
import { createRng, klDivergence, mean, readFloats, readNumber, softmax, type Tensor, tensor } from '@lowbit/core';
import { createToyModel } from '@lowbit/testkit';
import { windowBatches } from '@lowbit/train';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { cachedTeacher, liveTeacher } from '../src/lrec/teacher.js';
import { topDivergence, topTokens } from '../src/lrec/top-k.js';

const backend = createReferenceBackend();
const [V, ROWS] = [40, 6];
const rng = createRng(23);

function logits(seed: number, spread: number): Tensor {
  return tensor(
    rng
      .at('logits', seed)
      .normal(ROWS * V)
      .map((z) => spread * z),
    [ROWS, V],
  );
}

async function valuesOf(t: Tensor): Promise<Float32Array> {
  return readFloats((await backend.evaluate([t]))[0]);
}

describe('topTokens', () => {
  it('keeps the largest, and the rest as one number', () => {
    fc.assert(
      fc.property(
        fc.array(fc.double({ min: 1e-6, max: 1, noNaN: true }), { minLength: 2, maxLength: 60 }),
        fc.integer({ min: 1, max: 70 }),
        (masses, k) => {
          const total = masses.reduce((a, b) => a + b, 0);
          const row = Float32Array.from(masses, (mass) => mass / total);
          const { tokens, probabilities, tail, k: kept } = topTokens(row, row.length, k);
          expect(kept).toBe(Math.min(k, row.length));
          expect(new Set(tokens).size).toBe(kept);
          expect([...probabilities]).toEqual([...tokens].map((token) => row[token]));
          const sorted = [...row].sort((a, b) => b - a);
          expect([...probabilities].sort((a, b) => b - a)).toEqual(sorted.slice(0, kept));
          expect(tail[0]).toBeCloseTo(
            sorted.slice(kept).reduce((a, b) => a + b, 0),
            5,
          );
        },
      ),
    );
  });
});

describe('topDivergence', () => {
  it('is never above the whole divergence, rises with k, and is whole at the end', async () => {
    for (const [seed, spread] of [
      [1, 1],
      [2, 3],
      [3, 6],
    ]) {
      const [teacher, student] = [logits(seed, spread), logits(seed + 100, spread)];
      const whole = await valuesOf(klDivergence(teacher, student));
      const probabilities = await valuesOf(softmax(teacher));
      let last: Float32Array = new Float32Array(ROWS);
      for (const k of [1, 4, 16, V]) {
        const found = await valuesOf(topDivergence(student, topTokens(probabilities, V, k)));
        for (let row = 0; row < ROWS; row++) {
          expect(found[row]).toBeLessThanOrEqual(whole[row] + 1e-5);
          expect(found[row]).toBeGreaterThanOrEqual(last[row] - 1e-5);
        }
        last = found;
      }
      for (let row = 0; row < ROWS; row++) expect(last[row]).toBeCloseTo(whole[row], 4);
    }
  });

  it('is off by no more than the tail can hide: its mass times what its tokens may differ by', async () => {
    const [teacher, student] = [logits(7, 4), logits(8, 4)];
    const probabilities = await valuesOf(softmax(teacher));
    const top = topTokens(probabilities, V, 12);
    const [p, q] = [probabilities, await valuesOf(softmax(student))];
    const whole = await valuesOf(klDivergence(teacher, student));
    const found = await valuesOf(topDivergence(student, top));
    for (let row = 0; row < ROWS; row++) {
      const kept = new Set(top.tokens.subarray(row * 12, (row + 1) * 12));
      const rest = Array.from({ length: V }, (_, token) => token).filter((token) => !kept.has(token));
      const worst = Math.max(...rest.map((token) => Math.log(p[row * V + token] / q[row * V + token])));
      const tailQ = rest.reduce((total, token) => total + q[row * V + token], 0);
      // The divergence within the tail, at most its largest log ratio against that of the whole tail.
      const bound = top.tail[row] * (worst - Math.log(top.tail[row] / tailQ));
      expect(whole[row] - found[row]).toBeLessThanOrEqual(bound + 1e-4);
    }
  });

  it('is zero for equal logits, and blind to a shift of them', async () => {
    const student = logits(9, 2);
    const probabilities = await valuesOf(softmax(student));
    const shifted = tensor(
      (await readFloats(student)).map((x) => x + 3),
      [ROWS, V],
    );
    for (const value of await valuesOf(topDivergence(shifted, topTokens(probabilities, V, 5)))) expect(value).toBeCloseTo(0, 5);
  });
});

describe('teachers', () => {
  const dense = createToyModel({ seed: 4 });
  const student = createToyModel({ seed: 5 });
  const windows = { tokens: createRng(6).integers(5 * 10, 64), count: 5, length: 10 };
  const batches = windowBatches(windows, [0, 1, 2, 3, 4], 2);

  it('agree, where the cache keeps the whole vocabulary, whichever way windows are batched', async () => {
    const live = await liveTeacher(backend, dense);
    const cached = await cachedTeacher(backend, dense, batches, 64);
    const { tokens } = await windowBatches(windows, [3, 0, 4], 3).at(0);
    const [answers] = await backend.evaluate([student.forward(tokens)]);
    const flat = tensor((await readFloats(answers)).subarray(64 * 5, 64 * 23), [18, 64]);
    const divergence = async (teacher: typeof live): Promise<number> =>
      readNumber((await backend.evaluate([mean((await teacher.targetsOf(tokens)).divergence(flat, 5, 23))]))[0]);
    const [kl] = await backend.evaluate([mean(klDivergence(dense.forward(tokens), student.forward(tokens)))]);
    expect(await readNumber(kl)).toBeGreaterThan(0.1);
    expect((await divergence(cached)) / (await divergence(live))).toBeCloseTo(1, 4);
    expect((await cached.targetsOf(tokens)).hidden).toBeUndefined();
  });

  it('refuse a window whose tokens have changed since', async () => {
    const own = { ...windows, tokens: windows.tokens.slice() };
    const cached = await cachedTeacher(backend, dense, windowBatches(own, [0, 1, 2, 3, 4], 2), 4);
    const before = await windowBatches(own, [2], 1).at(0);
    await expect(cached.targetsOf(before.tokens)).resolves.toBeDefined();
    own.tokens[2 * 10 + 7] = (own.tokens[2 * 10 + 7] + 1) % 64;
    const { tokens } = await windowBatches(own, [2], 1).at(0);
    await expect(cached.targetsOf(tokens)).rejects.toMatchObject({ code: 'TEACHER_CACHE', message: expect.stringContaining('window 0') });
  });
});
