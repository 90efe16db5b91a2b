// Every method on every family through the commands: quantized, judged, inspected, generated from; and refused where it cannot be.
import { access, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { beforeAll, describe, expect, it } from 'vitest';
import { VOCABULARY, writeRandomCheckpoint } from './toy-checkpoint.js';
import { commandIn, emptyFolder, TEXT } from './toy-folder.js';

const WIDTH = 16;
const INNER = 32;
const CONTEXT = 32;

type Entry = readonly [name: string, shape: readonly number[]];

const biased = (path: string, weight: readonly number[], outputs: number): Entry[] => [
  [`${path}.weight`, weight],
  [`${path}.bias`, [outputs]],
];

interface ToyFamily {
  readonly config: Readonly<Record<string, unknown>>;
  readonly shapes: readonly Entry[];
  /** The layer that reads the MLP's norm first. */
  readonly linear: string;
}

const qwen3: ToyFamily = {
  config: {
    model_type: 'qwen3',
    vocab_size: VOCABULARY,
    hidden_size: WIDTH,
    intermediate_size: INNER,
    num_hidden_layers: 1,
    num_attention_heads: 2,
    num_key_value_heads: 1,
    head_dim: 8,
    max_position_embeddings: CONTEXT,
    rope_theta: 10000,
    tie_word_embeddings: true,
    torch_dtype: 'bfloat16',
  },
  shapes: [
    ['model.embed_tokens.weight', [VOCABULARY, WIDTH]],
    ['model.layers.0.input_layernorm.weight', [WIDTH]],
    ['model.layers.0.self_attn.q_proj.weight', [16, WIDTH]],
    ['model.layers.0.self_attn.k_proj.weight', [8, WIDTH]],
    ['model.layers.0.self_attn.v_proj.weight', [8, WIDTH]],
    ['model.layers.0.self_attn.q_norm.weight', [8]],
    ['model.layers.0.self_attn.k_norm.weight', [8]],
    ['model.layers.0.self_attn.o_proj.weight', [WIDTH, 16]],
    ['model.layers.0.post_attention_layernorm.weight', [WIDTH]],
    ['model.layers.0.mlp.gate_proj.weight', [INNER, WIDTH]],
    ['model.layers.0.mlp.up_proj.weight', [INNER, WIDTH]],
    ['model.layers.0.mlp.down_proj.weight', [WIDTH, INNER]],
    ['model.norm.weight', [WIDTH]],
  ],
  linear: 'mlp.gate_proj',
};

const gpt2: ToyFamily = {
  config: {
    model_type: 'gpt2',
    vocab_size: VOCABULARY,
    n_embd: WIDTH,
    n_layer: 1,
    n_head: 2,
    n_inner: INNER,
    n_positions: CONTEXT,
    activation_function: 'gelu_new',
    torch_dtype: 'bfloat16',
  },
  shapes: [
    ['transformer.wte.weight', [VOCABULARY, WIDTH]],
    ['transformer.wpe.weight', [CONTEXT, WIDTH]],
    ...biased('transformer.h.0.ln_1', [WIDTH], WIDTH),
    ...biased('transformer.h.0.attn.c_attn', [WIDTH, 3 * WIDTH], 3 * WIDTH),
    ...biased('transformer.h.0.attn.c_proj', [WIDTH, WIDTH], WIDTH),
    ...biased('transformer.h.0.ln_2', [WIDTH], WIDTH),
    ...biased('transformer.h.0.mlp.c_fc', [WIDTH, INNER], INNER),
    ...biased('transformer.h.0.mlp.c_proj', [INNER, WIDTH], WIDTH),
    ...biased('transformer.ln_f', [WIDTH], WIDTH),
  ],
  linear: 'mlp.c_fc',
};

const opt: ToyFamily = {
  config: {
    model_type: 'opt',
    vocab_size: VOCABULARY,
    hidden_size: WIDTH,
    ffn_dim: INNER,
    num_hidden_layers: 1,
    num_attention_heads: 2,
    max_position_embeddings: CONTEXT,
    activation_function: 'relu',
    do_layer_norm_before: true,
    word_embed_proj_dim: WIDTH,
    torch_dtype: 'bfloat16',
  },
  shapes: [
    ['model.decoder.embed_tokens.weight', [VOCABULARY, WIDTH]],
    ['model.decoder.embed_positions.weight', [CONTEXT + 2, WIDTH]],
    ...biased('model.decoder.layers.0.self_attn_layer_norm', [WIDTH], WIDTH),
    ...['q_proj', 'k_proj', 'v_proj', 'out_proj'].flatMap((name) =>
      biased(`model.decoder.layers.0.self_attn.${name}`, [WIDTH, WIDTH], WIDTH),
    ),
    ...biased('model.decoder.layers.0.final_layer_norm', [WIDTH], WIDTH),
    ...biased('model.decoder.layers.0.fc1', [INNER, WIDTH], INNER),
    ...biased('model.decoder.layers.0.fc2', [WIDTH, INNER], WIDTH),
    ...biased('model.decoder.final_layer_norm', [WIDTH], WIDTH),
  ],
  linear: 'fc1',
};

const families: Readonly<Record<string, ToyFamily>> = { qwen3, gpt2, opt };

const folder = emptyFolder();
const lowbit = commandIn(folder);
beforeAll(async () => {
  for (const [name, { config, shapes }] of Object.entries(families)) await writeRandomCheckpoint(join(folder, name), config, shapes);
  await writeFile(join(folder, 'text.txt'), TEXT);
});

const small = ['--threads', '1', '--text', 'text.txt', '--window', '16', '--windows', '8'];
const threeBits = 'bits=3,groupSize=16';
const training = 'epochs=1,batchWindows=2,keepBest=false';

const recipes: Readonly<Record<string, string>> = {
  rtn: `rtn:${threeBits}`,
  gptq: `gptq:${threeBits}`,
  decoupleq: `decoupleq:${threeBits},iterations=1,relaxationSteps=2`,
  qat: `rtn:${threeBits}+qat:${training}`,
  lrec: `rtn:${threeBits}+lrec:rank=1,epochs=1,batchWindows=2`,
  activations: 'activations+rtn:bits=3,groupSize=-1',
  quzo: `rtn:${threeBits}+quzo:steps=3,batchWindows=2,keepBest=false`,
};

const methods = Object.keys(recipes).flatMap((method) => Object.keys(families).map((family) => [method, family] as const));

describe('every method', () => {
  it.each(methods)('%s quantizes %s', async (method, family) => {
    const out = `${family}-${method}`;
    const { code, output, errors } = await lowbit('quantize', family, '--recipe', recipes[method], '--out', out, ...small, '--json');
    expect(code, errors).toBe(0);
    expect((JSON.parse(output) as { bitsPerWeight: number }).bitsPerWeight).toBeLessThan(8);
    const config = JSON.parse(await readFile(join(folder, out, 'config.json'), 'utf8')) as { lowbit: { linears: object } };
    expect(config).toMatchObject(families[family].config);
    const shapes = families[family].shapes.filter(([name, shape]) => shape.length === 2 && /\.(layers|h)\./.test(name));
    expect(Object.keys(config.lowbit.linears).sort()).toEqual(shapes.map(([name]) => name.replace(/\.weight$/, '')).sort());
  });
});

describe.each(Object.keys(families))('%s', (family) => {
  it('is judged, inspected and generated from', async () => {
    expect((await lowbit('quantize', family, '--recipe', recipes.rtn, '--out', `${family}-judged`, ...small)).code).toBe(0);
    const words = ['--evaluators', 'text', 'size', ...small, '--json', '--quiet'];
    const judged = await lowbit('eval', `${family}-judged`, '--reference', family, ...words);
    expect(judged.code, judged.errors).toBe(0);
    const scores = judged.output
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line) as { evaluator: string; value: number });
    const value = (name: string): number => scores.find(({ evaluator }) => evaluator === name)?.value ?? Number.NaN;
    expect(value('kl')).toBeGreaterThan(0);
    expect(value('kl')).toBeLessThan(1);

    const inspected = await lowbit('inspect', `${family}-judged`);
    expect(inspected.output).toMatch(
      new RegExp(`architecture +${family}[\\s\\S]*${families[family].linear.replace('.', '\\.')} +1 × affine +32 × 16`),
    );
    expect(inspected.output).toContain('lm_head');
    const written = await lowbit('generate', `${family}-judged`, '--prompt', 'Line', '--tokens', '20', '--threads', '1');
    expect(written.code, written.errors).toBe(0);
    expect(written.output).toMatch(/Line/);
  });
});

describe('rotations', () => {
  it('work on Qwen3, whose norms of queries and keys stay', async () => {
    const recipe = `quad:rank=2,onlineRotation=false,activationBits=16+rtn:bits=8,groupSize=-1`;
    const made = await lowbit('quantize', 'qwen3', '--recipe', recipe, '--out', 'qwen3-quad', ...small);
    expect(made.code, made.errors).toBe(0);
    const judged = await lowbit('eval', 'qwen3-quad', '--reference', 'qwen3', '--evaluators', 'text', ...small, '--json', '--quiet');
    const kl = judged.output
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line) as { evaluator: string; value: number })
      .find(({ evaluator }) => evaluator === 'kl');
    expect(kl?.value).toBeLessThan(0.01);
  });

  it.each([
    ['gpt2', 'rotate', 'transformer.h.0.ln_1'],
    ['gpt2', 'quad:rank=2', 'transformer.h.0.ln_1'],
    ['opt', 'rotate', 'model.decoder.layers.0.self_attn_layer_norm'],
    ['opt', 'quad:rank=2', 'model.decoder.layers.0.self_attn_layer_norm'],
  ])('%s is refused by %s, with the reason, and nothing is written', async (family, recipe, norm) => {
    const { code, errors } = await lowbit('quantize', family, '--recipe', `${recipe}+rtn:groupSize=16`, '--out', 'refused', ...small);
    expect(code).toBe(2);
    expect(errors).toContain(`NORM_KIND: ${norm}: is a LayerNorm, as all models of the family '${family}' have; it subtracts the mean`);
    await expect(access(join(folder, 'refused'))).rejects.toThrow('ENOENT');
  });
});
