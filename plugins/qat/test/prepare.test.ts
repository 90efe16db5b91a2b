// Prepare and convert: rounding to nearest at the start, the bits that were trained at the end, wrappers in between.
import { createOnnxBackend } from '@lowbit/backend-onnxruntime';
import { createRng, type Linear, type Model, mul, type Recipe, read, readFloats, type Tensor, tensor } from '@lowbit/core';
import { gptq } from '@lowbit/gptq';
import { quantize } from '@lowbit/pipeline';
import { ActivationQuantizedLinear, LowRankLinear, QuantizedLinear, RotatedLinear, SplitLinear } from '@lowbit/quant';
import { rtn } from '@lowbit/rtn';
import { distillationLoss, type NamedTensors, nextTokenLoss, type WindowBatch, windowLoss, withParameters } from '@lowbit/train';
import { afterAll, describe, expect, it } from 'vitest';
import { type QatInput, type QatOptions, qat } from '../src/index.js';
import { type Prepared, prepareModel } from '../src/prepare.js';
import { arithmetic, dense, elementsOf, weightsOf } from './setting.js';

const backend = await createOnnxBackend({ threads: 1, spin: false });
afterAll(() => backend.dispose());

function prepared(model: Model, input: QatInput = {}, reference = dense): Promise<Prepared<Model>> {
  const options = qat(input).options as QatOptions;
  const { trainNorms } = options;
  return prepareModel(model, { backend, optionsFor: () => options, trainNorms }, (index) => Promise.resolve(reference.blocks[index]));
}

async function quantized(recipe: Recipe): Promise<Model> {
  return (await quantize({ model: dense, backend, recipe, calibration: arithmetic })).model;
}

/** Every parameter somewhere near its start. */
async function moved({ parameters }: Prepared<Model>, seed: number): Promise<NamedTensors> {
  const entries = [...parameters].map(async ([name, t]): Promise<[string, Tensor]> => {
    const noise = createRng(seed).at(name).normal(t.size);
    return [
      name,
      tensor(
        (await readFloats(t)).map((x, i) => x + 0.1 * noise[i]),
        t.shape,
      ),
    ];
  });
  return new Map(await Promise.all(entries));
}

/** The shell with the weights that values stand for, computed. */
async function shellAt({ shell, tensorsFor }: Prepared<Model>, values: NamedTensors): Promise<Model> {
  const tensors = await tensorsFor(values);
  const leaves = await backend.evaluate([...tensors.values()]);
  return withParameters(shell, new Map([...tensors.keys()].map((name, i) => [name, leaves[i]])));
}

const formats: readonly (readonly [QatInput, Parameters<typeof rtn>[0]])[] = [
  [
    { bits: 2, groupSize: 16 },
    { bits: 2, groupSize: 16 },
  ],
  [
    { bits: 3, groupSize: -1, zero: 'symmetric' },
    { bits: 3, groupSize: -1, symmetric: true },
  ],
  [
    { bits: 1, groupSize: 8, zero: 'symmetric', scaleDtype: 'float32' },
    { bits: 1, groupSize: 8, symmetric: true, scaleDtype: 'float32' },
  ],
  [
    { bits: 4, groupSize: 16, clip: 'mse' },
    { bits: 4, groupSize: 16, clip: 'mse' },
  ],
];

describe.each(['learned', 'minmax'] as const)('%s', (quantizer) => {
  it.each(formats)('converted without a step is rounding to nearest, bit for bit (%#)', async (options, same) => {
    const { convert, parameters } = await prepared(dense, { ...options, quantizer });
    expect(await elementsOf(await convert(parameters))).toEqual(await elementsOf(await quantized([rtn(same)])));
  });
});

const ways: readonly QatInput[] = [
  { bits: 2, groupSize: 16, zero: 'integer' },
  { bits: 3, groupSize: 8, zero: 'free' },
  { bits: 4, groupSize: -1, zero: 'symmetric', scaleDtype: 'float32' },
  { bits: 2, groupSize: 16, quantizer: 'minmax' },
  { bits: 2, groupSize: 16, quantizer: 'minmax', zero: 'free', clip: 'mse' },
  { bits: 3, groupSize: 16, quantizer: 'lwc' },
  { bits: 3, groupSize: 16, quantizer: 'lwc', zero: 'free' },
  { bits: 2, groupSize: 16, quantizer: 'seq' },
  { bits: 1, groupSize: 16, quantizer: 'seq' },
];

it.each(ways)('converts what was trained, bit for bit (%#)', async (options) => {
  const made = await prepared(dense, { ...options, trainNorms: true });
  const values = await moved(made, 1);
  const converted = await made.convert(values);
  const shell = await shellAt(made, values);
  expect(await weightsOf(backend, converted)).toEqual(await weightsOf(backend, shell));
  const tokens = await arithmetic.at(0);
  const [trained, stored] = await backend.evaluate([shell.forward(tokens), converted.forward(tokens)]);
  expect(await readFloats(stored)).toEqual(await readFloats(trained));
  for (const { linears } of converted.blocks) for (const linear of Object.values(linears)) expect(linear).toBeInstanceOf(QuantizedLinear);
});

it.each([rtn({ bits: 2, groupSize: 16 }), rtn({ bits: 3, groupSize: 8, symmetric: true }), gptq({ bits: 2, groupSize: 16 })])(
  'from weights within the given codes, from dequantized ones, or with scales alone, begins with what was given (%#)',
  async (step) => {
    const given = await quantized([step]);
    for (const input of [{ latent: 'codes' }, { latent: 'dequantized' }, { train: 'scales' }] as const) {
      const { convert, parameters } = await prepared(given, input);
      expect(await elementsOf(await convert(parameters))).toEqual(await elementsOf(given));
    }
  },
);

it('keeps the grid of what was given, and begins with full-precision weights behind it', async () => {
  const given = await quantized([gptq({ bits: 2, groupSize: 16, symmetric: true })]);
  const { convert, parameters } = await prepared(given, { latent: 'reference' });
  for (const [name, latent] of parameters) {
    if (!name.endsWith('.latent')) continue;
    const [block, linear] = [Number(name.split('.')[2]), name.split('.').slice(3, -1).join('.')];
    expect(await read(latent), name).toEqual(await read(dense.blocks[block].linears[linear].effectiveWeight()));
  }
  const [before, after] = [await elementsOf(given), await elementsOf(await convert(parameters))];
  const isScale = (name: string): boolean => name.endsWith('.scale');
  expect(Object.keys(after)).toEqual(Object.keys(before));
  for (const name of Object.keys(before).filter(isScale)) expect(after[name], name).toEqual(before[name]);
});

it('moves scales and offsets alone where codes stay', async () => {
  const given = await quantized([rtn({ bits: 2, groupSize: 16 })]);
  const made = await prepared(given, { train: 'scales' });
  const [before, after] = [await elementsOf(given), await elementsOf(await made.convert(await moved(made, 3)))];
  const changed = Object.keys(before).filter((name) => before[name].some((x, i) => x !== after[name][i]));
  expect([...new Set(changed.map((name) => name.split('.').at(-1)))]).toEqual(['scale']);
  expect(changed).toHaveLength(14);
});

describe('within wrappers', () => {
  // The inputs in reverse.
  const matrix = tensor(
    Float32Array.from({ length: 48 * 48 }, (_, i) => (Math.floor(i / 48) + (i % 48) === 47 ? 1 : 0)),
    [48, 48],
  );
  const rotation = { kind: 'matrix', matrix } as const;
  const rank = (linear: Linear, seed: number): { down: Tensor; up: Tensor } => ({
    down: tensor(createRng(seed).normal(2 * linear.inFeatures), [2, linear.inFeatures]),
    up: tensor(
      createRng(seed + 1)
        .normal(2 * linear.outFeatures)
        .map((x) => 0.1 * x),
      [linear.outFeatures, 2],
    ),
  });
  const within = (wrap: (linear: Linear) => Linear, name = 'mlp.down_proj'): Model =>
    dense.with({ blocks: dense.blocks.map((block) => block.with({ linears: { [name]: wrap(block.linears[name]) } })) });
  const columns = (linear: Linear): Linear => {
    const weight = linear.effectiveWeight();
    const rest = linear.withWeight(tensor(createRng(5).normal(32 * 40), [32, 40]));
    return new SplitLinear({ outlier: tensor(createRng(6).normal(32 * 8), [weight.shape[0], 8]), rest, outlierDtype: 'float32' });
  };
  const wrappers: Readonly<Record<string, (linear: Linear) => Linear>> = {
    activations: (linear) => new ActivationQuantizedLinear(linear, { bits: 4 }),
    rotation: (linear) => new RotatedLinear({ base: linear, rotation }),
    columns,
    'activations beside columns': (linear) => new ActivationQuantizedLinear(columns(linear), { bits: 8 }),
  };

  it.each(Object.keys(wrappers))('%s stay', async (name) => {
    const wrapped = within(wrappers[name]);
    const given = (await quantize({ model: wrapped, backend, recipe: [rtn({ bits: 2, groupSize: 8 })] })).model;
    const fresh = await prepared(wrapped, { bits: 2, groupSize: 8 });
    expect(await elementsOf(await fresh.convert(fresh.parameters))).toEqual(await elementsOf(given));
    const made = await prepared(given, {}, wrapped);
    const values = await moved(made, 2);
    const converted = await made.convert(values);
    expect(await weightsOf(backend, converted)).toEqual(await weightsOf(backend, await shellAt(made, values)));
    for (const { linears } of converted.blocks) expect(linears['mlp.down_proj'].kind).toBe(wrapped.blocks[0].linears['mlp.down_proj'].kind);
  });

  it('a low-rank correction stays, and the weight behind the codes is what it leaves', async () => {
    const correct = (model: Model, scaling: number): Model =>
      model.with({
        blocks: model.blocks.map((block) => {
          const base = block.linears['mlp.down_proj'];
          return block.with({ linears: { 'mlp.down_proj': new LowRankLinear({ base, ...rank(base, 4), scaling }) } });
        }),
      });
    const given = correct(await quantized([rtn({ bits: 2, groupSize: 16 })]), 0.5);
    const { parameters, convert } = await prepared(given, { latent: 'reference' });
    const latent = parameters.get('model.layers.0.mlp.down_proj.latent') as Tensor;
    const { linears } = correct(dense, -0.5).blocks[0];
    const [expected] = await backend.evaluate([linears['mlp.down_proj'].effectiveWeight()]);
    const wanted = await readFloats(expected);
    for (const [i, w] of (await readFloats(latent)).entries()) expect(w).toBeCloseTo(wanted[i], 5);
    expect((await convert(parameters)).blocks[0].linears['mlp.down_proj']).toBeInstanceOf(LowRankLinear);
  });
});

const batch: WindowBatch = { tokens: await arithmetic.at(0), weights: [0.5, 0.5] };

it('has no gradient towards a teacher that it is itself', async () => {
  const made = await prepared(dense, { bits: 3, groupSize: 16, trainNorms: true });
  const teacher = await shellAt(made, made.parameters);
  const loss = made.lossOf(windowLoss({ backend, model: made.shell, lossOf: distillationLoss({ backend, teacher, distance: 'kl' }) }));
  const { loss: value, gradients } = await loss.gradients(made.parameters, batch, 1);
  expect(value).toBe(0);
  expect([...gradients.keys()]).toEqual([...made.parameters.keys()]);
  for (const [name, gradient] of gradients)
    expect(
      (await readFloats(gradient)).every((g) => g === 0),
      name,
    ).toBe(true);
});

it('goes down along the gradient of scales, which is a true one', async () => {
  const given = await quantized([rtn({ bits: 2, groupSize: 16 })]);
  const made = await prepared(given, { train: 'scales' });
  const loss = made.lossOf(windowLoss({ backend, model: made.shell, lossOf: nextTokenLoss }));
  const { loss: before, gradients } = await loss.gradients(made.parameters, batch, 1);
  const entries = [...made.parameters].map(async ([name, t]): Promise<[string, Tensor]> => {
    const along = await readFloats(gradients.get(name) as Tensor);
    return [
      name,
      tensor(
        (await readFloats(t)).map((x, i) => x - 1e-2 * along[i]),
        t.shape,
      ),
    ];
  });
  expect(await loss.value(new Map(await Promise.all(entries)), batch)).toBeLessThan(before);
});

it('gives the loss of the converted model, and says what has no elements', async () => {
  const made = await prepared(dense, { bits: 2, groupSize: 16 });
  const converted = await made.convert(made.parameters);
  const lossOf = (model: Model) => windowLoss({ backend, model, lossOf: nextTokenLoss });
  expect(await made.lossOf(lossOf(made.shell)).value(made.parameters, batch)).toBe(await lossOf(converted).value(new Map(), batch));
  await expect(backend.evaluate([mul(made.shell.forward(batch.tokens), 1)])).rejects.toMatchObject({ code: 'QAT_SHELL' });
});

it('trains norms of blocks with a targeted Linear, and the last one where all blocks have such', async () => {
  const { options } = qat({ bits: 2, groupSize: 16 });
  const normsOf = async (targets: RegExp): Promise<string[]> => {
    const optionsFor = (path: string): QatOptions | undefined => (targets.test(path) ? (options as QatOptions) : undefined);
    const made = await prepareModel(dense, { backend, optionsFor, trainNorms: true }, async (index) => dense.blocks[index]);
    return [...made.parameters.keys()].filter((name) => made.roleOf(name) === 'norm').map((name) => name.replace(/\.weight$/, ''));
  };
  const first = ['model.layers.0.input_layernorm', 'model.layers.0.post_attention_layernorm'];
  expect(await normsOf(/layers\.0\.mlp\.down_proj$/)).toEqual(first);
  const second = first.map((name) => name.replace('0', '1'));
  expect(await normsOf(/mlp\.down_proj$/)).toEqual([...first, ...second, 'model.norm']);
});

it.each(['learned', 'minmax', 'lwc'] as const)(
  '%s has a grid for weights beyond all scales, and for what is no number',
  async (quantizer) => {
    const made = await prepared(dense, { bits: 2, groupSize: 16, quantizer });
    for (const far of [1e5, 1e30, Number.POSITIVE_INFINITY, Number.NaN]) {
      const isLatent = (name: string): boolean => name.endsWith('.latent');
      const values = new Map([...made.parameters].map(([name, t]) => [name, isLatent(name) ? mul(t, far) : t]));
      const leaves = await backend.evaluate([...values.values()]);
      const given = new Map([...values.keys()].map((name, i) => [name, leaves[i]]));
      await expect(backend.evaluate([...(await made.tensorsFor(given)).values()])).resolves.toHaveLength(14);
    }
  },
);

it('needs a value for each parameter, of its shape', async () => {
  const made = await prepared(dense, { bits: 2, groupSize: 16 });
  const [name] = made.parameters.keys();
  const short = new Map([...made.parameters, [name, tensor(new Float32Array(3), [3])]]);
  for (const use of [made.convert, made.tensorsFor]) {
    await expect(use(new Map())).rejects.toMatchObject({
      code: 'TRAIN_PARAMETER',
      message: expect.stringContaining(`'${name}' is missing`),
    });
    await expect(use(short)).rejects.toMatchObject({ code: 'TRAIN_PARAMETER', message: expect.stringContaining('shape [3] in place of') });
  }
});
