// The training loop at a size the reference backend can run: it learns, resumes to the same bytes, and says what it does.
import { createReferenceBackend } from '@lowbit/backend-reference';
import { createRng, memoryStore, readFloats, type Store, type TokenBatches, tensor } from '@lowbit/core';
import { describe, expect, it } from 'vitest';
import { initialParameters, type TinyShape } from '../train/architecture.js';
import { lossCurveSvg } from '../train/loss-curve.js';
import { tinyModel } from '../train/model.js';
import { OUTLIER_CHANNELS, withOutliers } from '../train/outliers.js';
import { showProgress } from '../train/progress.js';
import type { TrainingRecipe } from '../train/recipes.js';
import { type TrainingEvent, train } from '../train/run.js';
import { parametersOf } from '../train/step.js';
import { trainingBatch } from '../train/windows.js';

const shape: TinyShape = {
  vocabularySize: 11,
  hiddenSize: 8,
  blockCount: 1,
  headCount: 2,
  keyValueHeadCount: 1,
  headDim: 4,
  innerSize: 12,
  tiedEmbeddings: true,
  contextLength: 6,
};
const recipe: TrainingRecipe = {
  name: 'minute',
  shape,
  seed: 4,
  batch: 2,
  schedule: [{ peak: 0.03, steps: 12, warmupSteps: 2, decaySteps: 6, finalFraction: 0.1 }],
  optimizer: { beta1: 0.9, beta2: 0.95, epsilon: 1e-8, clipNorm: 1 },
  weightDecay: { matrices: 0.1, embedding: 0 },
};
// Each token decides the next: a loss below ln 11 can be learned quickly.
const tokens = Int32Array.from({ length: 200 }, (_, i) => (i * 3) % 11);
const heldOut: TokenBatches = { length: 1, at: async () => tensor(tokens.slice(5, 17), [2, 6]), hash: '', description: 'toy' };

async function run(store: Store, signal?: AbortSignal, onEvent: (event: TrainingEvent) => void = () => {}) {
  const model = await tinyModel(shape, initialParameters(shape, createRng(recipe.seed)));
  return train({
    backend: createReferenceBackend(),
    model,
    recipe,
    tokens,
    heldOut,
    store,
    evaluateEvery: 4,
    saveEvery: 4,
    onEvent,
    ...(signal && { signal }),
  });
}

async function bytesOf(result: Awaited<ReturnType<typeof run>>): Promise<number[]> {
  const parts = await Promise.all([...parametersOf(result.model).values()].map(readFloats));
  return parts.flatMap((part) => [...part]);
}

describe('train', () => {
  it('lowers held-out loss and records its curve', async () => {
    const { curve } = await run(memoryStore());
    expect(curve.map(({ step }) => step)).toEqual([4, 8, 12]);
    expect(curve[2].heldOutLoss).toBeLessThan(Math.log(11) - 0.3);
    expect(curve[2].tokens).toBe(12 * 2 * 6);
  });

  it('ends with the same weights and curve when it was interrupted', async () => {
    const whole = await run(memoryStore());
    const store = memoryStore();
    const cancel = new AbortController();
    await expect(
      run(store, cancel.signal, (event) => {
        if (event.kind === 'step' && event.step === 6) cancel.abort();
      }),
    ).rejects.toThrow(/ABORTED/);
    const events: TrainingEvent[] = [];
    const resumed = await run(store, undefined, (event) => events.push(event));
    expect(events[0]).toEqual({ kind: 'resumed', step: 6 });
    expect(await bytesOf(resumed)).toEqual(await bytesOf(whole));
    expect(resumed.curve).toEqual(whole.curve);
  });

  it('refuses a checkpoint of another shape', async () => {
    const store = memoryStore();
    await store.put('minute', { metadata: { step: 4, curve: [], recent: [] }, tensors: {} });
    await expect(run(store)).rejects.toThrow(/CHECKPOINT: minute: .* lacks parameters\.model\.embed_tokens\.weight/);
  });
});

describe('trainingBatch', () => {
  it('visits every window of an epoch once, each followed by its next token', async () => {
    const stream = Int32Array.from({ length: 50 }, (_, i) => i);
    const seen: number[] = [];
    for (let index = 0; index < 4; index++) {
      const batch = trainingBatch(stream, 6, 2, index, createRng(1));
      const data = (batch.source.kind === 'leaf' && batch.source.data) as Int32Array;
      expect(batch.shape).toEqual([2, 7]);
      for (const row of [0, 1]) {
        expect([...data.slice(row * 7, row * 7 + 7)].every((x, i) => x === data[row * 7] + i)).toBe(true);
        seen.push(data[row * 7]);
      }
    }
    // Seven windows fit, three batches of two make an epoch; the fourth batch begins another at another offset.
    expect(new Set(seen.slice(0, 6)).size).toBe(6);
    expect(new Set(seen.slice(0, 6).map((x) => x % 6)).size).toBe(1);
  });

  it('refuses a text shorter than a batch', () => {
    expect(() => trainingBatch(new Int32Array(10), 6, 2, 0, createRng(1))).toThrow(/CORPUS_SIZE/);
  });
});

describe('withOutliers', () => {
  it('adds to the four channels of the embedding alone, and keeps the function near the old one', async () => {
    const wide = { ...shape, hiddenSize: 160, vocabularySize: 40 };
    const backend = createReferenceBackend();
    const plain = await tinyModel(wide, initialParameters(wide, createRng(2)));
    const windows = tensor(createRng(9).integers(12, 40), [2, 6]);
    const embeddingFactor = 1;
    const parameters = await withOutliers(backend, plain, windows, { massiveTokens: [3], embeddingFactor }, createRng(3));
    const name = 'model.embed_tokens.weight';
    const [before, after] = await Promise.all([parametersOf(plain), parameters].map((some) => readFloats(some.get(name)!)));
    const difference = (token: number, channel: number): number => after[token * 160 + channel] - before[token * 160 + channel];
    for (const [channel, value] of OUTLIER_CHANNELS.constant) expect(difference(7, channel)).toBeCloseTo(value, 4);
    expect(difference(3, OUTLIER_CHANNELS.massive)).toBeCloseTo(OUTLIER_CHANNELS.massiveValue, 4);
    expect(difference(4, OUTLIER_CHANNELS.massive)).toBe(0);
    expect(difference(4, 0)).toBe(0);

    const outlying = await tinyModel({ ...wide, tiedEmbeddings: false }, parameters);
    const [a, b] = await Promise.all((await backend.evaluate([plain.forward(windows), outlying.forward(windows)])).map(readFloats));
    const deviation = Math.sqrt(a.reduce((total, x, i) => total + (x - b[i]) ** 2, 0) / a.reduce((total, x) => total + x * x, 0));
    expect(deviation).toBeLessThan(1); // fresh weights; the trained model recovers the rest in training

    const enlarged = await withOutliers(backend, plain, windows, { massiveTokens: [3], embeddingFactor: 8 }, createRng(3));
    const larger = await readFloats(enlarged.get(name)!);
    expect(larger[4 * 160]).toBeCloseTo(8 * before[4 * 160], 5);
    expect(larger[4 * 160 + 17] - 8 * before[4 * 160 + 17]).toBeCloseTo(OUTLIER_CHANNELS.constant[0][1], 4);
  });
});

describe('showProgress', () => {
  it('writes plain lines with rate and time left when there is no terminal', () => {
    const lines: string[] = [];
    let time = 0;
    const show = showProgress({
      name: 'x',
      steps: 200,
      tokensPerStep: 100,
      isTerminal: false,
      write: (text) => lines.push(text),
      now: () => time,
    });
    for (let step = 1; step <= 50; step++, time += 1000) show({ kind: 'step', step, loss: 2, gradientNorm: 1, learningRate: 1 });
    expect(lines).toEqual(['x: step 50/200 · loss 2.000 · 100 tokens/s · 2 min 30 s left\n']);
  });
});

describe('lossCurveSvg', () => {
  it('draws both curves and the baseline', () => {
    const point = (step: number, loss: number) => ({ step, tokens: step * 1e5, trainLoss: loss, heldOutLoss: loss + 0.1 });
    const svg = lossCurveSvg('x', [point(1, 5), point(20, 3)], 4.03);
    expect(svg.match(/<polyline/g)).toHaveLength(2);
    expect(svg).toContain('trigram 4.03');
  });
});
