// Training on packed codes: bits and gradients are those of the unpacked and of the dense weights, and no dequantized weight is kept.
import { createOnnxBackend } from '@lowbit/backend-onnxruntime';
import { createReferenceBackend } from '@lowbit/backend-reference';
import {
  type Backend,
  composites,
  createRng,
  crossEntropy,
  expand,
  grad,
  type Linear,
  type Model,
  mul,
  type OpName,
  readFloats,
  reshape,
  sum,
  type Tensor,
  tensor,
  tensorsOf,
} from '@lowbit/core';
import { quantize } from '@lowbit/pipeline';
import { LowRankLinear, PackedLinear, QuantizedLinear, quantizeWeight } from '@lowbit/quant';
import { createToyModel, createToyTokens } from '@lowbit/testkit';
import { modelGradients, type NamedTensors, type PositionsLoss, withParameters } from '@lowbit/train';
import { afterAll, describe, expect, it } from 'vitest';
import { packedModel } from '../src/emef/packed-model.js';
import { emef } from '../src/index.js';
import { rounding } from './rounding.js';

const backend = await createOnnxBackend({ threads: 2, spin: false });
const reference = createReferenceBackend();
afterAll(() => backend.dispose());
const rng = createRng(23);
const random = (name: string, shape: readonly number[], deviation = 1): Tensor =>
  tensor(
    rng
      .at(name)
      .normal(shape.reduce((a, b) => a * b, 1))
      .map((z) => deviation * z),
    shape,
  );
const grid = { groupSize: 16, symmetric: false, clip: 'minmax', scaleDtype: 'float32' } as const;

/** The model with every Linear in some form, an adapter that is not zero before it. */
async function adapted(model: Model, form: (weight: Float32Array, linear: Linear) => Linear): Promise<Model> {
  let changed = model;
  for (const [i, block] of model.blocks.entries()) {
    const linears: Record<string, Linear> = {};
    for (const [name, linear] of Object.entries(block.linears)) {
      const { inFeatures, outFeatures } = linear;
      linears[name] = new LowRankLinear({
        base: form(await readFloats(linear.effectiveWeight()), linear),
        down: random(`${i} ${name} down`, [2, inFeatures], inFeatures ** -0.5),
        up: random(`${i} ${name} up`, [outFeatures, 2], 0.3),
        scaling: 2,
      });
    }
    changed = changed.withBlock(i, block.with({ linears }));
  }
  return changed;
}

const toy = createToyModel({ seed: 4, blockCount: 2 });
const tokens = await createToyTokens({ seed: 5, batchSize: 2, tokens: 9 }).at(0);
const next = Int32Array.from(createRng(6).integers(tokens.size, 64));
const lossOf: PositionsLoss = (model, hidden, start, end) => ({
  loss: sum(crossEntropy(model.logits(hidden), tensor(next.subarray(start, end)))),
});
const isFactor = (name: string): boolean => name.endsWith('.down') || name.endsWith('.up');
const factorsOf = (model: Model): NamedTensors => new Map([...tensorsOf(model)].filter(([name]) => isFactor(name)));

function quantizedTo(bits: number): Promise<Model> {
  return adapted(toy, (weight, { outFeatures, inFeatures }) => {
    return new QuantizedLinear(quantizeWeight(weight, [outFeatures, inFeatures], { ...grid, bits }));
  });
}

async function gradientsOn(engine: Backend, model: Model): Promise<Map<string, Float32Array>> {
  const { gradients } = await modelGradients({ backend: engine, model, tokens, lossOf, parameters: factorsOf(model) });
  const values = new Map<string, Float32Array>();
  for (const [name, gradient] of gradients) values.set(name, await readFloats(gradient));
  return values;
}

function distance(a: Float32Array, b: Float32Array): number {
  return Math.hypot(...a.map((x, i) => x - b[i])) / Math.hypot(...b);
}

describe('gradients of adapters on packed codes', () => {
  it.each([1, 2, 3, 4, 5, 8])('are those on unpacked codes and on dense weights: %i bits', async (bits) => {
    const quantized = await quantizedTo(bits);
    const { model: packed, linears } = await packedModel(quantized);
    expect(linears).toBe(14);
    const weights = new Map<Linear, Tensor>();
    for (const { linears } of quantized.blocks) {
      for (const linear of Object.values(linears) as LowRankLinear[]) {
        const [weight] = await backend.evaluate([linear.base.effectiveWeight()]);
        weights.set(linear, weight);
      }
    }
    const dense = quantized.with({
      blocks: quantized.blocks.map((block) => {
        const linears = Object.entries(block.linears).map(([name, linear]): [string, Linear] => {
          const { base } = linear as LowRankLinear;
          return [name, (linear as LowRankLinear).with({ base: base.withWeight(weights.get(linear) as Tensor) })];
        });
        return block.with({ linears: Object.fromEntries(linears) });
      }),
    });
    const [found, unpacked, onDense] = [
      await gradientsOn(backend, packed),
      await gradientsOn(backend, quantized),
      await gradientsOn(backend, dense),
    ];
    expect([...found.keys()]).toEqual([...unpacked.keys()]);
    for (const [name, gradient] of found) {
      expect(distance(gradient, unpacked.get(name) as Float32Array), name).toBeLessThan(1e-6);
      expect(distance(gradient, onDense.get(name) as Float32Array), name).toBeLessThan(1e-5);
    }
  });

  it('are finite differences of the loss', async () => {
    const { model } = await packedModel(await quantizedTo(2));
    const parameters = factorsOf(model);
    const { gradients } = await modelGradients({ backend: reference, model, tokens, lossOf, parameters });
    const names = [...parameters.keys()].filter((name) => /layers\.0.*(q_proj|down_proj)/.test(name));
    expect(names).toHaveLength(4);
    for (const name of names) {
      const original = parameters.get(name) as Tensor;
      const values = await readFloats(original);
      const element = Math.floor(values.length / 2);
      const at = async (step: number): Promise<number> => {
        const moved = values.with(element, values[element] + step);
        const changed = withParameters(model, new Map([[name, tensor(moved, original.shape)]]));
        let x = changed.embedding.forward(tokens);
        for (const block of changed.blocks) x = block.forward(x);
        const { loss } = await lossOf(changed, reshape(x, [tokens.size, 32]), 0, tokens.size);
        return (await reference.float64(sum(loss)))[0];
      };
      const step = 2 ** -10;
      const difference = ((await at(step)) - (await at(-step))) / (2 * step);
      const gradient = (await readFloats(gradients.get(name) as Tensor))[element];
      expect(Math.abs(gradient - difference), name).toBeLessThan(1e-3 * (1 + Math.abs(difference)));
    }
  });
});

/** Shapes of all float32 values that a graph computes, composites in their parts. */
function floatShapes(roots: readonly Tensor[]): number[][] {
  const seen = new Set<Tensor>();
  const open = [...roots];
  for (let node = open.pop(); node; node = open.pop()) {
    if (seen.has(node) || node.source.kind === 'leaf') continue;
    seen.add(node);
    open.push(...(isComposite(node.source.op) ? [expand(node)] : node.source.inputs));
  }
  return [...seen].filter(({ dtype }) => dtype === 'float32').map(({ shape }) => [...shape]);
}

const isComposite = (op: OpName): boolean => op in composites;
const sizeOf = (shape: readonly number[]): number => shape.reduce((a, b) => a * b, 1);

describe('a large packed layer', () => {
  // More rows than are dequantized at a time, and a remainder.
  const [OUT, IN, ROWS] = [2368, 1024, 6];

  it.each([2, 3])('computes what the unpacked one does, and never has its weight whole: %i bits', async (bits) => {
    const weight = random('large', [OUT, IN], IN ** -0.5);
    const quantized = new QuantizedLinear(quantizeWeight(await readFloats(weight), [OUT, IN], { ...grid, bits }));
    const packed = await PackedLinear.of(quantized);
    const [x, dy] = [random('x', [2, 3, IN]), random('dy', [2, 3, OUT])];
    const graphOf = (linear: Linear): Tensor[] => [linear.forward(x), ...grad(sum(mul(linear.forward(x), dy)), [x])];
    const [[expected, along], [actual, found]] = [await evaluateAll(graphOf(quantized)), await evaluateAll(graphOf(packed))];
    expect(actual).toEqual(expected);
    // Products of rows are summed tile by tile.
    expect(distance(found, along)).toBeLessThan(1e-6);
    const [dequantized] = await backend.evaluate([quantized.effectiveWeight()]);
    const [w, upstream] = [await readFloats(dequantized), await readFloats(dy)];
    for (let row = 0; row < ROWS; row++) {
      for (const column of [0, 517, IN - 1]) {
        let total = 0;
        for (let k = 0; k < OUT; k++) total += upstream[row * OUT + k] * w[k * IN + column];
        expect(found[row * IN + column]).toBeCloseTo(total, 3);
      }
    }
    expect(Math.max(...floatShapes(graphOf(quantized)).map(sizeOf))).toBe(OUT * IN);
    expect(Math.max(...floatShapes(graphOf(packed)).map(sizeOf))).toBeLessThan(OUT * IN);
  });
});

async function evaluateAll(tensors: readonly Tensor[]): Promise<Float32Array[]> {
  return Promise.all((await backend.evaluate(tensors)).map(readFloats));
}

describe('what is kept', () => {
  it('between evaluations is no weight in floats, and codes four to a byte', async () => {
    const calibration = createToyTokens({ seed: 13, batchCount: 4, batchSize: 2, tokens: 10 });
    const { model } = await quantize({ model: toy, backend, recipe: [rounding({ bits: 2, groupSize: 16 })], calibration });
    const weightShapes = new Set(
      model.blocks.flatMap(({ linears }) => Object.values(linears).map(({ outFeatures, inFeatures }) => `${[outFeatures, inFeatures]}`)),
    );
    const leaves = new Set<Tensor>();
    let isTuning = false;
    const watched: Backend = {
      ...backend,
      get statistics() {
        return backend.statistics;
      },
      async evaluate(tensors, options) {
        const results = await backend.evaluate(tensors as readonly Tensor[], options);
        if (isTuning) for (const leaf of [...leavesOf(tensors), ...results]) leaves.add(leaf);
        return results as never;
      },
    };
    const step = emef({ rank: 2, epochs: 2, batchWindows: 2 });
    const spied = { ...step, method: { ...step.method, finetune: watch } };
    async function watch(...[given, context]: Parameters<NonNullable<typeof step.method.finetune>>): Promise<Model> {
      isTuning = true;
      const tuned = await (step.method.finetune as NonNullable<typeof step.method.finetune>)(given, context);
      isTuning = false;
      return tuned;
    }
    await quantize({ model, backend: watched, recipe: [spied], calibration });
    expect(leaves.size).toBeGreaterThan(100);
    const kept = [...leaves].filter(({ shape }) => weightShapes.has(`${shape}`));
    expect(kept.map(({ dtype, shape }) => `${dtype} ${shape}`)).toEqual([]);
    const bytes = [...leaves].filter(({ dtype }) => dtype === 'uint8').map(({ shape }) => shape);
    expect(bytes).toContainEqual([48, 8]);
  });
});

function leavesOf(roots: readonly Tensor[]): Tensor[] {
  const seen = new Set<Tensor>();
  const open = [...roots];
  for (let node = open.pop(); node; node = open.pop()) {
    if (seen.has(node)) continue;
    seen.add(node);
    if (node.source.kind === 'expression') open.push(...node.source.inputs);
  }
  return [...seen].filter(({ isLeaf }) => isLeaf);
}
