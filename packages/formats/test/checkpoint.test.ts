// Saving and opening checkpoints: what comes back is what was saved, bit for bit, and what is wrong is named.
import { mkdir, readdir, readFile, rm, truncate, writeFile } from 'node:fs/promises';
import {
  add,
  createRng,
  DenseLinear,
  decodeBfloat16,
  encodeBfloat16,
  type Linear,
  type LinearState,
  type Model,
  Norm,
  read,
  restoreLinear,
  roundToFloat16,
  tensor,
  tensorsOf,
} from '@lowbit/core';
import { ActivationQuantizedLinear, AffineWeight, LowRankLinear, linearKinds, QuantizedLinear } from '@lowbit/quant';
import { createToyModel } from '@lowbit/testkit';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { type Checkpoint, openCheckpoint, openSafetensors, saveCheckpoint, storedTensor, writeSafetensors } from '../src/index.js';
import { temporaryDirectory } from './temporary-directory.js';

const at = temporaryDirectory();

const roundBfloat16 = (values: Float32Array): Float32Array => decodeBfloat16(encodeBfloat16(values));

/** A toy model published in bfloat16. */
function toy({ tied = false, dtype = 'bfloat16' } = {}): Model {
  const model = createToyModel({ tiedEmbeddings: tied, biases: true });
  const rounded = model.map((t) => tensor(roundBfloat16((t.source as { data: Float32Array }).data), t.shape));
  return rounded.with({
    config: { ...model.config, source: { model_type: 'llama', torch_dtype: dtype, tie_word_embeddings: tied, extra: [1.5, 'ä'] } },
  });
}

function quantized(linear: Linear, bits: number, zero: 'symmetric' | 'integer' | 'free', half: boolean): QuantizedLinear {
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
function mixed(): Model {
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
async function contents({ embedding, blocks, norm, head }: Model) {
  const found = new Map<string, { shape: readonly number[]; dtype: string; data: unknown }>();
  for (const [i, tree] of [embedding, ...blocks, norm, head].entries()) {
    for (const [name, t] of tensorsOf(tree)) found.set(`${i}.${name}`, { shape: t.shape, dtype: t.dtype, data: await read(t) });
  }
  return found;
}

const stateContents = async (state: LinearState): Promise<unknown> => ({
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
function load(checkpoint: Checkpoint, like: Model): Model {
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

const filesOf = async (directory: string) =>
  Object.fromEntries(
    await Promise.all((await readdir(directory)).sort().map(async (name) => [name, await readFile(`${directory}/${name}`)])),
  );

describe('a quantized checkpoint', () => {
  it('comes back bit for bit, lazily, in every representation', async () => {
    const model = mixed();
    await saveCheckpoint(at('out'), model);
    const checkpoint = await openCheckpoint(at('out'));
    expect([...checkpoint.linears.keys()]).toEqual([
      'lm_head',
      'model.layers.0.mlp.up_proj',
      'model.layers.0.self_attn.k_proj',
      'model.layers.0.self_attn.o_proj',
      'model.layers.0.self_attn.q_proj',
      'model.layers.0.self_attn.v_proj',
    ]);
    const loaded = load(checkpoint, model);
    expect(await contents(loaded)).toEqual(await contents(model));
    for (const [path, state] of checkpoint.linears) {
      const original = path === 'lm_head' ? model.head : model.blocks[0].linears[path.slice('model.layers.0.'.length)];
      expect(await stateContents(state)).toEqual(await stateContents(original.state()));
      expect(Object.values(state.tensors).every((t) => t.source.kind === 'leaf' && t.source.data === undefined)).toBe(true);
    }
  });

  it('takes the bits that its Linears count', async () => {
    await saveCheckpoint(at('out'), mixed());
    const { entries } = await openCheckpoint(at('out'));
    expect(entries.get('model.layers.0.self_attn.q_proj.codes')).toEqual({ shape: [(32 * 32 * 2) / 8], dtype: 'U8' });
    expect(entries.get('model.layers.0.self_attn.k_proj.zeroPoint')).toEqual({ shape: [Math.ceil((16 * 2 * 3) / 8)], dtype: 'U8' });
    expect(entries.get('model.layers.0.self_attn.q_proj.scale')?.dtype).toBe('F16');
    expect(entries.get('model.layers.0.self_attn.v_proj.scale')?.dtype).toBe('F32');
    expect(entries.get('model.layers.0.self_attn.q_proj.bias')?.dtype).toBe('BF16');
    expect(entries.get('model.layers.0.mlp.up_proj.base.weight')?.dtype).toBe('BF16');
    expect(entries.get('model.layers.0.mlp.down_proj.weight')?.dtype).toBe('BF16');
    expect(entries.get('model.layers.1.mlp.gate_proj.weight')?.dtype).toBe('F32'); // bitsPerElement 32
  });

  it('is the same bytes when saved again, from the model or from itself', async () => {
    const recipe = [
      { method: 'rtn', version: 1, options: { bits: 4 }, targets: ['**'], overrides: [{ glob: '**.down_proj', options: { bits: 8 } }] },
    ];
    const options = {
      recipe,
      versions: { b: '2', a: '1' },
      seed: 7,
      sideFiles: new Map([['tokenizer.json', { bytes: 2, read: async () => Buffer.from('{}') }]]),
    };
    const model = mixed();
    await saveCheckpoint(at('1'), model, options);
    await saveCheckpoint(at('2'), model, { ...options, versions: { a: '1', b: '2' } });
    expect(await filesOf(at('2'))).toEqual(await filesOf(at('1')));
    const checkpoint = await openCheckpoint(at('1'));
    expect(checkpoint.provenance).toEqual({ recipe, versions: { a: '1', b: '2' }, seed: 7 });
    await saveCheckpoint(at('3'), load(checkpoint, model), { ...checkpoint.provenance, sideFiles: checkpoint.sideFiles });
    expect(await filesOf(at('3'))).toEqual(await filesOf(at('1')));
  });

  it('shows the source config to readers and a warning to other software', async () => {
    const model = mixed();
    await saveCheckpoint(at('out'), model);
    expect((await openCheckpoint(at('out'))).config).toEqual(model.config.source);
    const written = JSON.parse(await readFile(at('out', 'config.json'), 'utf8'));
    expect(written.quantization_config).toEqual({ quant_method: 'lowbit' });
    expect(written.lowbit.formatVersion).toBe(1);
  });

  it('keeps codes of any shape and width', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.integer({ min: 1, max: 8 }),
        fc.integer({ min: 1, max: 5 }),
        fc.integer({ min: 1, max: 9 }),
        fc.nat(),
        async (bits, out, inFeatures, seed) => {
          const codes = Uint8Array.from(createRng(seed).integers(out * inFeatures, 2 ** bits));
          const model = toy();
          const weight = new AffineWeight({
            bits,
            codes: tensor(codes, [out, inFeatures]),
            scale: tensor(new Float32Array(out), [out, 1]),
            scaleDtype: 'float16',
          });
          await saveCheckpoint(at('out'), model.with({ head: new QuantizedLinear(weight) }), { overwrite: true });
          const head = (await openCheckpoint(at('out'))).linears.get('lm_head');
          expect([head?.tensors.codes.shape, await read(head!.tensors.codes)]).toEqual([[out, inFeatures], codes]);
        },
      ),
      { numRuns: 20 },
    );
  });

  const damage: [what: string, code: string, change: (lowbit: any) => void][] = [
    // biome-ignore lint/suspicious/noExplicitAny: a file's JSON, taken apart
    [
      'another bit width',
      'CHECKPOINT_LINEAR: .*q_proj.*must be the 384 bytes of 1024 codes of 3 bits',
      (l) => {
        l.linears['model.layers.0.self_attn.q_proj'].tensors.codes.packed.bits = 3;
      },
    ],
    [
      'an absurd shape',
      'CHECKPOINT_LINEAR',
      (l) => {
        l.linears['model.layers.0.self_attn.q_proj'].tensors.codes.packed.shape = [2 ** 50, 2 ** 50];
      },
    ],
    [
      'a tensor that is not there',
      "CHECKPOINT_LINEAR: .*q_proj: its tensor '.*q_proj.scales' is not in the checkpoint",
      (l) => {
        l.linears['model.layers.0.self_attn.q_proj'].tensors.scales = {};
      },
    ],
    [
      'half where there is none',
      'CHECKPOINT_LINEAR: .*v_proj.*must be F16 and is F32',
      (l) => {
        l.linears['model.layers.0.self_attn.v_proj'].tensors.scale.half = true;
      },
    ],
    [
      'nine bits',
      'CONFIG_JSON: .*config.json: lowbit: linears.model.layers.0.self_attn.q_proj.tensors.codes.packed.bits: Too big',
      (l) => {
        l.linears['model.layers.0.self_attn.q_proj'].tensors.codes.packed.bits = 9;
      },
    ],
    [
      'a later format',
      'CHECKPOINT_VERSION: .*has checkpoint format 2 and this lowbit reads up to 1; install a newer one',
      (l) => {
        l.formatVersion = 2;
      },
    ],
    [
      'endless wrapping',
      'CONFIG_JSON',
      (l) => {
        for (let i = 0, r = l.linears.lm_head; i < 9; i++, r = r.parts.base) r.parts = { base: { kind: 'x', attributes: {}, tensors: {} } };
      },
    ],
  ];
  it.each(damage)('refuses a section with %s', async (_, message, change) => {
    await saveCheckpoint(at('out'), mixed());
    const config = JSON.parse(await readFile(at('out', 'config.json'), 'utf8'));
    change(config.lowbit);
    await writeFile(at('out', 'config.json'), JSON.stringify(config));
    await expect(openCheckpoint(at('out'))).rejects.toThrow(new RegExp(`^${message}`));
  });
});

describe('a plain checkpoint', () => {
  it('comes back without a lowbit section, in the type that loses nothing', async () => {
    const model = toy();
    const changed = model.with({ norm: new Norm('rms', 32, 1e-5, tensor(new Float32Array(32).fill(1.001))) });
    await saveCheckpoint(at('out'), changed);
    const checkpoint = await openCheckpoint(at('out'));
    expect(await contents(load(checkpoint, changed))).toEqual(await contents(changed));
    expect(checkpoint.entries.get('model.norm.weight')?.dtype).toBe('F32'); // 1.001 is no bfloat16
    expect(checkpoint.entries.get('model.embed_tokens.weight')?.dtype).toBe('BF16');
    expect(checkpoint.storedBits('lm_head.weight')).toBe(16);
    expect(JSON.parse(await readFile(at('out', 'config.json'), 'utf8'))).toEqual(model.config.source);
    expect(checkpoint.linears.size).toBe(0);
    expect((await openSafetensors(at('out', 'model.safetensors'))).metadata.get('format')).toBe('pt');
  });

  it('stores norms and embeddings of a float32 source as float32, whatever fits', async () => {
    await saveCheckpoint(at('out'), toy({ dtype: 'float32' }));
    const { entries } = await openCheckpoint(at('out'));
    expect(entries.get('model.norm.weight')?.dtype).toBe('F32');
    expect(entries.get('model.layers.0.mlp.up_proj.weight')?.dtype).toBe('BF16'); // its Linear counts 16 bits
  });

  it('stores tied embeddings once, and says so when a step has untied them', async () => {
    const model = toy({ tied: true });
    await saveCheckpoint(at('tied'), model);
    const tied = await openCheckpoint(at('tied'));
    expect([...tied.entries.keys()].filter((name) => /embed|head/.test(name))).toEqual(['model.embed_tokens.weight']);
    const untied = model.with({ head: quantized(model.head, 8, 'symmetric', true) });
    await saveCheckpoint(at('untied'), untied);
    const opened = await openCheckpoint(at('untied'));
    expect(opened.config.tie_word_embeddings).toBe(false);
    expect(await contents(load(opened, untied))).toEqual(await contents(untied));
  });

  it('is split into shards when asked, to the same tensors', async () => {
    const model = mixed();
    await saveCheckpoint(at('out'), model, { maxShardBytes: 5000 });
    expect((await readdir(at('out'))).filter((name) => name.endsWith('.safetensors')).length).toBeGreaterThan(3);
    expect(await contents(load(await openCheckpoint(at('out')), model))).toEqual(await contents(model));
  });

  it('carries side files along, byte for byte, and no weights', async () => {
    await saveCheckpoint(at('source'), toy());
    const side = { 'tokenizer.json': '{"a": 1 }\n', 'chat_template.jinja': '{{ x }}', LICENSE: 'as is', 'generation_config.json': '{' };
    for (const [name, text] of Object.entries({ ...side, 'pytorch_model.bin': 'weights', '.gitattributes': 'x' }))
      await writeFile(at('source', name), text);
    await mkdir(at('source', 'original'));
    const source = await openCheckpoint(at('source'));
    await saveCheckpoint(at('out'), toy(), { sideFiles: source.sideFiles });
    const out = await filesOf(at('out'));
    expect(Object.keys(out).sort()).toEqual([...Object.keys(side), 'config.json', 'model.safetensors'].sort());
    for (const [name, text] of Object.entries(side)) expect(String(out[name])).toBe(text);
    expect(await (await openCheckpoint(at('out'))).tokenizer()).toEqual({ tokenizer: { a: 1 }, config: {} });
    expect(await (await openCheckpoint(at('source'))).sideFiles.get('LICENSE')?.read()).toEqual(new Uint8Array(Buffer.from('as is')));
  });

  it('has no tokenizer when there is no file, and says what is wrong with one', async () => {
    await saveCheckpoint(at('out'), toy());
    expect(await (await openCheckpoint(at('out'))).tokenizer()).toBeUndefined();
    await writeFile(at('out', 'tokenizer.json'), '[]');
    await expect((await openCheckpoint(at('out'))).tokenizer()).rejects.toThrow(
      /JSON_FILE: .*tokenizer\.json: must hold a JSON object, holds an array/,
    );
  });
});

describe('saving', () => {
  it('does not replace a checkpoint unless told to, and then leaves nothing of it', async () => {
    await saveCheckpoint(at('out'), mixed(), { maxShardBytes: 5000 });
    await writeFile(at('out', 'notes.txt'), 'mine');
    await expect(saveCheckpoint(at('out'), toy())).rejects.toThrow(
      /CHECKPOINT_EXISTS: .*out: holds a checkpoint already \(config\.json, model-00001-of/,
    );
    await saveCheckpoint(at('out'), toy(), { overwrite: true });
    expect((await readdir(at('out'))).sort()).toEqual(['config.json', 'model.safetensors', 'notes.txt']);
  });

  it('can replace the checkpoint that the model is read from', async () => {
    const model = mixed();
    await saveCheckpoint(at('out'), model);
    await saveCheckpoint(at('out'), load(await openCheckpoint(at('out')), model), { overwrite: true, maxShardBytes: 9000 });
    expect(await contents(load(await openCheckpoint(at('out')), model))).toEqual(await contents(model));
  });

  it('leaves what was there when it fails or is cancelled midway', async () => {
    await saveCheckpoint(at('out'), toy());
    const before = await filesOf(at('out'));
    const controller = new AbortController();
    const cancelled = saveCheckpoint(at('out'), toy(), {
      overwrite: true,
      signal: controller.signal,
      progress: (done) => done === 3 && controller.abort(),
    });
    await expect(cancelled).rejects.toThrow(/ABORTED/);
    const broken = { bytes: 1, read: () => Promise.reject(new Error('unreadable')) };
    await expect(saveCheckpoint(at('out'), toy(), { overwrite: true, sideFiles: new Map([['LICENSE', broken]]) })).rejects.toThrow(
      'unreadable',
    );
    expect(await filesOf(at('out'))).toEqual(before);
  });

  it('refuses what would not come back', async () => {
    const model = toy();
    const expression = model.with({ norm: new Norm('rms', 32, 1e-5, add(tensor(new Float32Array(32)), 1)) });
    await expect(saveCheckpoint(at('out'), expression)).rejects.toThrow(
      /TENSOR_NOT_EVALUATED: model\.norm\.weight: is an expression; materialize the model before/,
    );
    const promised = { ...quantized(model.head, 4, 'symmetric', false).weight, scaleDtype: 'float16' as const };
    const wrong = model.with({ head: new QuantizedLinear(new AffineWeight(promised)) });
    await expect(saveCheckpoint(at('out'), wrong)).rejects.toThrow(
      /LINEAR_STATE: lm_head\.scale: is declared float16 and has values that float16 does not hold/,
    );
    const step = { method: 'x', version: 1, options: { f: () => 1 }, targets: [], overrides: [] };
    await expect(saveCheckpoint(at('out'), model, { recipe: [step] })).rejects.toThrow(
      /NOT_JSON: saveCheckpoint\.recipe\[0\]\.options\.f: a function cannot be kept as JSON/,
    );
    await expect(saveCheckpoint(at('out'), model.with({ config: { ...model.config, source: {} } }))).rejects.toThrow(/CONFIG_JSON/);
    for (const name of ['../x', 'config.json', 'model.safetensors', '.hidden']) {
      const sideFiles = new Map([[name, { bytes: 0, read: async () => new Uint8Array() }]]);
      await expect(saveCheckpoint(at('out'), model, { sideFiles })).rejects.toThrow(/SIDE_FILE/);
    }
    expect(await readdir(at()).then((names) => (names.includes('out') ? readdir(at('out')) : []))).toEqual([]);
  });

  it('reports progress over all tensors', async () => {
    const seen: string[] = [];
    await saveCheckpoint(at('out'), toy({ tied: true }), { maxShardBytes: 4000, progress: (done, total) => seen.push(`${done}/${total}`) });
    const total = 1 + 2 * (7 + 3 + 2) + 1;
    expect(seen).toEqual(Array.from({ length: total }, (_, i) => `${i + 1}/${total}`));
  });
});

describe('opening', () => {
  it('says what it looked for and what is there', async () => {
    await expect(openCheckpoint(at('none'))).rejects.toThrow(
      /FILE_MISSING: .*none: could not open the checkpoint: no such file or directory/,
    );
    await writeFile(at('file'), '');
    await expect(openCheckpoint(at('file'))).rejects.toThrow(/CHECKPOINT_MISSING: .*file: is a file; give the directory/);
    await mkdir(at('out'));
    await writeFile(at('out', 'pytorch_model.bin'), '');
    await expect(openCheckpoint(at('out'))).rejects.toThrow(
      /CHECKPOINT_MISSING: .*looked for config\.json \(not there\), and model\.safetensors \(not there\) or model\.safetensors\.index\.json \(not there\); the directory holds pytorch_model\.bin\./,
    );
    await writeFile(at('out', 'config.json'), '{"model_type":"llama"}');
    await expect(openCheckpoint(at('out'))).rejects.toThrow(/looked for config\.json \(there\), and model\.safetensors \(not there\)/);
  });

  it.each([
    ['{"model_type":3}', /CONFIG_JSON: .*config\.json: model_type: Invalid input: expected string/],
    ['{"hidden_size":3}', /CONFIG_JSON: .*neither model_type nor architectures says which model this is/],
    ['{"model_type":"llama","tie_word_embeddings":"yes"}', /CONFIG_JSON: .*tie_word_embeddings/],
    ['{"model_type":"llama","lowbit":null}', /CONFIG_JSON: .*lowbit: Invalid input/],
    ['{"model_type":', /JSON_FILE: .*config\.json: is not JSON/],
    ['"llama"', /JSON_FILE: .*config\.json: must hold a JSON object, holds string/],
  ])('refuses the config %s', async (text, message) => {
    await saveCheckpoint(at('out'), toy());
    await writeFile(at('out', 'config.json'), text);
    await expect(openCheckpoint(at('out'))).rejects.toThrow(message);
  });

  it('names the file that is truncated or missing, and the tensor that is not there', async () => {
    await saveCheckpoint(at('out'), toy(), { maxShardBytes: 5000 });
    const checkpoint = await openCheckpoint(at('out'));
    expect(() => checkpoint.tensor('model.nrom.weight')).toThrow(
      /TENSOR_MISSING: .*out: has no tensor 'model\.nrom\.weight'; it has .* and \d+ more/,
    );
    expect(() => checkpoint.storedBits('x')).toThrow(/TENSOR_MISSING/);
    const [shard] = (await readdir(at('out'))).filter((name) => name.startsWith('model-00002'));
    await truncate(at('out', shard), 1000);
    await expect(openCheckpoint(at('out'))).rejects.toThrow(new RegExp(`SAFETENSORS_(HEADER|TENSOR): .*${shard}`));
    await rm(at('out', shard));
    await expect(openCheckpoint(at('out'))).rejects.toThrow(
      /SAFETENSORS_INDEX: .*names the shard model-00002-of-\d+\.safetensors, which is missing/,
    );
  });

  it('prefers the single file to an index beside it', async () => {
    await saveCheckpoint(at('out'), toy());
    await writeFile(at('out', 'model.safetensors.index.json'), 'not read');
    await expect(openCheckpoint(at('out'))).resolves.toBeDefined();
    await writeSafetensors(at('out', 'model.safetensors'), [storedTensor('a', tensor([1]))]);
    expect([...(await openCheckpoint(at('out'))).entries.keys()]).toEqual(['a']);
  });
});
