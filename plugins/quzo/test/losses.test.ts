// Losses along a direction: what they are of, that they repeat to the bit, and that nothing is left in the model.
import { createOnnxBackend } from '@lowbit/backend-onnxruntime';
import { createReferenceBackend } from '@lowbit/backend-reference';
import { crossEntropy, DenseLinear, type Linear, type Model, read, readFloats, reshape, tensor } from '@lowbit/core';
import { quantize } from '@lowbit/pipeline';
import type { QuantizedLinear } from '@lowbit/quant';
import { rtn } from '@lowbit/rtn';
import { createToyModel } from '@lowbit/testkit';
import type { TaskBatch } from '@lowbit/train';
import { afterAll, describe, expect, it } from 'vitest';
import { derivativesOf } from '../src/derivatives.js';
import { quzoOptions } from '../src/options.js';
import { planOf } from '../src/perturbation/parameters.js';
import { centerLoss, perturbedLosses } from '../src/perturbation/perturbed-losses.js';
import { openRun, type Run } from '../src/run.js';

const backend = await createOnnxBackend({ threads: 1, spin: false });
const exact = createReferenceBackend();
afterAll(() => Promise.all([backend.dispose(), exact.dispose()]));

const recipe = [rtn({ bits: 4, groupSize: 16 })];
const { model: quantized } = await quantize({ model: createToyModel({ seed: 7, biases: true }), backend, recipe });

const [examples, length, vocabulary] = [3, 8, 64];
const ids = Int32Array.from({ length: examples * length }, (_, i) => (11 * i + 5) % vocabulary);
const positions = Int32Array.from({ length: examples * 4 }, (_, i) => Math.floor(i / 4) * length + 3 + (i % 4));
const batch: TaskBatch = {
  tokens: tensor(ids, [examples, length]),
  positions,
  targets: positions.map((at) => ids[at + 1]),
  weights: new Float32Array(positions.length).fill(1 / positions.length),
  candidates: undefined,
};

async function open(model: Model, input: object, targets = (_path: string): boolean => true): Promise<Run> {
  const options = quzoOptions.parse(input);
  const plan = planOf(model, (path) => (targets(path) ? options : undefined));
  return openRun(model, { format: 'lowbit-quzo', version: 1, runSeed: 9, options: { ...options }, ...plan });
}

const lossesOf = (run: Run, radii: readonly number[], step = 1, of = batch): Promise<number[]> =>
  perturbedLosses({
    backend,
    trained: run.trained,
    batch: of,
    hooks: run.hooks,
    draws: run.draws.at(step, 0),
    radii,
    scratch: run.scratch,
  });

/** Mean cross-entropy in float64, over candidates' logits where there are any. */
async function exactLoss(model: Model, candidates?: readonly number[]): Promise<number> {
  const [logits] = await exact.evaluate([reshape(model.forward(batch.tokens), [ids.length, vocabulary])]);
  const all = await readFloats(logits);
  const allowed = candidates ?? Array.from({ length: vocabulary }, (_, i) => i);
  let total = 0;
  for (const at of positions) {
    const row = allowed.map((token) => all[at * vocabulary + token]);
    const largest = Math.max(...row);
    const sum = row.reduce((s, x) => s + Math.exp(x - largest), 0);
    total += largest + Math.log(sum) - all[at * vocabulary + ids[at + 1]];
  }
  return total / positions.length;
}

/** The model with every affine weight W = s·(C + radius·u) + offset, computed in float64 and put there as a dense one. */
async function denseAt(run: Run, model: Model, radius: number): Promise<Model> {
  const { draws, hooks, scratch } = run;
  const directions = new Map<string, Float64Array>();
  for (const { parameter } of run.trained.parameters) {
    const { values, factor } = hooks.direction(parameter, draws.at(1, 0), 'round1', scratch);
    directions.set(
      parameter.name,
      Float64Array.from(values, (v) => v * factor * parameter.settings.epsilon * radius),
    );
    scratch.reset();
  }
  const blocks = [];
  for (const block of model.blocks) {
    const linears: Record<string, Linear> = {};
    for (const [name, linear] of Object.entries(block.linears)) {
      const { weight, bias } = linear as QuantizedLinear;
      const [codes, scale] = [await read(weight.codes), await readFloats(weight.scale)];
      const zero = weight.zeroPoint ? await read(weight.zeroPoint) : undefined;
      const u = directions.get(`${block.path}.${name}.codes`);
      const values = Float32Array.from(codes, (code, i) => {
        const group = Math.floor(i / weight.groupSize);
        return scale[group] * (code + (u ? u[i] : 0) - (zero ? zero[group] : 8));
      });
      linears[name] = new DenseLinear(tensor(values, weight.codes.shape), bias);
    }
    blocks.push(block.with({ linears }));
  }
  return model.with({ blocks });
}

describe('losses along a direction', () => {
  it.each([
    ['whole codes', { epsilon: 1 }],
    ['sparse flips', { epsilon: 0.2 }],
    ['between codes', { epsilon: 0.5, estimator: 'mezo', distribution: 'gaussian' }],
  ])('are those of the weights that the perturbed codes stand for: %s', async (_, input) => {
    const run = await open(quantized, input);
    const found = await lossesOf(run, [1, -1, 0.5]);
    for (const [i, radius] of [1, -1, 0.5].entries()) {
      expect(found[i]).toBeCloseTo(await exactLoss(await denseAt(run, quantized, radius)), 4);
    }
    expect(new Set(found).size).toBe(3);
  });

  it('are over the logits of candidates alone where there are any', async () => {
    const run = await open(quantized, {});
    const candidates = [...new Set(batch.targets)];
    const labelled = {
      ...batch,
      candidates: tensor(Int32Array.from(candidates)),
      targets: batch.targets.map((t) => candidates.indexOf(t)),
    };
    const [found] = await lossesOf(run, [0], 1, labelled);
    expect(found).toBeCloseTo(await exactLoss(quantized, candidates), 4);
  });

  it('repeat to the bit, at the model itself and at a direction', async () => {
    const run = await open(quantized, {});
    const [first, again] = [await lossesOf(run, [1, -1, 0]), await lossesOf(run, [1, -1, 0])];
    expect(again).toEqual(first);
    const center = await centerLoss({ backend, trained: run.trained, batch });
    expect(await centerLoss({ backend, trained: run.trained, batch })).toBe(center);
    expect(first[2]).toBe(center);
    expect(await lossesOf(run, [1, -1], 2)).not.toEqual(first.slice(0, 2));
  });

  it('are the same whoever evaluates which query, in any order', async () => {
    const options = { queries: 3, distribution: 'gaussian', epsilon: 0.7 };
    const { mu } = await derivativesOf(backend, await open(quantized, options), 4, batch);
    for (const query of [2, 0, 1]) {
      const worker = await open(quantized, options);
      const { trained, hooks, scratch } = worker;
      const request = { backend, trained, batch, hooks, scratch, draws: worker.draws.at(4, query), radii: [1, -1] };
      const [above, below] = await perturbedLosses(request);
      expect((above - below) / (2 * 0.7)).toBe(mu?.[query]);
    }
  });

  it('leave every byte of the model as it was', async () => {
    const run = await open(quantized, { epsilon: 2 });
    const before = run.trained.parameters.map(({ values }) => [...values]);
    await lossesOf(run, [1, -1]);
    expect(run.trained.parameters.map(({ values }) => [...values])).toEqual(before);
  });

  it('compile nothing new from step to step, and blocks before the first perturbed one are run once', async () => {
    const run = await open(quantized, {}, (path) => path.includes('.1.'));
    await lossesOf(run, [1, -1], 1);
    const { compilations, evaluations } = backend.statistics;
    await lossesOf(run, [1, -1], 2);
    expect(backend.statistics.compilations).toBe(compilations);
    // Embedding, the first block, the second one and the head at both signs.
    expect(backend.statistics.evaluations - evaluations).toBe(1 + 1 + 2 + 2);
  });

  it('agree with the plain cross-entropy of the model at radius 0', async () => {
    const run = await open(quantized, { preset: 'qzo-int4' });
    const rows = reshape(quantized.forward(batch.tokens), [ids.length, vocabulary]);
    const [errors] = await exact.evaluate([crossEntropy(rows, tensor(ids.map((_, i) => ids[i + 1] ?? 0)))]);
    const all = await readFloats(errors);
    const mean = positions.reduce((sum, at) => sum + all[at], 0) / positions.length;
    expect((await lossesOf(run, [0]))[0]).toBeCloseTo(mean, 4);
  });
});

describe('slopes that are not finite', () => {
  /** A run whose losses give these slopes. */
  async function withSlopes(slopes: readonly number[], options: object): Promise<Run> {
    const run = await open(quantized, { queries: slopes.length, ...options });
    return { ...run, hooks: { ...run.hooks, estimator: { ...run.hooks.estimator, slopes: () => [...slopes] } } };
  }

  // The last is finite, but not as a float32, which an element's step is made of.
  it.each([[Number.POSITIVE_INFINITY], [Number.NEGATIVE_INFINITY], [Number.NaN], [-1e39]])(
    'have no step without a clip: %d',
    async (slope) => {
      const run = await withSlopes([1, slope], { clip: 0 });
      const { mu, loss } = await derivativesOf(backend, run, 1, batch);
      expect(mu).toBeUndefined();
      expect(Number.isFinite(loss)).toBe(true);
    },
  );

  it('are cut by a clip like others, but for what has no sign', async () => {
    const cut = await withSlopes([1, Number.POSITIVE_INFINITY, -1e39], { clip: 2 });
    expect((await derivativesOf(backend, cut, 1, batch)).mu).toEqual([1, 2, -2]);
    expect((await derivativesOf(backend, await withSlopes([Number.NaN], { clip: 2 }), 1, batch)).mu).toBeUndefined();
  });

  it('leave codes on their grid, as the largest that there is does', async () => {
    for (const rounding of ['error-feedback', 'sr', 'nearest'] as const) {
      const run = await withSlopes([3.4e38], { clip: 0, rounding, epsilon: 0.5, learningRate: 1e3 });
      const { mu = [] } = await derivativesOf(backend, run, 1, batch);
      expect(mu).toEqual([3.4e38]);
      const before = run.trained.parameters.map(({ values }) => [...values]);
      const { changed } = run.apply({ step: 1, mu });
      expect(changed).toBeGreaterThan(0);
      for (const [p, { values }] of run.trained.parameters.entries()) {
        // An element with a direction of 0 stays; any other goes to an end.
        expect([...values].every((code, i) => code === 0 || code === 15 || code === before[p][i])).toBe(true);
      }
      expect(run.apply({ step: 2, mu: [] })).toEqual({ changed: 0, clamped: 0 });
    }
  });
});
