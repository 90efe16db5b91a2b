// A Llama checkpoint of random weights in bf16 shards, written a tensor at a time: models of any size for benchmarks of memory.
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { createRng, sizeOf } from '@lowbit/core';
import { type StoredTensor, writeShards } from '@lowbit/formats';

export interface RandomLlama {
  readonly width: number;
  readonly inner: number;
  readonly heads: number;
  readonly blocks: number;
  readonly vocabulary: number;
  /** Tokens of its context. */
  readonly window: number;
  readonly shardBytes: number;
}

/** Names and shapes of all weights; embedding and head are one. */
function shapesOf({ width, inner, blocks, vocabulary }: RandomLlama): [string, readonly number[]][] {
  const shapes: [string, readonly number[]][] = [
    ['model.embed_tokens', [vocabulary, width]],
    ['model.norm', [width]],
  ];
  for (let block = 0; block < blocks; block++) {
    const add = (name: string, ...shape: number[]): number => shapes.push([`model.layers.${block}.${name}`, shape]);
    for (const name of ['q', 'k', 'v', 'o']) add(`self_attn.${name}_proj`, width, width);
    for (const name of ['gate', 'up']) add(`mlp.${name}_proj`, inner, width);
    add('mlp.down_proj', width, inner);
    for (const name of ['input', 'post_attention']) add(`${name}_layernorm`, width);
  }
  return shapes;
}

/** Elements that are drawn; a tensor repeats them, moved, which costs less than drawing each. */
const DRAWN = 2 ** 16;

/** Normal draws below an address as bf16, rounded towards zero. */
function randomBytes(name: string, shape: readonly number[]): Uint8Array {
  const size = sizeOf(shape);
  const deviation = shape.length === 2 ? shape[1] ** -0.5 : 0;
  const drawn = createRng(0).at(name).normal(Math.min(size, DRAWN));
  const bits = new Uint32Array(drawn.map((z) => (shape.length === 2 ? z * deviation : 1)).buffer);
  const halves = Uint16Array.from(bits, (word) => word >>> 16);
  const out = new Uint16Array(size);
  // A prime step: rows are no copies of each other.
  for (let at = 0, from = 0; at < size; at += halves.length, from = (from + 7919) % halves.length) {
    const left = halves.subarray(from, from + Math.min(size - at, halves.length - from));
    out.set(left, at);
    const rest = Math.min(size - at - left.length, halves.length - left.length);
    out.set(halves.subarray(0, rest), at + left.length);
  }
  return new Uint8Array(out.buffer);
}

/** Writes the checkpoint into a new directory. */
export async function writeRandomLlama(directory: string, shape: RandomLlama): Promise<void> {
  await mkdir(directory);
  const tensors = shapesOf(shape).map(([path, size]): StoredTensor => {
    const name = `${path}.weight`;
    return { name, shape: size, dtype: 'BF16', bytes: async () => randomBytes(name, size) };
  });
  await writeShards(directory, tensors, { maxShardBytes: shape.shardBytes });
  const config = {
    architectures: ['LlamaForCausalLM'],
    model_type: 'llama',
    vocab_size: shape.vocabulary,
    hidden_size: shape.width,
    intermediate_size: shape.inner,
    num_hidden_layers: shape.blocks,
    num_attention_heads: shape.heads,
    num_key_value_heads: shape.heads,
    max_position_embeddings: shape.window,
    rms_norm_eps: 1e-5,
    rope_theta: 10000,
    hidden_act: 'silu',
    tie_word_embeddings: true,
    torch_dtype: 'bfloat16',
  };
  await writeFile(join(directory, 'config.json'), JSON.stringify(config));
}
