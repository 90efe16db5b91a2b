// Each part of the transform by itself keeps the function: folding of norms, the stream's isometry, heads within and across, the MLP.
import { createReferenceBackend } from '@lowbit/backend-reference';
import { type Block, type BlockParts, createRng, type Model, Norm, tensor } from '@lowbit/core';
import { beforeAll, describe, expect, it } from 'vitest';
import { type ModelSettings, rotatedModel } from '../src/fold/model.js';
import { Isometry, reflections } from '../src/index.js';
import { type AxisRotation, hadamardOrFallback, noRotation } from '../src/isometry/axis-rotation.js';
import { type SmallConfig, smallConfig, smallModel, tokensFor } from './llama.js';
import { largestGap } from './oracle.js';

const backend = createReferenceBackend();
const config: SmallConfig = {
  ...smallConfig,
  vocab_size: 17,
  hidden_size: 24,
  intermediate_size: 20,
  num_attention_heads: 4,
  num_key_value_heads: 2,
  head_dim: 6,
  attention_bias: true,
  mlp_bias: true,
};
const width = config.hidden_size;

let model: Model;
let expected: Float64Array;
beforeAll(async () => {
  ({ model } = await smallModel(config));
  expected = await backend.float64(model.forward(await tokensFor(config, { tokens: 6 }).at(0)));
});

const rotationOf = (size: number, hasSigns: boolean): Promise<AxisRotation> =>
  hadamardOrFallback(size, { backend, fallback: 'block-diagonal', rng: createRng(6).at(size), hasSigns });

/** Nothing but the folding of norms. */
function nothing(): ModelSettings {
  return {
    isometry: new Isometry({ layout: 'expand', width, outliers: undefined, rotation: noRotation(width) }),
    inner: { withinHeads: noRotation(6), acrossHeads: undefined, hidden: undefined },
    keyValues: undefined,
    activationBits: 16,
    outputActivationBits: 16,
    clipRatio: 1,
    dtype: 'float32',
  };
}

const parts: Record<string, () => Promise<ModelSettings>> = {
  'folding of norms': async () => nothing(),
  'rotation of the stream': async () => ({
    ...nothing(),
    isometry: new Isometry({ layout: 'expand', width, outliers: undefined, rotation: await rotationOf(width, true) }),
  }),
  'outlier directions without a rotation': async () => {
    const outliers = { reflections: reflections(createRng(8).normal(width * 5), width, 5), rotation: noRotation(5) };
    return { ...nothing(), isometry: new Isometry({ layout: 'compact', width, outliers, rotation: noRotation(width - 5) }) };
  },
  'values and outputs within heads': async () => ({ ...nothing(), inner: { ...nothing().inner, withinHeads: await rotationOf(6, false) } }),
  'outputs across heads': async () => ({ ...nothing(), inner: { ...nothing().inner, acrossHeads: await rotationOf(4, false) } }),
  'inputs of the down projection': async () => ({ ...nothing(), inner: { ...nothing().inner, hidden: await rotationOf(20, false) } }),
};

describe('by itself', () => {
  it.each(Object.keys(parts))('%s', async (name) => {
    const made = await rotatedModel(backend, model, await parts[name](), () => {});
    const actual = await backend.float64(made.forward(await tokensFor(config, { tokens: 6 }).at(0)));
    const peak = expected.reduce((most, value) => Math.max(most, Math.abs(value)), 0);
    expect(largestGap(actual, expected) / peak).toBeLessThan(1e-6); // leaves are float32: 1e-7 measured
  });

  it('keys in a Hadamard basis of their heads, but for what 16 bits round', async () => {
    const logitsWith = async (bits: number, rotateKeys: boolean): Promise<Float64Array> => {
      const settings = { ...nothing(), keyValues: { bits, clipRatio: 1, rotateKeys } };
      const made = await rotatedModel(backend, model, settings, () => {});
      return backend.float64(made.forward(await tokensFor(config, { tokens: 6 }).at(0)));
    };
    const peak = expected.reduce((most, value) => Math.max(most, Math.abs(value)), 0);
    for (const rotateKeys of [true, false]) {
      expect(largestGap(await logitsWith(16, rotateKeys), expected) / peak).toBeLessThan(1e-3);
    }
    expect(largestGap(await logitsWith(4, true), await logitsWith(4, false)) / peak).toBeGreaterThan(1e-3);
  });

  it('the weights of norms that no Linear reads stay', async () => {
    const [block] = model.blocks;
    const given: BlockParts[] = [];
    const ofQueries = new Norm('rms', 6, 1e-6, tensor(new Float32Array(6).fill(2)));
    const norms = { ...block.norms, 'self_attn.q_norm': ofQueries };
    const withQueryNorm = Object.assign(Object.create(block) as Block, {
      norms,
      with(parts: BlockParts): Block {
        given.push(parts);
        return block.with(parts);
      },
    });
    await rotatedModel(backend, model.withBlock(0, withQueryNorm), nothing(), () => {});
    expect(given.map((parts) => Object.keys(parts.norms ?? {}))).toEqual([['input_layernorm', 'post_attention_layernorm']]);
  });
});
