// Block-wise training: what it changes, what it leaves, and what it keeps.
import { createOnnxBackend } from '@lowbit/backend-onnxruntime';
import { createReferenceBackend } from '@lowbit/backend-reference';
import {
  type Block,
  grad,
  mean,
  read,
  readFloats,
  readNumber,
  roundToFloat16,
  type StoreEntry,
  slice,
  square,
  sub,
  type Tensor,
  tensor,
  tensorsOf,
} from '@lowbit/core';
import { ActivationQuantizedLinear, type QuantizedLinear } from '@lowbit/quant';
import { afterAll, describe, expect, it } from 'vitest';
import { refineBlock } from '../src/block.js';
import type { DecoupleqInput } from '../src/index.js';
import { affineLayerOf } from '../src/trainable.js';
import { type BlockSetting, blockContext, blockSetting, type Recorded, type Zero } from './block-setting.js';

const reference = createReferenceBackend();
const backend = await createOnnxBackend({ threads: 1, spin: false });
afterAll(() => backend.dispose());
const plain = await blockSetting(backend);
const fast: DecoupleqInput = { blockLearningRate: 3e-3, blockEpochs: 3, blockHoldOut: 0.25 };

/** Mean square error over all windows. */
async function blockLoss({ inputs, targets }: BlockSetting, block: Block): Promise<number> {
  const losses = await backend.evaluate(inputs.map((x, i) => mean(square(sub(block.forward(x), targets[i])))));
  let total = 0;
  for (const loss of losses) total += await readNumber(loss);
  return total / losses.length;
}

async function refined(input: DecoupleqInput, setting = plain, more: Parameters<typeof blockContext>[2] = {}) {
  const recorded = blockContext(setting, input, more);
  return { block: await refineBlock(setting.quantized, recorded.context), ...recorded };
}

async function changedNames(before: Block, after: Block): Promise<string[]> {
  const now = tensorsOf(after);
  const changed: string[] = [];
  for (const [name, t] of tensorsOf(before)) {
    const other = now.get(name) as Tensor;
    if (other !== t && (await read(other)).some((x, i) => x !== (t.source as { data: Float32Array }).data[i])) changed.push(name);
  }
  return changed;
}

const layersOf = (block: Block): [string, QuantizedLinear][] =>
  Object.entries(block.linears).map(([name, linear]) => [name, affineLayerOf(linear) as QuantizedLinear]);

describe('refineBlock', () => {
  it.each(['free', 'integer', 'symmetric'] as const)(
    'lowers the error of the block and leaves its codes (%s zeros)',
    async (zero: Zero) => {
      const setting = await blockSetting(backend, { zero });
      const { block, logs, warnings } = await refined(fast, setting);
      expect(await blockLoss(setting, block)).toBeLessThan(0.9 * (await blockLoss(setting, setting.quantized)));
      for (const [name, layer] of layersOf(block)) {
        const { weight } = setting.quantized.linears[name] as QuantizedLinear;
        expect(layer.weight.codes).toBe(weight.codes);
        expect(layer.weight.zeroPoint).toBe(weight.zeroPoint);
        expect(layer.bias).toBe((setting.quantized.linears[name] as QuantizedLinear).bias);
        for (const t of [layer.weight.scale, layer.weight.offset ?? layer.weight.scale]) {
          const values = await readFloats(t);
          expect(values.every((x) => roundToFloat16(x) === x)).toBe(true);
        }
      }
      expect(warnings).toEqual([]);
      expect(logs).toHaveLength(1);
    },
  );

  it('logs losses before and after, on windows that were trained on and held out', async () => {
    const { logs, progress } = await refined(fast);
    const [record] = logs as [Record<string, number> & { losses: number[] }];
    expect(Object.keys(record)).toEqual([
      'blockLossBefore',
      'blockLossAfter',
      'blockHeldOutBefore',
      'blockHeldOutAfter',
      'learningRate',
      'epoch',
      'losses',
    ]);
    expect(record.blockLossAfter).toBeLessThan(record.blockLossBefore);
    expect(record.blockHeldOutAfter).toBeLessThan(record.blockHeldOutBefore);
    expect(record.losses).toHaveLength(3);
    // In the units of the output, whatever the loss was scaled by.
    expect(record.losses[0] / record.blockLossBefore).toBeGreaterThan(0.3);
    expect(record.losses[0] / record.blockLossBefore).toBeLessThan(1.5);
    expect([...progress].sort((a, b) => a - b)).toEqual(progress);
    expect(progress.at(-1)).toBe(1);
  });

  it('is the identity without epochs, and with a rate that moves nothing', async () => {
    expect((await refined({ ...fast, blockEpochs: 0 })).block).toBe(plain.quantized);
    const { block, logs } = await refined({ ...fast, blockLearningRate: 1e-30 });
    expect(block).toBe(plain.quantized);
    expect(logs[0]).toMatchObject({ epoch: 0 });
    const last = await refined({ ...fast, blockLearningRate: 1e-30, blockHoldOut: 0 });
    expect(await changedNames(plain.quantized, last.block)).toEqual([]);
  });

  it('never keeps an epoch that is worse on held-out windows than the start', async () => {
    for (const blockLearningRate of [1e-3, 0.05, 10]) {
      const { logs } = await refined({ ...fast, blockLearningRate });
      const [record] = logs as [Record<string, number>];
      expect(record.blockHeldOutAfter).toBeLessThanOrEqual(record.blockHeldOutBefore);
    }
    const { block } = await refined({ ...fast, blockLearningRate: 10 });
    expect(block).toBe(plain.quantized);
  });

  it('keeps the last epoch where nothing is held out', async () => {
    const { logs } = await refined({ ...fast, blockHoldOut: 0, blockLearningRate: 0.05 });
    expect(logs[0]).toMatchObject({ epoch: 3, blockHeldOutBefore: null, blockHeldOutAfter: null });
  });

  it('trains what it is told to', async () => {
    const kinds = async (input: DecoupleqInput, more: Parameters<typeof blockContext>[2] = {}): Promise<string[]> => {
      const names = await changedNames(plain.quantized, (await refined({ ...fast, ...input }, plain, more)).block);
      return [...new Set(names.map((name) => name.replace(/^(self_attn|mlp)\.\w+\./, '')))].sort();
    };
    expect(await kinds({})).toEqual(['input_layernorm.weight', 'offset', 'post_attention_layernorm.weight', 'scale']);
    expect(await kinds({ trainNorms: false })).toEqual(['offset', 'scale']);
    expect(await kinds({ trainNorms: false, trainBiases: true })).toEqual(['bias', 'offset', 'scale']);

    const optionsFor: Recorded['context']['optionsFor'] = (name) =>
      name === 'mlp.down_proj' ? blockContext(plain, fast).context.options : undefined;
    const { block } = await refined({ ...fast, trainNorms: false }, plain, { optionsFor });
    expect(await changedNames(plain.quantized, block)).toEqual(['mlp.down_proj.scale', 'mlp.down_proj.offset']);
    const untargeted = await refined({ ...fast, trainNorms: false }, plain, { optionsFor: () => undefined });
    expect(untargeted.block).toBe(plain.quantized);
  });

  it('reaches the layer inside a wrapper', async () => {
    const setting = await blockSetting(backend, { wrap: (linear) => new ActivationQuantizedLinear(linear, { bits: 8 }) });
    const { block } = await refined(fast, setting);
    expect(await changedNames(setting.quantized, block)).toContain('mlp.up_proj.base.scale');
    expect(block.linears['mlp.up_proj']).toBeInstanceOf(ActivationQuantizedLinear);
    expect(await blockLoss(setting, block)).toBeLessThan(await blockLoss(setting, setting.quantized));
  });

  it('takes the best of several learning rates', async () => {
    const few = { ...fast, blockEpochs: 1 };
    const rates = [1e-5, 3e-3, 0.3];
    const single: number[] = [];
    for (const blockLearningRate of rates) {
      const { logs } = await refined({ ...few, blockLearningRate });
      single.push((logs[0] as Record<string, number>).blockHeldOutAfter);
    }
    const { block, logs, progress } = await refined({ ...few, blockLearningRate: rates });
    expect(logs[0]).toMatchObject({ learningRate: 3e-3, blockHeldOutAfter: Math.min(...single) });
    expect(progress).toHaveLength(3 * 6);
    const alone = await refined({ ...few, blockLearningRate: 3e-3 });
    expect(await changedNames(alone.block, block)).toEqual([]);
    // Without held-out windows, the one that fits the others best.
    const fitted = await refined({ ...few, blockHoldOut: 0, blockLearningRate: [1e-5, 3e-3] });
    expect(fitted.logs[0]).toMatchObject({ learningRate: 3e-3 });
  });

  it('says which rate left the finite numbers, and goes on with the others', async () => {
    const { block, warnings, logs } = await refined({ ...fast, blockLearningRate: [1e38, 3e-3] });
    expect(warnings).toEqual([expect.stringMatching(/^DECOUPLEQ_BLOCK_DIVERGED: model\.layers\.0: .* learning rate 1e\+38 /)]);
    expect(logs[0]).toMatchObject({ learningRate: 3e-3 });
    expect(await blockLoss(plain, block)).toBeLessThan(await blockLoss(plain, plain.quantized));
    const alone = await refined({ ...fast, blockHoldOut: 0, blockLearningRate: 1e38 });
    expect(alone.warnings).toHaveLength(1);
    for (const t of tensorsOf(alone.block).values()) expect((await read(t)).every(Number.isFinite)).toBe(true);
  });

  it('leaves a block alone whose output is not finite', async () => {
    const broken = { ...plain, inputs: plain.inputs.map((x) => tensor(new Float32Array(x.size).fill(Number.NaN), x.shape)) };
    const { block, warnings } = await refined(fast, broken);
    expect(block).toBe(plain.quantized);
    expect(warnings).toEqual([expect.stringMatching(/^DECOUPLEQ_BLOCK_NOT_FINITE: /)]);
  });

  it('resumes to the same bits, within a rate and between rates', async () => {
    const input = { ...fast, blockEpochs: 2, blockLearningRate: [1e-3, 3e-3] };
    const whole = await refined(input);
    expect(whole.saved).toHaveLength(3);
    for (const entry of whole.saved) {
      const saved: StoreEntry = { ...entry, metadata: JSON.parse(JSON.stringify(entry.metadata)) as StoreEntry['metadata'] };
      const resumed = await refined(input, plain, { saved });
      expect(await changedNames(whole.block, resumed.block)).toEqual([]);
      expect(resumed.logs).toEqual(whole.logs);
    }
  });

  it('gives equal bits for batches of another size and equal windows in a step', async () => {
    const [first, second] = [0, 2].map((i) => (t: readonly Tensor[]) => [t[i], t[i + 1]]);
    const join = async (pair: readonly Tensor[]): Promise<Tensor> => {
      const data = await Promise.all(pair.map(readFloats));
      return tensor(Float32Array.from(data.flatMap((part) => [...part])), [4, ...pair[0].shape.slice(1)]);
    };
    const joined = async (t: readonly Tensor[]): Promise<Tensor[]> => [await join(first(t)), await join(second(t))];
    const rebatched = { ...plain, inputs: await joined(plain.inputs), targets: await joined(plain.targets) };
    const input = { ...fast, blockBatch: 3 };
    expect(await changedNames((await refined(input)).block, (await refined(input, rebatched)).block)).toEqual([]);
  });

  it.each(['absolute', 'relative'] as const)('takes the published first step of Adam on the %s loss', async (blockLossKind) => {
    const rate = 1e-3;
    const setting = await blockSetting(backend, { scaleDtype: 'float32' });
    const recorded = blockContext(setting, {
      preset: 'paper',
      blockLoss: blockLossKind,
      blockEpochs: 1,
      blockLearningRate: rate,
      blockBatch: 8,
      blockWeightDecay: 0,
    });
    const block = await refineBlock(setting.quantized, recorded.context);
    const { weight } = setting.quantized.linears['mlp.down_proj'] as QuantizedLinear;
    const gamma = setting.quantized.norms['post_attention_layernorm'].weight as Tensor;
    const moved = block.linears['mlp.down_proj'] as QuantizedLinear;
    const wanted = [gamma, weight.scale, weight.offset as Tensor];
    const losses = setting.inputs.map((x, i) => mean(square(sub(setting.quantized.forward(x), setting.targets[i]))));
    const scale = blockLossKind === 'absolute' ? 1 : 1 / (await blockLoss(setting, setting.quantized));
    const mean64 = async (index: number): Promise<number[]> => {
      const each = await Promise.all(losses.map((loss) => reference.float64(grad(loss, wanted)[index])));
      return Array.from(each[0], (_, i) => (scale * each.reduce((total, one) => total + one[i], 0)) / losses.length);
    };
    const [dGamma, dScale, dOffset] = [await mean64(0), await mean64(1), await mean64(2)];
    const step = (was: number, g: number): number => was - (rate * g) / (Math.abs(g) + 2e-5);
    const pairs = async (from: Tensor, to: Tensor): Promise<[number, number][]> => {
      const [was, is] = await Promise.all([readFloats(from), readFloats(to)]);
      return Array.from(was, (x, i) => [x, is[i]]);
    };
    const norms = await pairs(gamma, block.norms['post_attention_layernorm'].weight as Tensor);
    for (const [i, [was, is]] of norms.entries()) expect(is).toBeCloseTo(step(was, dGamma[i]), 6);
    // Scale and zero belong to signed codes: ŵ = s · (q − 2) + z, so that a step of the scale turns about code 2.
    const [scales, offsets] = [
      await pairs(weight.scale, moved.weight.scale),
      await pairs(weight.offset as Tensor, moved.weight.offset as Tensor),
    ];
    for (const [i, [was, is]] of scales.entries()) {
      const expected = step(was, dScale[i] - 2 * dOffset[i]);
      expect(is).toBeCloseTo(expected, 5);
      expect(offsets[i][1]).toBeCloseTo(step(offsets[i][0] + 2 * was, dOffset[i]) - 2 * expected, 5);
    }
  });
});

describe('preset paper', () => {
  it('is the published training: Adam with β 0.9 and 0.99, ε 2e-5, L2 decay, a constant rate, one window after the other', async () => {
    const [rate, decay] = [1e-3, 0.05];
    const setting = await blockSetting(backend, { scaleDtype: 'float32' });
    const targets = ['mlp.down_proj'];
    const optionsFor: Recorded['context']['optionsFor'] = (name) =>
      targets.includes(name) ? blockContext(setting, { preset: 'paper' }).context.options : undefined;
    const recorded = blockContext(
      setting,
      { preset: 'paper', blockEpochs: 2, blockLearningRate: rate, blockWeightDecay: decay },
      { optionsFor },
    );
    const block = await refineBlock(setting.quantized, recorded.context);

    const down = setting.quantized.linears['mlp.down_proj'] as QuantizedLinear;
    const scale = [...(await readFloats(down.weight.scale))];
    const zero = [...(await readFloats(down.weight.offset as Tensor))].map((o, i) => o + 2 * scale[i]);
    const norms = Object.values(setting.quantized.norms).map(({ weight }) => weight as Tensor);
    const values = [scale, zero, ...(await Promise.all(norms.map(async (t) => [...(await readFloats(t))])))];
    const moments = values.map((list) => list.map(() => ({ m: 0, v: 0 })));
    let step = 0;
    for (let epoch = 0; epoch < 2; epoch++) {
      for (let window = 0; window < 8; window++) {
        step++;
        const leaf = (list: readonly number[], like: Tensor): Tensor => tensor(Float32Array.from(list), like.shape);
        const now = [
          leaf(values[0], down.weight.scale),
          leaf(values[1], down.weight.scale),
          ...norms.map((t, i) => leaf(values[i + 2], t)),
        ];
        const offset = leaf(
          values[1].map((z, i) => z - 2 * values[0][i]),
          down.weight.scale,
        );
        const parts = new Map<Tensor, Tensor>([
          [down.weight.scale, now[0]],
          [down.weight.offset as Tensor, offset],
          ...norms.map((t, i): [Tensor, Tensor] => [t, now[i + 2]]),
        ]);
        const moved = setting.quantized.map((t) => parts.get(t) ?? t);
        const one = (t: Tensor): Tensor => slice(t, 0, window % 2, (window % 2) + 1);
        const at = Math.floor(window / 2);
        const loss = mean(square(sub(moved.forward(one(setting.inputs[at])), one(setting.targets[at]))));
        const wanted = grad(loss, [now[0], offset, ...now.slice(2)]);
        const [ds, dz, ...rest] = await Promise.all(wanted.map(async (g) => [...(await reference.float64(g))]));
        const gradients = [ds.map((g, i) => g - 2 * dz[i]), dz, ...rest];
        for (const [p, list] of values.entries()) {
          for (const [i, value] of list.entries()) {
            const g = gradients[p][i] + decay * value;
            const state = moments[p][i];
            state.m = 0.9 * state.m + 0.1 * g;
            state.v = 0.99 * state.v + 0.01 * g * g;
            list[i] -= (rate * (state.m / (1 - 0.9 ** step))) / (Math.sqrt(state.v / (1 - 0.99 ** step)) + 2e-5);
          }
        }
      }
    }
    const after = block.linears['mlp.down_proj'] as QuantizedLinear;
    const near = async (t: Tensor, expected: readonly number[]): Promise<void> => {
      for (const [i, x] of (await readFloats(t)).entries()) expect(Math.abs(x - expected[i])).toBeLessThan(0.02 * rate);
    };
    await near(after.weight.scale, values[0]);
    await near(
      after.weight.offset as Tensor,
      values[1].map((z, i) => z - 2 * values[0][i]),
    );
    for (const [i, { weight }] of Object.values(block.norms).entries()) await near(weight as Tensor, values[i + 2]);
    expect(recorded.logs[0]).toMatchObject({ epoch: 2, blockHeldOutBefore: null });
  });
});
