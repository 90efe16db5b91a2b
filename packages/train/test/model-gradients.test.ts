// Gradients one block at a time: equal to those of one graph, with two programs for all blocks and nothing kept but block inputs.
import { createOnnxBackend } from '@lowbit/backend-onnxruntime';
import { createReferenceBackend } from '@lowbit/backend-reference';
import {
  add,
  type Backend,
  createRng,
  crossEntropy,
  grad,
  type Linear,
  type Model,
  mean,
  mul,
  readFloats,
  readNumber,
  reshape,
  square,
  sum,
  type Tensor,
  tensor,
  tensorsOf,
} from '@lowbit/core';
import { LowRankLinear, QuantizedLinear, quantizeWeight } from '@lowbit/quant';
import { createToyModel, createToyTokens } from '@lowbit/testkit';
import { describe, expect, it } from 'vitest';
import {
  adam,
  constantRate,
  lastHidden,
  meanLoss,
  modelGradients,
  modelLoss,
  type NamedTensors,
  type PositionsLoss,
  type StagedLoss,
  train,
  withParameters,
} from '../src/index.js';

const backend = createReferenceBackend();
const rng = createRng(17);
const tokens = await createToyTokens({ seed: 3 }).at(0);
const targets = Int32Array.from(createRng(4).integers(tokens.size, 64));
const grid = { bits: 2, groupSize: 16, symmetric: false, clip: 'minmax', scaleDtype: 'float32' } as const;

/** Every Linear quantized, with an adapter that is not zero. */
async function corrected(model: Model): Promise<Model> {
  let changed = model;
  for (const [i, block] of model.blocks.entries()) {
    const linears: Record<string, Linear> = {};
    for (const [name, linear] of Object.entries(block.linears)) {
      const { inFeatures, outFeatures } = linear;
      const weight = await readFloats(linear.effectiveWeight());
      const draws = rng.at(i, name);
      linears[name] = new LowRankLinear({
        base: new QuantizedLinear(quantizeWeight(weight, [outFeatures, inFeatures], grid)),
        down: tensor(draws.at('down').normal(3 * inFeatures), [3, inFeatures]),
        up: tensor(
          draws
            .at('up')
            .normal(outFeatures * 3)
            .map((x) => 0.05 * x),
          [outFeatures, 3],
        ),
        scaling: 0.5,
      });
    }
    changed = changed.withBlock(i, block.with({ linears }));
  }
  return changed;
}

const model = await corrected(createToyModel({ seed: 2, blockCount: 3, biases: true }));

/** Sum of cross-entropies, and of squares of the hidden state as a part. */
const lossOf: PositionsLoss = (model, hidden, start, end) => ({
  loss: add(sum(crossEntropy(model.logits(hidden), tensor(targets.subarray(start, end)))), mul(0.01, sum(square(hidden)))),
  parts: { squares: sum(square(hidden)) },
});

function named(tree: Model, isWanted: (name: string) => boolean): NamedTensors {
  return new Map([...tensorsOf(tree)].filter(([name]) => isWanted(name)));
}

/** Loss and gradients of the same loss as one graph. */
async function inOneGraph(engine: Backend, tree: Model, parameters: NamedTensors): Promise<Tensor[]> {
  let x = tree.embedding.forward(tokens);
  for (const block of tree.blocks) x = block.forward(x);
  const { loss } = await lossOf(tree, reshape(x, [tokens.size, 32]), 0, tokens.size);
  return engine.evaluate([loss, ...grad(loss, [...parameters.values()])]);
}

async function expectEqualGradients(engine: Backend, tree: Model, parameters: NamedTensors, positionsAtOnce?: number): Promise<void> {
  const [loss, ...expected] = await inOneGraph(engine, tree, parameters);
  const found = await modelGradients({ backend: engine, model: tree, tokens, lossOf, parameters, positionsAtOnce });
  expect(found.loss).toBeCloseTo(await readNumber(loss), 2);
  expect([...found.gradients.keys()]).toEqual([...parameters.keys()]);
  for (const [i, [name, gradient]] of [...found.gradients].entries()) {
    expect(gradient.shape, name).toEqual(expected[i].shape);
    const [values, wanted] = [await readFloats(gradient), await readFloats(expected[i])];
    const size = Math.hypot(...wanted);
    expect(size, name).toBeGreaterThan(0);
    expect(Math.hypot(...values.map((x, j) => x - wanted[j])) / size, name).toBeLessThan(1e-5);
  }
}

const isAdapter = (name: string): boolean => name.endsWith('.down') || name.endsWith('.up');

describe('modelGradients', () => {
  it.each([
    ['adapters', isAdapter],
    ['scales', (name: string) => name.endsWith('.scale')],
    ['adapters of the upper blocks', (name: string) => isAdapter(name) && !name.startsWith('model.layers.0')],
    ['biases, norms and the head', (name: string) => /bias$|norm|lm_head/.test(name)],
    ['the embedding', (name: string) => name.startsWith('model.embed')],
    ['the head alone', (name: string) => name.startsWith('lm_head')],
  ])('is what one graph gives for %s', async (_what, isWanted) => {
    const parameters = named(model, isWanted);
    expect(parameters.size).toBeGreaterThan(0);
    await expectEqualGradients(backend, model, parameters);
    await expectEqualGradients(backend, model, parameters, 7);
  });

  it('sums what a tensor gets as embedding and as head', async () => {
    const tied = createToyModel({ tiedEmbeddings: true });
    await expectEqualGradients(
      backend,
      tied,
      named(tied, (name) => name.startsWith('model.embed')),
      7,
    );
  });

  it('agrees on the engine, where all blocks share two programs', async () => {
    const engine = await createOnnxBackend({ threads: 1, spin: false });
    const parameters = named(model, isAdapter);
    const request = { backend: engine, model, tokens, lossOf, parameters };
    await modelGradients(request);
    // Embedding, block, head with its gradients, block backwards.
    expect(engine.statistics.compilations).toBe(4);
    await modelGradients(request);
    expect(engine.statistics.compilations).toBe(4);
    await expectEqualGradients(engine, model, parameters);
    await engine.dispose();
  });

  it('puts the parameters into the model, and leaves both as they were', async () => {
    const parameters = named(model, isAdapter);
    const other = new Map([...parameters].map(([name, t]) => [name, tensor(rng.at('other', name).normal(t.size), t.shape)]));
    const before = await readFloats([...other.values()][0]).then((values) => [...values]);
    const found = await modelGradients({ backend, model, tokens, lossOf, parameters: other });
    await expectEqualGradients(backend, withParameters(model, other), other);
    const plain = await modelGradients({ backend, model, tokens, lossOf, parameters });
    expect(found.loss).not.toBe(plain.loss);
    expect([...(await readFloats([...other.values()][0]))]).toEqual(before);
  });

  it('keeps no dequantized weight, and no more logits than asked for', async () => {
    const results: Tensor[] = [];
    const recording: Backend = {
      ...backend,
      async evaluate(tensors, options) {
        const made = await backend.evaluate(tensors, options);
        results.push(...made);
        return made;
      },
    };
    await modelGradients({ backend: recording, model, tokens, lossOf, parameters: named(model, isAdapter), positionsAtOnce: 5 });
    const dense = new Set(model.blocks.flatMap(({ linears }) => Object.values(linears).map((l) => `${l.outFeatures}x${l.inFeatures}`)));
    expect(results.filter(({ shape }) => dense.has(shape.join('x')))).toEqual([]);
    expect(results.filter(({ shape }) => shape[shape.length - 1] === 64)).toEqual([]);
  });

  it('refuses a parameter that the model has not', async () => {
    const parameters = new Map([['model.layers.0.no_proj.up', tensor([1])]]);
    await expect(modelGradients({ backend, model, tokens, lossOf, parameters })).rejects.toMatchObject({
      code: 'TRAIN_PARAMETER',
      message: expect.stringContaining('model.layers.0.no_proj.up'),
    });
  });
});

describe('modelLoss', () => {
  it('is the loss that has the gradients, and sums its parts over pieces', async () => {
    const parameters = named(model, isAdapter);
    const [{ loss, parts }, whole] = [
      await modelLoss({ backend, model, tokens, lossOf, positionsAtOnce: 5 }),
      await modelGradients({ backend, model, tokens, lossOf, parameters }),
    ];
    expect(loss).toBeCloseTo(whole.loss, 3);
    expect(parts.squares).toBeCloseTo(whole.parts.squares, 2);
    const [squares] = await backend.evaluate([sum(square(await lastHidden(backend, model, tokens)))]);
    expect(parts.squares).toBeCloseTo(await readNumber(squares), 2);
  });
});

describe('train', () => {
  it('takes a loss that computes its own gradients, to the same parameters', async () => {
    const parameters = named(model, isAdapter);
    const seen: number[] = [];
    const staged: StagedLoss<Tensor> = {
      value: async (values) => (await modelLoss({ backend, model: withParameters(model, values), tokens, lossOf })).loss,
      gradients(values, _batch, step) {
        seen.push(step);
        return modelGradients({ backend, model, tokens, lossOf, parameters: values });
      },
    };
    const graph = (values: NamedTensors): Tensor => {
      const tree = withParameters(model, values);
      const hidden = reshape(
        tree.blocks.reduce((x, block) => block.forward(x), tree.embedding.forward(tokens)),
        [tokens.size, 32],
      );
      const loss = crossEntropy(tree.logits(hidden), tensor(targets));
      return add(sum(loss), mul(0.01, sum(square(hidden))));
    };
    const batches = { length: 1, at: () => tokens };
    const common = { backend, parameters, optimizer: adam({ clipNorm: 1 }), batches, epochs: 3, learningRate: constantRate(0.01) };
    const inStages = await train({ ...common, lossOf: staged, validation: { batches } });
    const inOne = await train({ ...common, lossOf: graph, validation: { batches } });
    expect(seen).toEqual([1, 2, 3]);
    expect(inStages.validation?.after).toBeLessThan(inStages.validation?.before as number);
    for (const [i, loss] of inOne.losses.entries()) expect(inStages.losses[i] / loss).toBeCloseTo(1, 5);
    expect(inStages.validation?.after).toBe(await meanLoss(backend, inStages.parameters, staged, batches));
    const name = 'model.layers.1.mlp.up_proj.down';
    const [a, b] = [inStages.parameters.get(name) as Tensor, inOne.parameters.get(name) as Tensor];
    const [difference] = await backend.evaluate([mean(square(add(a, mul(-1, b))))]);
    expect(await readNumber(difference)).toBeLessThan(1e-10);
  });
});
