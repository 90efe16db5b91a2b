// A toy model in every representation that a checkpoint holds, and what tests compare of it.
import { readdir, readFile } from 'node:fs/promises';
import {
  createRng,
  DenseLinear,
  decodeBfloat16,
  encodeBfloat16,
  type Linear,
  type LinearState,
  type Model,
  read,
  restoreLinear,
  roundToFloat16,
  type Tensor,
  tensor,
  tensorsOf,
} from '@lowbit/core';
import { ActivationQuantizedLinear, AffineWeight, LowRankLinear, linearKinds, QuantizedLinear } from '@lowbit/quant';
import { createToyModel } from '@lowbit/testkit';
import type { Checkpoint } from '../src/index.js';

const roundBfloat16 = (values: Float32Array): Float32Array => decodeBfloat16(encodeBfloat16(values));

/** A toy model published in bfloat16. */
export function toy({ tied = false, dtype = 'bfloat16' } = {}): Model {
  const model = createToyModel({ tiedEmbeddings: tied, biases: true });
  const rounded = model.map((t) => tensor(roundBfloat16((t.source as { data: Float32Array }).data), t.shape));
  return rounded.with({
    config: { ...model.config, source: { model_type: 'llama', torch_dtype: dtype, tie_word_embeddings: tied, extra: [1.5, 'ä'] } },
  });
}

/** A layer of random codes and parameters in place of another, with its bias. */
export function quantized(linear: Linear, bits: number, zero: 'symmetric' | 'integer' | 'free', half: boolean): QuantizedLinear {
  const { outFeatures, inFeatures } = linear;
  const rng = createRng(bits).at(zero);
  const groups = 2;
  const floats = (name: string) =>
    tensor(
      rng
        .at(name)
        .normal(outFeatures * groups)
        .map((z) => (half ? roundToFloat16(z) : z)),
      [outFeatures, groups],
    );
  const codes = (name: string, columns: number) =>
    tensor(Uint8Array.from(rng.at(name).integers(outFeatures * columns, 2 ** bits)), [outFeatures, columns]);
  const weight = new AffineWeight({
    bits,
    codes: codes('codes', inFeatures),
    scale: floats('scale'),
    ...(zero === 'integer' && { zeroPoint: codes('zeroPoint', groups) }),
    ...(zero === 'free' && { offset: floats('offset') }),
    scaleDtype: half ? 'float16' : 'float32',
  });
  return new QuantizedLinear(weight, linear instanceof DenseLinear ? linear.bias : undefined);
}

/** Every representation there is, in one model. */
export function mixed(): Model {
  const model = toy();
  const [first, second] = model.blocks;
  const linear = (name: string) => first.linears[name];
  const factor = (name: string, shape: number[]) =>
    tensor(
      createRng(1)
        .at(name)
        .normal(shape[0] * shape[1]),
      shape,
    );
  const halved = (t: Tensor) => tensor((t.source as { data: Float32Array }).data.map(roundToFloat16), t.shape);
  return (
    model
      .withBlock(
        0,
        first.with({
          linears: {
            'self_attn.q_proj': quantized(linear('self_attn.q_proj'), 2, 'symmetric', true),
            'self_attn.k_proj': quantized(linear('self_attn.k_proj'), 3, 'integer', true),
            'self_attn.v_proj': quantized(linear('self_attn.v_proj'), 5, 'free', false),
            'self_attn.o_proj': new ActivationQuantizedLinear(
              new LowRankLinear({
                base: quantized(linear('self_attn.o_proj'), 1, 'free', true),
                down: factor('down', [3, 32]),
                up: factor('up', [32, 3]),
                scaling: 0.1,
              }),
              { bits: 8, clipRatio: 0.9 },
            ),
            // An adapter on an adapter, as one that was trained for a task on one that corrects an error.
            'mlp.down_proj': new LowRankLinear({
              base: new LowRankLinear({
                base: quantized(linear('mlp.down_proj'), 2, 'integer', true),
                down: halved(factor('lower down', [4, 48])),
                up: halved(factor('lower up', [32, 4])),
                factorDtype: 'float16',
              }),
              down: factor('upper down', [2, 48]),
              up: factor('upper up', [32, 2]),
              scaling: 4,
            }),
            'mlp.up_proj': new ActivationQuantizedLinear(linear('mlp.up_proj'), { bits: 4 }),
          },
        }),
      )
      // One tensor in two layers of the model: it must come back in both.
      .withBlock(
        1,
        second.with({ linears: { 'mlp.gate_proj': new DenseLinear((linear('mlp.gate_proj') as DenseLinear).weight, undefined, 32) } }),
      )
      .with({ head: quantized(model.head, 8, 'integer', false) })
  );
}

/** Every tensor of a model by name, shared ones under each of their names. */
export async function contents({ embedding, blocks, norm, head }: Model) {
  const found = new Map<string, { shape: readonly number[]; dtype: string; data: unknown }>();
  for (const [i, tree] of [embedding, ...blocks, norm, head].entries()) {
    for (const [name, t] of tensorsOf(tree)) found.set(`${i}.${name}`, { shape: t.shape, dtype: t.dtype, data: await read(t) });
  }
  return found;
}

/** A Linear's state with its tensors read. */
export const stateContents = async (state: LinearState): Promise<unknown> => ({
  ...state,
  tensors: Object.fromEntries(
    await Promise.all(Object.entries(state.tensors).map(async ([name, t]) => [name, [t.shape, t.dtype, await read(t)]])),
  ),
  packedBits: { ...state.packedBits },
  half: [...(state.half ?? [])],
  parts: Object.fromEntries(
    await Promise.all(Object.entries(state.parts ?? {}).map(async ([name, part]) => [name, await stateContents(part)])),
  ),
});

/** What a model loader does: every tensor replaced by the checkpoint's. */
export function load(checkpoint: Checkpoint, like: Model): Model {
  const dense = (path: string, linear: DenseLinear) =>
    new DenseLinear(
      checkpoint.tensor(`${path}.weight`),
      linear.bias && checkpoint.tensor(`${path}.bias`),
      checkpoint.storedBits(`${path}.weight`),
    );
  const linearAt = (path: string, old: Linear): Linear => {
    const state = checkpoint.linears.get(path);
    return state ? restoreLinear(state, linearKinds) : dense(path, old as DenseLinear);
  };
  const embedding = like.embedding.map((_, name) => checkpoint.tensor(`model.embed_tokens.${name}`));
  return like.with({
    embedding,
    blocks: like.blocks.map((block) =>
      block.with({
        linears: Object.fromEntries(
          Object.entries(block.linears).map(([name, linear]) => [name, linearAt(`${block.path}.${name}`, linear)]),
        ),
        norms: Object.fromEntries(
          Object.entries(block.norms).map(([name, norm]) => [
            name,
            norm.map((_, field) => checkpoint.tensor(`${block.path}.${name}.${field}`)),
          ]),
        ),
      }),
    ),
    norm: like.norm.map((_, name) => checkpoint.tensor(`model.norm.${name}`)),
    head: checkpoint.config.tie_word_embeddings ? new DenseLinear(embedding.weight) : linearAt('lm_head', like.head),
    config: { ...like.config, source: checkpoint.config },
  });
}

/** Every file of a directory by name. */
export const filesOf = async (directory: string) =>
  Object.fromEntries(
    await Promise.all((await readdir(directory)).sort().map(async (name) => [name, await readFile(`${directory}/${name}`)])),
  );
