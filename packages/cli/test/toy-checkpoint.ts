// Random models on disk with a byte-level tokenizer: small enough that every command runs on them in a moment.
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createRng, sizeOf, tensor } from '@lowbit/core';
import { storedTensor, writeSafetensors } from '@lowbit/formats';
import type { Terminal } from '../src/terminal.js';

const WIDTH = 32;
const INNER = 64;
const BLOCKS = 2;
/** Tokens of the tokenizer of every toy checkpoint: bytes, and one that begins a text. */
export const VOCABULARY = 257;

/** Printable stand-ins for all bytes, as byte-level BPE (GPT-2) has them. */
function byteAlphabet(): string[] {
  const isPrintable = (byte: number): boolean => (byte >= 33 && byte <= 126) || (byte >= 161 && byte <= 172) || byte >= 174;
  let next = 256;
  return Array.from({ length: 256 }, (_, byte) => String.fromCodePoint(isPrintable(byte) ? byte : next++));
}

const tokenizer = {
  version: '1.0',
  added_tokens: [{ id: 256, content: '<s>', special: true, single_word: false, lstrip: false, rstrip: false, normalized: false }],
  normalizer: null,
  pre_tokenizer: { type: 'ByteLevel', add_prefix_space: false, trim_offsets: true, use_regex: true },
  post_processor: null,
  decoder: { type: 'ByteLevel', add_prefix_space: false, trim_offsets: true, use_regex: true },
  model: { type: 'BPE', vocab: { ...Object.fromEntries(byteAlphabet().map((character, id) => [character, id])), '<s>': 256 }, merges: [] },
};

const config = {
  architectures: ['LlamaForCausalLM'],
  model_type: 'llama',
  vocab_size: VOCABULARY,
  hidden_size: WIDTH,
  intermediate_size: INNER,
  num_hidden_layers: BLOCKS,
  num_attention_heads: 2,
  num_key_value_heads: 1,
  max_position_embeddings: 64,
  rms_norm_eps: 1e-5,
  rope_theta: 10000,
  hidden_act: 'silu',
  tie_word_embeddings: true,
  torch_dtype: 'bfloat16',
};

function shapes(): [string, readonly number[]][] {
  const found: [string, readonly number[]][] = [
    ['model.embed_tokens.weight', [VOCABULARY, WIDTH]],
    ['model.norm.weight', [WIDTH]],
  ];
  for (let block = 0; block < BLOCKS; block++) {
    const add = (name: string, ...shape: number[]): number => found.push([`model.layers.${block}.${name}.weight`, shape]);
    add('self_attn.q_proj', WIDTH, WIDTH);
    add('self_attn.k_proj', WIDTH / 2, WIDTH);
    add('self_attn.v_proj', WIDTH / 2, WIDTH);
    add('self_attn.o_proj', WIDTH, WIDTH);
    add('mlp.gate_proj', INNER, WIDTH);
    add('mlp.up_proj', INNER, WIDTH);
    add('mlp.down_proj', WIDTH, INNER);
    add('input_layernorm', WIDTH);
    add('post_attention_layernorm', WIDTH);
  }
  return found;
}

/** Writes a Llama into a new folder 'toy' below `parent`. */
export function writeToyCheckpoint(parent: string): Promise<string> {
  return writeRandomCheckpoint(join(parent, 'toy'), config, shapes());
}

/** Writes a model of any family, of VOCABULARY tokens, into a new folder. */
export async function writeRandomCheckpoint(
  directory: string,
  config: Readonly<Record<string, unknown>>,
  shapes: readonly (readonly [name: string, shape: readonly number[]])[],
): Promise<string> {
  await mkdir(directory);
  const rng = createRng(1);
  const tensors = shapes.map(([name, shape]) => {
    const normal = rng.at(name).normal(sizeOf(shape));
    const values = shape.length === 1 ? normal.map((z) => 1 + 0.1 * z) : normal.map((z) => z / Math.sqrt(shape[1]));
    return storedTensor(name, tensor(values, shape), 'BF16');
  });
  await writeSafetensors(join(directory, 'model.safetensors'), tensors);
  await writeFile(join(directory, 'config.json'), JSON.stringify(config));
  await writeFile(join(directory, 'tokenizer.json'), JSON.stringify(tokenizer));
  await writeFile(join(directory, 'tokenizer_config.json'), JSON.stringify({ bos_token: '<s>', add_bos_token: true }));
  return directory;
}

/** A folder that is removed when the returned function is called. */
export async function temporaryFolder(): Promise<{ folder: string; remove: () => Promise<void> }> {
  const folder = await mkdtemp(join(tmpdir(), 'lowbit-cli-'));
  return { folder, remove: () => rm(folder, { recursive: true, force: true }) };
}

/** A terminal that keeps what was written. */
export function recordingTerminal(): Terminal & { readonly output: () => string; readonly errors: () => string } {
  let output = '';
  let errors = '';
  return {
    out: (text) => {
      output += text;
    },
    err: (text) => {
      errors += text;
    },
    isInteractive: false,
    columns: 100,
    output: () => output,
    errors: () => errors,
  };
}
