// Log-likelihoods of texts of many lengths against log-probabilities in float64, one text at a time.
import { createReferenceBackend, type ReferenceBackend } from '@lowbit/backend-reference';
import { createRng, DenseLinear, tensor } from '@lowbit/core';
import { beforeAll, describe, expect, it } from 'vitest';
import { likelihoodsOf } from '../src/tasks/log-likelihood.js';
import type { Request } from '../src/tasks/requests.js';
import { logProbabilities, toyModel } from './toy.js';

const model = toyModel();
let backend: ReferenceBackend;
beforeAll(async () => {
  backend = await createReferenceBackend();
});

/** Texts of 2 to 17 tokens, the last of which are scored; some are the same but for their last token. */
function requests(count: number): Request[] {
  const rng = createRng(3);
  return Array.from({ length: count }, (_, i) => {
    const length = 2 + (i % 16);
    const tokens = rng.at(i % 5 === 4 ? i - 1 : i).integers(length, 24);
    if (i % 5 === 4) tokens[length - 1] = i % 24;
    return { tokens, scored: 1 + (i % (length - 1)), where: `test.jsonl:${i + 1}`, isShortened: false };
  });
}

async function expected({ tokens, scored }: Request): Promise<{ sum: number; isGreedy: number }> {
  const rows = await logProbabilities(backend, model, tokens.subarray(0, -1));
  const positions = Array.from({ length: scored }, (_, i) => tokens.length - 1 - scored + i);
  return {
    sum: positions.reduce((sum, at) => sum + rows[at][tokens[at + 1]], 0),
    isGreedy: Number(positions.every((at) => rows[at][tokens[at + 1]] === Math.max(...rows[at]))),
  };
}

describe('likelihoodsOf', () => {
  it.each([1, 40, 2048])('is the sum over scored tokens, %d tokens at once', async (batchTokens) => {
    const all = requests(40);
    const { logLikelihoods, isGreedy } = await likelihoodsOf(model, all, { backend, batchTokens });
    for (const [i, request] of all.entries()) {
      const { sum, isGreedy: greedy } = await expected(request);
      expect(Math.abs(logLikelihoods[i] - sum)).toBeLessThan(1e-5 * (1 + Math.abs(sum)));
      expect(isGreedy[i]).toBe(greedy);
    }
  });

  it('finds what greedy decoding writes', async () => {
    const start = Int32Array.of(1, 5, 9);
    const [last] = (await logProbabilities(backend, model, start)).slice(-1);
    const best = last.indexOf(Math.max(...last));
    const both = [best, (best + 1) % 24].map((token) => ({ ...requests(1)[0], tokens: Int32Array.of(...start, token), scored: 1 }));
    expect([...(await likelihoodsOf(model, both, { backend })).isGreedy]).toEqual([1, 0]);
  });

  it('gives equal texts equal numbers, and counts up to the end', async () => {
    const [one] = requests(1);
    const steps: [number, number][] = [];
    const progress = (done: number, total: number): void => void steps.push([done, total]);
    const { logLikelihoods } = await likelihoodsOf(model, [one, ...requests(20), one], { backend, progress });
    expect(logLikelihoods[0]).toBe(logLikelihoods[21]);
    expect(steps.at(-1)).toEqual([steps.length, steps.length]);
  });

  it('TOKEN_RANGE, SCORE_NAN, ABORTED', async () => {
    const outside = [...requests(2), { ...requests(1)[0], tokens: Int32Array.of(1, 24), scored: 1, where: 'test.jsonl:9' }];
    const message = expect.stringContaining('test.jsonl:9: token 24') as string;
    await expect(likelihoodsOf(model, outside, { backend })).rejects.toMatchObject({ code: 'TOKEN_RANGE', message });
    const [rows, columns] = [24, 8];
    const broken = model.with({ head: new DenseLinear(tensor(new Float32Array(rows * columns).fill(Number.NaN), [rows, columns])) });
    await expect(likelihoodsOf(broken, requests(3), { backend })).rejects.toMatchObject({
      code: 'SCORE_NAN',
      message: expect.stringContaining('test.jsonl:1: ') as string,
    });
    const signal = AbortSignal.abort();
    await expect(likelihoodsOf(model, requests(3), { backend, signal })).rejects.toMatchObject({ code: 'ABORTED' });
  });
});
