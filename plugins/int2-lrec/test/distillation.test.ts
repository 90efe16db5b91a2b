// The losses: what they are by an independent computation, and that their gradients through packed codes are those of dense weights.
import { createReferenceBackend } from '@lowbit/backend-reference';
import { type Backend, createRng, type Linear, type Model, readFloats, type Tensor, tensor } from '@lowbit/core';
import { quantize } from '@lowbit/pipeline';
import type { LowRankLinear } from '@lowbit/quant';
import { createToyModel, createToyTokens } from '@lowbit/testkit';
import { modelGradients, modelLoss, type NamedTensors, windowBatches, withParameters } from '@lowbit/train';
import { describe, expect, it } from 'vitest';
import { attachAdapters } from '../src/adapters/attach.js';
import {
  type Distillation,
  judgedDivergence,
  type LossWeights,
  lossWeights,
  positionsLoss,
  trainedLoss,
} from '../src/lrec/distillation.js';
import { lrecOptions } from '../src/lrec/options.js';
import { liveTeacher } from '../src/lrec/teacher.js';
import { rounding } from './rounding.js';

const backend = createReferenceBackend();
const dense = createToyModel({ seed: 8, outliers: 2 });
const { model: quantized } = await quantize({
  model: dense,
  backend,
  recipe: [rounding({ bits: 2, groupSize: 16 })],
  calibration: createToyTokens(),
});
const options = lrecOptions.parse({ rank: 3 });
const { model: student, parameters: start } = attachAdapters(quantized, () => options, createRng(1));
const rng = createRng(2);
/** Adapters that correct something. */
const parameters: NamedTensors = new Map(
  [...start].map(([name, t]) => [
    name,
    tensor(
      rng
        .at(name)
        .normal(t.size)
        .map((z) => 0.1 * z),
      t.shape,
    ),
  ]),
);
const [COUNT, LENGTH, V] = [3, 9, 64];
const windows = { tokens: createRng(9).integers(COUNT * LENGTH, V), count: COUNT, length: LENGTH };
const teacher = await liveTeacher(backend, dense);

const distillation = (weights: LossWeights, share = 0): Distillation => ({
  backend,
  student,
  teacher,
  weights,
  dropout: () => share,
  rng: createRng(3),
});

async function logitsOf(model: Model): Promise<Float64Array> {
  return backend.float64(model.forward(tensor(windows.tokens, [COUNT, LENGTH])));
}

/** log softmax of a row, in float64. */
function logProbabilities(logits: Float64Array, row: number): number[] {
  const own = [...logits.subarray(row * V, (row + 1) * V)];
  const peak = Math.max(...own);
  const total = Math.log(own.reduce((sum, x) => sum + Math.exp(x - peak), 0)) + peak;
  return own.map((x) => x - total);
}

/** KL and cross-entropy a token by the definitions. */
async function independently(): Promise<{ kl: number; ce: number }> {
  const [p, q] = [await logitsOf(dense), await logitsOf(withParameters(student, parameters))];
  let [kl, ce] = [0, 0];
  for (let row = 0; row < COUNT * LENGTH; row++) {
    const [logP, logQ] = [logProbabilities(p, row), logProbabilities(q, row)];
    kl += logP.reduce((sum, value, v) => sum + Math.exp(value) * (value - logQ[v]), 0) / (COUNT * LENGTH);
    if (row % LENGTH < LENGTH - 1) ce -= logQ[windows.tokens[row + 1]] / (COUNT * (LENGTH - 1));
  }
  return { kl, ce };
}

describe('the loss', () => {
  it.each([1, 2, 3, 8])('is KL and cross-entropy a token, whatever the batches of %d windows', async (size) => {
    const { kl, ce } = await independently();
    const loss = trainedLoss(distillation({ kl: 1, ce: 0.05, hidden: 0 }));
    const judge = judgedDivergence(distillation({ kl: 1, ce: 0.05, hidden: 0 }));
    const batches = windowBatches(windows, [0, 1, 2], size);
    let [total, judged] = [0, 0];
    for (let i = 0; i < batches.length; i++) {
      total += (await loss.value(parameters, await batches.at(i))) / batches.length;
      judged += (await judge.value(parameters, await batches.at(i))) / batches.length;
    }
    expect(kl).toBeGreaterThan(0.02);
    expect(total).toBeCloseTo(kl + 0.05 * ce, 4);
    expect(judged).toBeCloseTo(kl, 4);
  });

  it('has the published weights: KL summed over a window, cross-entropy averaged', async () => {
    const { kl, ce } = await independently();
    const paper = lrecOptions.parse({ preset: 'paper' });
    const loss = trainedLoss(distillation(lossWeights(paper, LENGTH)));
    const value = await loss.value(parameters, await windowBatches(windows, [0, 1, 2], 3).at(0));
    expect(value).toBeCloseTo(LENGTH * kl + 120 * ce, 1);
    expect(lossWeights(lrecOptions.parse({ preset: 'paper', lambdaCe: 0.1 }), LENGTH)).toEqual({ kl: 1, ce: 0.1, hidden: 0 });
    expect(lossWeights(lrecOptions.parse({ preset: 'rilq' }), LENGTH)).toEqual({ kl: 0, ce: 0.5, hidden: 0.5 });
  });

  it('of a model against itself is zero, and so is the error of its hidden state', async () => {
    const own = await liveTeacher(backend, student);
    const batch = await windowBatches(windows, [0, 1, 2], 3).at(0);
    for (const weights of [
      { kl: 1, ce: 0, hidden: 0 },
      { kl: 0, ce: 0, hidden: 1 },
    ]) {
      const { loss } = await modelLoss({ backend, model: student, tokens: batch.tokens, lossOf: await positionsLoss(own, weights, batch) });
      expect(Math.abs(loss)).toBeLessThan(1e-6);
    }
  });

  it('of hidden states is their mean square error after the last norm', async () => {
    const batch = await windowBatches(windows, [0, 1, 2], 3).at(0);
    const normed = async (model: Model): Promise<Float64Array> => {
      const hidden = model.blocks.reduce((x, block) => block.forward(x), model.embedding.forward(batch.tokens));
      return backend.float64(model.norm.forward(hidden));
    };
    const [p, q] = [await normed(dense), await normed(withParameters(student, parameters))];
    const expected = p.reduce((total, value, i) => total + (value - q[i]) ** 2, 0) / p.length;
    const value = await trainedLoss(distillation({ kl: 0, ce: 0, hidden: 1 })).value(parameters, batch);
    expect(value / expected).toBeCloseTo(1, 4);
  });
});

/** The same function over dense weights. */
async function onDenseWeights(model: Model): Promise<Model> {
  let changed = model;
  for (const [i, block] of model.blocks.entries()) {
    const linears: Record<string, Linear> = {};
    for (const [name, linear] of Object.entries(block.linears)) {
      const { base } = linear as LowRankLinear;
      const [weight] = await backend.evaluate([base.effectiveWeight()]);
      linears[name] = (linear as LowRankLinear).with({ base: base.withWeight(weight) });
    }
    changed = changed.withBlock(i, block.with({ linears }));
  }
  return changed;
}

describe('gradients', () => {
  const weights = { kl: 1, ce: 0.05, hidden: 0.1 };

  it('through packed codes are those of dense weights, and of differences of the loss', async () => {
    const batch = await windowBatches(windows, [0, 1, 2], 3).at(0);
    const lossOf = await positionsLoss(teacher, weights, batch);
    const packed = await modelGradients({ backend, model: student, tokens: batch.tokens, parameters, lossOf });
    const plain = await modelGradients({ backend, model: await onDenseWeights(student), tokens: batch.tokens, parameters, lossOf });
    expect(packed.loss).toBeCloseTo(plain.loss, 5);
    for (const [name, gradient] of packed.gradients) {
      const [found, expected] = [await readFloats(gradient), await readFloats(plain.gradients.get(name) as Tensor)];
      const size = Math.hypot(...expected);
      expect(Math.hypot(...found.map((x, i) => x - expected[i])), name).toBeLessThan(1e-4 * size + 1e-9);
    }
    for (const name of ['model.layers.0.self_attn.v_proj.up', 'model.layers.1.mlp.down_proj.down']) {
      const [gradient, values] = [await readFloats(packed.gradients.get(name) as Tensor), parameters.get(name) as Tensor];
      const direction = createRng(4).at(name).normal(values.size);
      const along = gradient.reduce((total, g, i) => total + g * direction[i], 0);
      const at = async (step: number): Promise<number> => {
        const moved = (await readFloats(values)).map((x, i) => x + step * direction[i]);
        return trainedLoss(distillation(weights)).value(new Map([...parameters, [name, tensor(moved, values.shape)]]), batch);
      };
      expect(((await at(0.01)) - (await at(-0.01))) / 0.02 / along).toBeCloseTo(1, 1);
    }
  });

  it('leave nothing of the size of a weight behind', async () => {
    const results: Tensor[] = [];
    const recording: Backend = {
      ...backend,
      async evaluate(tensors, given) {
        const made = await backend.evaluate(tensors, given);
        results.push(...made);
        return made;
      },
    };
    const batch = await windowBatches(windows, [0], 1).at(0);
    const loss = trainedLoss({ ...distillation(weights), backend: recording });
    await loss.gradients(parameters, batch, 1);
    const shapes = new Set(student.blocks.flatMap(({ linears }) => Object.values(linears).map((l) => `${l.outFeatures},${l.inFeatures}`)));
    expect(results.length).toBeGreaterThan(0);
    expect(results.filter(({ dtype, shape }) => dtype === 'float32' && shapes.has(`${shape}`))).toEqual([]);
  });

  it('with dropout see what a step draws, and repeat it', async () => {
    const batch = await windowBatches(windows, [0, 1], 2).at(0);
    const loss = trainedLoss(distillation(weights, 0.3));
    const [first, again, other] = [
      await loss.gradients(parameters, batch, 1),
      await loss.gradients(parameters, batch, 1),
      await loss.gradients(parameters, batch, 2),
    ];
    const name = 'model.layers.0.mlp.up_proj.down';
    const values = async (made: typeof first): Promise<number[]> => [...(await readFloats(made.gradients.get(name) as Tensor))];
    expect(first.loss).toBe(again.loss);
    expect(await values(first)).toEqual(await values(again));
    expect(first.loss).not.toBe(other.loss);
    // It is for training alone, and leaves the mean of what an adapter gives.
    expect(await loss.value(parameters, batch)).toBe(await trainedLoss(distillation(weights)).value(parameters, batch));
  });

  it('with dropout keep the mean of what an adapter sees', async () => {
    const batch = await windowBatches(windows, [0], 1).at(0);
    const tiny: NamedTensors = new Map(
      [...parameters].map(([name, t]) => [name, name.endsWith('up') ? tensor(new Float32Array(t.size), t.shape) : t]),
    );
    const up = 'model.layers.1.mlp.down_proj.up';
    const mean = new Float64Array((tiny.get(up) as Tensor).size);
    const STEPS = 40;
    for (let step = 1; step <= STEPS; step++) {
      const { gradients } = await trainedLoss(distillation(weights, 0.5)).gradients(tiny, batch, step);
      for (const [i, g] of (await readFloats(gradients.get(up) as Tensor)).entries()) mean[i] += g / STEPS;
    }
    // With B = 0 the loss does not depend on the masks, and the gradient is linear in them.
    const { gradients } = await trainedLoss(distillation(weights)).gradients(tiny, batch, 1);
    const expected = await readFloats(gradients.get(up) as Tensor);
    expect(Math.hypot(...mean.map((x, i) => x - expected[i])) / Math.hypot(...expected)).toBeLessThan(0.35);
  });
});
