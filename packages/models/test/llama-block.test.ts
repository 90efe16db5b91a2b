// The block as methods see it: its groups and what they read, replaced parts, mapped tensors, frequencies of its positions.
import { createReferenceBackend } from '@lowbit/backend-reference';
import { createRng, DenseLinear, readFloats, type Tensor, tensor, tensorsOf } from '@lowbit/core';
import { describe, expect, it } from 'vitest';
import { loadModel, rotaryFrequencies } from '../src/index.js';
import { frequencies, type IndependentConfig } from './independent-forward.js';
import { randomCheckpoint, smallConfig } from './memory-checkpoint.js';

const backend = createReferenceBackend();
const checkpoint = randomCheckpoint(smallConfig);
const model = await loadModel(checkpoint);
const [, block] = model.blocks;
const x = tensor(createRng(4).normal(2 * 5 * 24), [2, 5, 24]);

const values = async (t: Tensor): Promise<Float32Array> => readFloats((await backend.evaluate([t]))[0]);

describe('a block of Llama', () => {
  it('names its parts as the checkpoint does', () => {
    expect(block.path).toBe('model.layers.1');
    const named = [...tensorsOf(model).keys()].sort();
    expect(named).toEqual([...checkpoint.entries.keys()].sort());
  });

  it('lists every Linear in one group, in order of computation, with norms it has', () => {
    expect(block.groups.map(({ name }) => name)).toEqual(['attention', 'attention-output', 'mlp', 'mlp-output']);
    expect(block.groups.flatMap(({ linears }) => linears).sort()).toEqual(Object.keys(block.linears).sort());
    for (const { reads } of block.groups) if ('norm' in reads) expect(block.norms).toHaveProperty([reads.norm]);
  });

  it('traces what each group reads, of the width that its Linears take', async () => {
    const { output, inputs } = block.trace(x);
    for (const { name, linears } of block.groups) {
      for (const linear of linears) expect(inputs[name].shape).toEqual([2, 5, block.linears[linear].inFeatures]);
    }
    expect(await values(output)).toEqual(await values(block.forward(x)));
    // The last group's input explains the rest of the residual stream.
    const attended = block.with({ linears: { 'mlp.down_proj': new DenseLinear(tensor(new Float32Array(24 * 40), [24, 40])) } }).forward(x);
    const [total, before, added] = await Promise.all([
      values(output),
      values(attended),
      values(block.linears['mlp.down_proj'].forward(inputs['mlp-output'])),
    ]);
    total.forEach((value, i) => {
      expect(value).toBeCloseTo(before[i] + added[i], 4);
    });
  });

  it('traces the stream that each norm reads', async () => {
    const { inputs, normInputs } = block.trace(x);
    expect(Object.keys(normInputs).sort()).toEqual(Object.keys(block.norms).sort());
    for (const { name, reads } of block.groups) {
      if ('norm' in reads)
        expect(await values(block.norms[reads.norm].forward(normInputs[reads.norm]))).toEqual(await values(inputs[name]));
    }
    expect(normInputs['input_layernorm']).toBe(x);
  });

  it('says how attention divides into heads', () => {
    const { query, key, value, output, headCount, keyValueHeadCount, headDim } = block.attention;
    expect([headCount, keyValueHeadCount, headDim]).toEqual([4, 2, 6]);
    expect([query, key, value].map((name) => block.linears[name].outFeatures)).toEqual([24, 12, 12]);
    expect(block.linears[output].inFeatures).toBe(24);
  });

  it('prefills with the same output, and keys and values of every position', async () => {
    const { output, keys, values: v } = block.prefill(x);
    expect(keys.shape).toEqual([2, 2, 5, 6]);
    expect(v.shape).toEqual([2, 2, 5, 6]);
    expect(await values(output)).toEqual(await values(block.forward(x)));
  });

  it('replaces Linears and norms by name, and leaves itself alone', async () => {
    const before = await values(block.forward(x));
    const zero = new DenseLinear(tensor(new Float32Array(24 * 24), [24, 24]));
    const changed = block.with({ linears: { 'self_attn.o_proj': zero } });
    expect(await values(changed.forward(x))).not.toEqual(before);
    expect(await values(block.forward(x))).toEqual(before);
    expect(changed.norms).toEqual(block.norms);
  });

  it('refuses names it does not have', () => {
    const zero = new DenseLinear(tensor(new Float32Array(4), [2, 2]));
    expect(() => block.with({ linears: { q_proj: zero } })).toThrow(
      /^BLOCK_PART: model\.layers\.1: has no Linear 'q_proj'; it has self_attn\.q_proj/,
    );
    expect(() => block.with({ norms: { norm: model.norm } })).toThrow(/^BLOCK_PART: .*no norm 'norm'/);
  });

  it('reads no weight until it is evaluated', async () => {
    const fresh = randomCheckpoint(smallConfig);
    const loaded = await loadModel(fresh);
    loaded.forward(tensor(Int32Array.of(1, 2), [1, 2]));
    expect(fresh.reads).toEqual([]);
    await backend.evaluate([loaded.blocks[0].trace(x).inputs.attention]);
    expect(fresh.reads).toEqual(['model.layers.0.input_layernorm.weight']);
  });
});

describe('rotaryFrequencies', () => {
  it.each([
    [{ type: 'default' } as const, undefined],
    [{ type: 'linear', factor: 3 } as const, { type: 'linear', factor: 3 }],
    [
      { type: 'llama3', factor: 8, lowFrequencyFactor: 1, highFrequencyFactor: 4, originalContextLength: 8192 } as const,
      { rope_type: 'llama3', factor: 8, low_freq_factor: 1, high_freq_factor: 4, original_max_position_embeddings: 8192 },
    ],
  ])('%j as published', (scaling, published) => {
    const expected = frequencies({ rope_theta: 500000, rope_scaling: published } as unknown as IndependentConfig, 128);
    const actual = rotaryFrequencies({ headDim: 128, theta: 500000, scaling });
    expected.forEach((frequency, i) => {
      expect(actual[i] / frequency).toBeCloseTo(1, 12);
    });
  });
});
