// A model with every kind of layer, in integers and simulated: equal logits, equal files, equal text.
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createOnnxBackend } from '@lowbit/backend-onnxruntime';
import { createReferenceBackend } from '@lowbit/backend-reference';
import { type Backend, createRng, type Linear, type Model, readFloats, slice, type Tensor, tensor } from '@lowbit/core';
import { saveCheckpoint } from '@lowbit/formats';
import {
  ActivationQuantizedLinear,
  IntegerLinear,
  LowRankLinear,
  QuantizedLinear,
  quantizeWeight,
  RotatedLinear,
  runsInIntegers,
  SplitLinear,
} from '@lowbit/quant';
import { afterAll, describe, expect, it } from 'vitest';
import { densify, generate, integerExecution, loadModel } from '../src/index.js';
import { randomCheckpoint, smallConfig } from './memory-checkpoint.js';

const reference = createReferenceBackend();
const onnx = await createOnnxBackend({ threads: 2 });
afterAll(() => onnx.dispose());

const rng = createRng(8);
const random = (name: string, shape: readonly [number, number]): Tensor =>
  tensor(
    rng
      .at(name)
      .normal(shape[0] * shape[1])
      .map((z) => 0.1 * z),
    shape,
  );

interface Settings {
  readonly bits: number;
  readonly symmetric: boolean;
  readonly activationBits?: number;
  readonly groupSize?: number;
}

async function quantized(weight: Tensor, { bits, symmetric, activationBits = 8, groupSize = -1 }: Settings): Promise<Linear> {
  const [values] = await reference.evaluate([weight]);
  const grid = { bits, symmetric, groupSize, clip: 'minmax', scaleDtype: 'float16' } as const;
  const affine = quantizeWeight(await readFloats(values), weight.shape, grid);
  return new ActivationQuantizedLinear(new QuantizedLinear(affine), { bits: activationBits });
}

const headRotation = tensor(
  [1, 1, 1, 1, 1, -1, 1, -1, 1, 1, -1, -1, 1, -1, -1, 1].map((sign) => sign / 2),
  [4, 4],
);

/** What each layer of a block becomes. */
const forms: Readonly<Record<string, (weight: Tensor) => Promise<Linear>>> = {
  'self_attn.q_proj': (weight) => quantized(weight, { bits: 4, symmetric: true }),
  'self_attn.k_proj': (weight) => quantized(weight, { bits: 8, symmetric: false }),
  'self_attn.v_proj': async (weight) =>
    new SplitLinear({
      outlier: slice(weight, 1, 0, 3),
      rest: await quantized(slice(weight, 1, 3, 24), { bits: 3, symmetric: false }),
      outlierDtype: 'float32',
    }),
  'self_attn.o_proj': async (weight) =>
    new RotatedLinear({
      base: await quantized(weight, { bits: 4, symmetric: true }),
      rotation: { kind: 'matrix', matrix: headRotation },
    }),
  'mlp.gate_proj': async (weight) =>
    new LowRankLinear({
      base: await quantized(weight, { bits: 2, symmetric: false }),
      down: random('down', [2, 24]),
      up: random('up', [40, 2]),
    }),
  'mlp.up_proj': (weight) => quantized(weight, { bits: 4, symmetric: true, activationBits: 16 }),
  'mlp.down_proj': (weight) => quantized(weight, { bits: 4, symmetric: true, groupSize: 8 }),
};

async function simulatedModel(): Promise<Model> {
  const dense = await loadModel(randomCheckpoint(smallConfig));
  const blocks = await Promise.all(
    dense.blocks.map(async (block) => {
      const entries = Object.entries(block.linears).map(async ([name, linear]) => [name, await forms[name](linear.effectiveWeight())]);
      const changed = block.with({ linears: Object.fromEntries(await Promise.all(entries)) });
      const split = changed.linears['self_attn.v_proj'] as SplitLinear;
      const [outlier] = await reference.evaluate([split.outlier]);
      return changed.with({ linears: { 'self_attn.v_proj': split.with({ outlier }) } });
    }),
  );
  return dense.with({ blocks });
}

const simulated = await simulatedModel();
const { model: integer, ...report } = integerExecution(simulated);
const tokens = tensor(createRng(2).integers(2 * 11, smallConfig.vocab_size), [2, 11]);

async function largestDifference(backend: Backend, a: Model, b: Model): Promise<number> {
  const [x, y] = await Promise.all((await backend.evaluate([a.forward(tokens), b.forward(tokens)])).map(readFloats));
  return x.reduce((most, value, i) => Math.max(most, Math.abs(value - y[i])), 0);
}

describe('integerExecution', () => {
  it('names the layers in integers, and why the others are not', () => {
    const inBlocks = (names: readonly string[]): string[] => [0, 1].flatMap((i) => names.map((name) => `model.layers.${i}.${name}`));
    expect(report.integer).toEqual(
      inBlocks(['self_attn.q_proj', 'self_attn.k_proj', 'self_attn.v_proj', 'self_attn.o_proj', 'mlp.gate_proj']),
    );
    expect(report.simulated.map(({ path }) => path)).toEqual([...inBlocks(['mlp.up_proj', 'mlp.down_proj']), 'lm_head']);
    expect(new Set(report.simulated.map(({ reason }) => reason))).toEqual(
      new Set([
        expect.stringMatching(/^its input has 16 bits/),
        expect.stringMatching(/^its weight has a scale for every 8 inputs/),
        expect.stringMatching(/^its input is not quantized/),
      ]),
    );
  });

  it.each([
    ['reference', reference, 1e-6],
    ['onnxruntime', onnx, 1e-4],
  ])('gives the logits of the simulated model on %s', async (_, backend, tolerance) => {
    expect(await largestDifference(backend, integer, simulated)).toBeLessThan(tolerance);
  });

  it('computes the head in integers where it is quantized', async () => {
    const head = await quantized(simulated.head.effectiveWeight(), { bits: 8, symmetric: true });
    const withHead = simulated.with({ head });
    const executed = integerExecution(withHead);
    expect(executed.integer).toContain('lm_head');
    expect(executed.model.head).toBeInstanceOf(IntegerLinear);
    expect(await largestDifference(reference, executed.model, withHead)).toBeLessThan(1e-6);
  });

  it('is saved as the simulated model', async () => {
    const directory = await mkdtemp(join(tmpdir(), 'lowbit-models-'));
    try {
      const files = await Promise.all(
        [integer, simulated].map(async (model, i) => {
          await saveCheckpoint(join(directory, `${i}`), model);
          const read = (name: string): Promise<Buffer> => readFile(join(directory, `${i}`, name));
          return Buffer.concat([await read('model.safetensors'), await read('config.json')]);
        }),
      );
      expect(files[0].equals(files[1])).toBe(true);
    } finally {
      await rm(directory, { recursive: true });
    }
  });

  it('generates the same text, with integer layers left as they are', async () => {
    const ready = await densify(integer, onnx);
    const inIntegers = Object.entries(ready.blocks[1].linears).filter(([, linear]) => runsInIntegers(linear));
    expect(inIntegers.map(([name]) => `model.layers.1.${name}`)).toEqual(report.integer.slice(5));
    const request = { prompts: [Int32Array.of(3, 1, 4)], maxTokens: 8 };
    expect(await generate(integer, reference, request)).toEqual(await generate(simulated, reference, request));
  });
});
