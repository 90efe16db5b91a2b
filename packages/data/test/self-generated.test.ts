import { createRng } from '@lowbit/core';
import { describe, expect, it } from 'vitest';
import { type SampleRequest, type SelfGeneratedOptions, selfGeneratedWindows } from '../src/index.js';

/** Draws tokens uniformly from [10, 1010), or writes the prompt's first token again and again when greedy. */
function recorder() {
  const requests: SampleRequest[] = [];
  const sample = async (request: SampleRequest) => {
    requests.push(request);
    return request.prompts.map((prompt, i) =>
      request.temperature === 0
        ? new Int32Array(request.maxTokens).fill(prompt[0])
        : request.rng
            .at(i)
            .integers(request.maxTokens, 1000)
            .map((id) => id + 10),
    );
  };
  return { requests, sample };
}

const write = (options: Partial<SelfGeneratedOptions> = {}) =>
  selfGeneratedWindows({
    sample: recorder().sample,
    windows: 6,
    window: 8,
    rng: createRng(1),
    split: 'held-out',
    vocabularySize: 2000,
    ...options,
  });

describe('selfGeneratedWindows', () => {
  it('starts with BOS and samples the rest in batches', async () => {
    const { requests, sample } = recorder();
    const progress: number[] = [];
    const windows = await write({ sample, bosToken: 1, batch: 4, progress: (done) => progress.push(done) });
    expect(windows).toMatchObject({ count: 6, length: 8, scoredTokens: 42, description: 'self-generated held-out, 6 windows of 8' });
    expect(Array.from({ length: 6 }, (_, i) => windows.tokens[i * 8])).toEqual([1, 1, 1, 1, 1, 1]);
    expect(requests.map(({ prompts, maxTokens, temperature }) => [prompts.length, maxTokens, temperature])).toEqual([
      [4, 7, 1],
      [2, 7, 1],
    ]);
    expect(progress).toEqual([4, 6]);
    expect(windows.protocol).toMatchObject({
      corpus: 'self-generated',
      split: 'held-out',
      start: 'BOS',
      temperature: 1,
      window: 8,
      windows: 6,
    });
  });

  it('starts like LLM-QAT without BOS: a random token, then a few greedy ones', async () => {
    const { requests, sample } = recorder();
    const { tokens } = await write({ sample });
    expect(requests.map(({ maxTokens, temperature }) => [maxTokens, temperature])).toEqual([
      [3, 0],
      [4, 1],
    ]);
    expect(requests[1].prompts.every((prompt) => prompt.length === 4 && prompt.every((id) => id === prompt[0]))).toBe(true);
    expect(new Set(Array.from({ length: 6 }, (_, i) => tokens[i * 8])).size).toBeGreaterThan(1);
  });

  it('gives equal windows for equal seed and split, others otherwise', async () => {
    const [a, b, other, seed] = [await write(), await write(), await write({ split: 'calibration' }), await write({ rng: createRng(2) })];
    expect(a.hash).toBe(b.hash);
    expect(new Set([a.hash, other.hash, seed.hash]).size).toBe(3);
  });

  it('refuses repeats, short continuations, sizes without sense, and stops when aborted', async () => {
    await expect(write({ bosToken: 1, temperature: 0 })).rejects.toThrow(/SELF_GENERATED_REPEATS.*5 of 6/);
    await expect(write({ sample: async ({ prompts }) => prompts.map(() => new Int32Array(2)) })).rejects.toThrow(
      /SELF_GENERATED_SHORT.*2 of 3/,
    );
    await expect(write({ sample: async () => [] })).rejects.toThrow(/SELF_GENERATED_SHORT.*no of 3/);
    for (const wrong of [{ windows: 0 }, { window: 1 }, { greedyTokens: 7 }, { batch: 0 }])
      await expect(write(wrong)).rejects.toThrow(/OPTIONS_INVALID/);
    await expect(write({ signal: AbortSignal.abort() })).rejects.toThrow(/ABORTED/);
  });
});
