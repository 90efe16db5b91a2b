import { createReferenceBackend } from '@lowbit/backend-reference';
import { DenseLinear, type Model, type Score, tensor } from '@lowbit/core';
import { type TokenWindows, windowsOf } from '@lowbit/data';
import { createToyModel } from '@lowbit/testkit';
import { describe, expect, it } from 'vitest';
import { type TextEvaluatorOptions, textEvaluator } from '../src/index.js';
import { disturbed, logProbabilities, toyModel, toyWindows } from './toy.js';

const backend = createReferenceBackend();
const model = toyModel();
const other = disturbed(model, 0.1);

async function evaluate(
  windows: TokenWindows,
  of: Model,
  reference?: Model,
  options?: TextEvaluatorOptions,
): Promise<Record<string, Score>> {
  const scores = await textEvaluator(windows, options).evaluate(of, { backend, reference });
  return Object.fromEntries(scores.map((score) => [score.evaluator, score]));
}

/** The four quantities token by token, from whole float64 forward passes, as their definitions read. */
async function naive(windows: TokenWindows, of: Model, reference: Model) {
  const rows: { loss: number; kl: number; agrees: number; gap: number }[] = [];
  for (let w = 0; w < windows.count; w++) {
    const tokens = windows.tokens.subarray(w * windows.length, (w + 1) * windows.length);
    const [p, q] = [await logProbabilities(backend, reference, tokens), await logProbabilities(backend, of, tokens)];
    for (let position = windows.scoredFrom[w]; position < windows.scoredTo[w]; position++) {
      const [logP, logQ, token] = [p[position - 1], q[position - 1], tokens[position]];
      rows.push({
        loss: -logQ[token],
        kl: logP.reduce((a, l, v) => a + Math.exp(l) * (l - logQ[v]), 0),
        agrees: logP.indexOf(Math.max(...logP)) === logQ.indexOf(Math.max(...logQ)) ? 1 : 0,
        gap: logP[token] - logQ[token],
      });
    }
  }
  const mean = (pick: (row: (typeof rows)[number]) => number) => rows.reduce((a, row) => a + pick(row), 0) / rows.length;
  return {
    samples: rows.length,
    perplexity: Math.exp(mean((r) => r.loss)),
    kl: mean((r) => r.kl),
    top1: mean((r) => r.agrees),
    gap: mean((r) => r.gap),
  };
}

describe('textEvaluator', () => {
  it.each([
    ['windows that meet', { window: 8 }, {}],
    ['overlapping windows and a kept tail', { window: 8, stride: 3, tail: 'pad' as const }, {}],
    ['batches that do not divide the windows', { window: 8 }, { batchTokens: 16 }],
    ['several parts', { window: 8 }, { batchTokens: 8, activationBytes: 1 }],
  ])('equals the definitions: %s', async (_, rule, options) => {
    const windows = toyWindows(rule);
    const [scores, expected] = [await evaluate(windows, other, model, options), await naive(windows, other, model)];
    expect(scores['perplexity'].samples).toBe(expected.samples);
    expect(scores['perplexity'].value / expected.perplexity).toBeCloseTo(1, 5);
    expect(scores['kl'].value / expected.kl).toBeCloseTo(1, 4);
    expect(scores['top1-agreement'].value).toBeCloseTo(expected.top1, 10);
    expect(scores['loss-gap'].value).toBeCloseTo(expected.gap, 5);
    for (const { value, stderr, byWindow = [] } of Object.values(scores)) {
      expect(byWindow).toHaveLength(windows.count);
      const deviations = byWindow.map((one) => one - value);
      expect(deviations.reduce((a, one) => a + one, 0)).toBeCloseTo(0, 9);
      const squares = deviations.reduce((a, one) => a + one ** 2, 0);
      expect(Math.sqrt(squares / (windows.count - 1) / windows.count)).toBeCloseTo(stderr, 9);
    }
  });

  it('scores each token once, given as much as its window holds, like a loop over the text', async () => {
    // The usual strided evaluation, written as a loop over the stream: one forward pass for each stretch of new tokens.
    const [window, stride, length] = [8, 3, 31];
    const windows = toyWindows({ window, stride, tail: 'pad' }, length);
    const stream = [...windows.tokens.subarray(0, window)];
    for (let w = 1; w < windows.count; w++)
      stream.push(...windows.tokens.subarray(w * window + windows.scoredFrom[w], w * window + windows.scoredTo[w]));
    let [total, count, previousEnd] = [0, 0, 0];
    for (let begin = 0; previousEnd < length; begin += stride) {
      const end = Math.min(begin + window, length);
      const logQ = await logProbabilities(backend, model, Int32Array.from(stream.slice(begin, end)));
      for (let position = Math.max(previousEnd, 1); position < end; position++) {
        total -= logQ[position - 1 - begin][stream[position]];
        count++;
      }
      previousEnd = end;
    }
    const { perplexity } = await evaluate(windows, model);
    expect(perplexity.samples).toBe(count);
    expect(perplexity.value / Math.exp(total / count)).toBeCloseTo(1, 5);
  });

  it('finds no difference between a model and itself, or an equal one', async () => {
    for (const reference of [model, toyModel()]) {
      const scores = await evaluate(toyWindows({ window: 8 }), model, reference);
      expect(scores['kl']).toMatchObject({ value: 0, stderr: 0 });
      expect(scores['top1-agreement']).toMatchObject({ value: 1, stderr: 0, higherIsBetter: true });
      expect(scores['loss-gap']).toMatchObject({ value: 0, stderr: 0 });
    }
  });

  it('finds a uniform model’s perplexity to be the size of the vocabulary', async () => {
    const uniform = model.with({ head: new DenseLinear(tensor(new Float32Array(24 * 8), [24, 8])) });
    const { perplexity } = await evaluate(toyWindows({ window: 8 }), uniform);
    expect(perplexity.value).toBeCloseTo(24, 4);
    expect(perplexity.stderr).toBeCloseTo(0, 4);
  });

  it('has smaller errors for paired differences than for the perplexities themselves', async () => {
    const scores = await evaluate(toyWindows({ window: 8 }, 240), disturbed(model, 0.01), model);
    const relative = scores['perplexity'].stderr / scores['perplexity'].value;
    expect(relative).toBeGreaterThan(0);
    expect(scores['loss-gap'].stderr).toBeLessThan(relative / 5);
    expect(scores['kl'].value).toBeGreaterThan(0);
    expect(scores['kl'].stderr).toBeLessThan(scores['kl'].value);
  });

  it('stores the protocol with each number', async () => {
    const windows = toyWindows({ window: 8, stride: 4 });
    for (const score of Object.values(await evaluate(windows, other, model))) {
      expect(score).toMatchObject({ version: 1, samples: windows.scoredTokens });
      expect(score.protocol).toMatchObject({
        corpus: 'toy',
        split: 'held-out',
        corpusSha256: expect.stringMatching(/^[0-9a-f]{64}$/),
        tokensSha256: windows.hash,
        window: 8,
        stride: 4,
        tail: 'drop',
        bos: 'none',
        join: null,
        windows: windows.count,
        scoredTokens: windows.scoredTokens,
        dtype: 'float32',
        backend: 'reference',
        standardError: 'between windows',
      });
    }
    expect((await evaluate(toyWindows({ window: 16, limit: 1 }), model))['perplexity'].protocol).toMatchObject({
      standardError: 'between tokens of the one window',
    });
  });

  it('runs the reference once for many models, reports progress to the end, and reads each weight once a pass', async () => {
    const loads = new Map<string, number>();
    const lazy = createToyModel({ seed: 3, blockCount: 3, onLoad: (name) => loads.set(name, (loads.get(name) ?? 0) + 1) });
    const evaluator = textEvaluator(
      windowsOf([Int32Array.of(1, 2, 3, 4), Int32Array.of(5, 6, 7, 8)], { description: 'two', protocol: {} }),
      { batchTokens: 4 },
    );
    const steps: number[][] = [];
    const progress = (done: number, total: number) => steps.push([done, total]);
    const first = await evaluator.evaluate(disturbedHead(lazy), { backend, reference: lazy, progress });
    // Two batches through an embedding and three blocks, for both models, and one chunk of logits for each batch.
    expect(steps).toEqual(Array.from({ length: 18 }, (_, i) => [i + 1, 18]));
    expect(loads.get('model.layers.1.mlp.up_proj.weight')).toBe(2);
    steps.length = 0;
    const second = await evaluator.evaluate(disturbedHead(lazy), { backend, reference: lazy, progress });
    expect(steps.at(-1)).toEqual([10, 10]);
    expect(loads.get('model.layers.1.mlp.up_proj.weight')).toBe(3);
    expect(second).toEqual(first);
  });

  it('says what is wrong with its input', async () => {
    const windows = toyWindows({ window: 8 });
    await expect(evaluate(windowsOf([new Int32Array(17)], { description: 'long', protocol: {} }), model)).rejects.toThrow(
      /CONTEXT_LENGTH.*17.*16/,
    );
    await expect(evaluate(windowsOf([Int32Array.of(0, 24)], { description: 'foreign', protocol: {} }), model)).rejects.toThrow(
      /TOKEN_RANGE.*24/,
    );
    await expect(evaluate(windows, model, createToyModel())).rejects.toThrow(/VOCABULARY.*24.*64/);
    const broken = model.with({ head: new DenseLinear(tensor(new Float32Array(24 * 8).fill(Number.NaN), [24, 8])) });
    await expect(evaluate(windows, broken)).rejects.toThrow(/SCORE_NAN/);
    await expect(textEvaluator(windows).evaluate(model, { backend, signal: AbortSignal.abort() })).rejects.toThrow(/ABORTED/);
  });
});

/** The model with another head: blocks and embedding stay the lazy ones. */
function disturbedHead(of: Model): Model {
  const { vocabularySize, hiddenSize } = of.config;
  const values = Float32Array.from({ length: vocabularySize * hiddenSize }, (_, i) => Math.sin(i));
  return of.with({ head: new DenseLinear(tensor(values, [vocabularySize, hiddenSize])) });
}
