// Plain checkpoints: saving loses nothing and replaces nothing by accident; opening names what is wrong.
import { mkdir, readdir, readFile, rm, symlink, truncate, writeFile } from 'node:fs/promises';
import { add, Norm, read, tensor } from '@lowbit/core';
import { AffineWeight, QuantizedLinear } from '@lowbit/quant';
import { describe, expect, it } from 'vitest';
import { openCheckpoint, openSafetensors, saveCheckpoint, storedTensor, writeSafetensors } from '../src/index.js';
import { contents, filesOf, load, mixed, quantized, toy } from './mixed-model.js';
import { temporaryDirectory } from './temporary-directory.js';

const at = temporaryDirectory();

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

  it('stores ones for norms without weights: as many as the stream is wide, or as a norm of another size has', async () => {
    const model = toy();
    const norms = { input_layernorm: new Norm('rms', 32, 1e-5), post_attention_layernorm: new Norm('rms', 8, 1e-5) };
    const folded = model.with({ norm: new Norm('rms', 32, 1e-5), blocks: model.blocks.map((block) => block.with({ norms })) });
    await saveCheckpoint(at('out'), folded);
    const checkpoint = await openCheckpoint(at('out'));
    const [{ path }] = model.blocks;
    for (const [name, count] of [
      ['model.norm', 32],
      [`${path}.input_layernorm`, 32],
      [`${path}.post_attention_layernorm`, 8],
    ] as const) {
      expect(await read(checkpoint.tensor(`${name}.weight`))).toEqual(new Float32Array(count).fill(1));
    }
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

  it('is described by the headers of files that are not there, whose tensors cannot be read', async () => {
    const model = mixed();
    await saveCheckpoint(at('out'), model, { maxShardBytes: 5000 });
    const whole = await openCheckpoint(at('out'));
    const [, absent = ''] = (await readdir(at('out'))).filter((name) => name.endsWith('.safetensors'));
    const bytes = await readFile(at('out', absent));
    const header = { bytes: bytes.subarray(0, 8 + Number(bytes.readBigUInt64LE(0))), size: bytes.length };
    const unread = [...(await openSafetensors(at('out', absent))).entries.keys()];
    await rm(at('out', absent));
    await expect(openCheckpoint(at('out'))).rejects.toThrow(/SAFETENSORS_INDEX.*missing/);
    const described = await openCheckpoint(at('out'), { headers: new Map([[absent, header]]) });
    expect(described.entries).toEqual(whole.entries);
    expect(load(described, model).blocks).toHaveLength(model.blocks.length);
    for (const name of unread) await expect(read(described.tensor(name))).rejects.toThrow(/WEIGHTS_ABSENT: .*model-00002.*fetch the file/);
    const [there] = [...described.entries.keys()].filter((name) => !unread.includes(name));
    expect(await read(described.tensor(there))).toEqual(await read(whole.tensor(there)));
    const cut = new Map([[absent, { ...header, size: header.size - 1 }]]);
    await expect(openCheckpoint(at('out'), { headers: cut })).rejects.toThrow(/SAFETENSORS_TENSOR.*truncated/);
  });

  it('carries side files along, byte for byte, and no weights', async () => {
    await saveCheckpoint(at('source'), toy());
    // Not one of them as its own program would write it again: line ends, spaces, order, bytes that are no text.
    const side: Record<string, string | Uint8Array> = {
      'tokenizer.json': '{"a": 1 }\n',
      'tokenizer_config.json': '{\r\n"bos_token" :"<s>"}',
      'special_tokens_map.json': '{ }',
      'added_tokens.json': '{"<x>":  5}',
      'vocab.json': '{"a":0}',
      'merges.txt': '#version: 0.2\n\u0120 a\n',
      'tokenizer.model': Uint8Array.of(0, 255, 10, 13, 128),
      'spiece.model': Uint8Array.of(255, 254),
      'vocab.txt': 'a\nb',
      'chat_template.jinja': '{{ x }}',
      'chat_template.json': '{"chat_template": "{{ x }}"}',
      'additional_chat_templates/tool_use.jinja': '{{ tools }}\r\n',
      'generation_config.json': '{',
      LICENSE: 'as is',
    };
    const foreign = {
      'pytorch_model.bin': 'weights',
      'pytorch_model.bin.index.json': '{}',
      'model.fp16.safetensors.index.json': '{}',
      '.gitattributes': 'x',
      'additional_chat_templates/.hidden.jinja': 'x',
      'additional_chat_templates/notes.txt': 'x',
    };
    await mkdir(at('source', 'additional_chat_templates'));
    await mkdir(at('source', 'original'));
    await writeFile(at('source', 'original', 'params.json'), '{}');
    for (const [name, text] of Object.entries({ ...side, ...foreign })) await writeFile(at('source', name), text);
    const source = await openCheckpoint(at('source'));
    await saveCheckpoint(at('out'), toy(), { sideFiles: source.sideFiles });
    expect([...source.sideFiles.keys()].sort()).toEqual(Object.keys(side).sort());
    const written = (await readdir(at('out'), { recursive: true })).map((name) => name.replaceAll('\\', '/'));
    expect(written.sort()).toEqual([...Object.keys(side), 'additional_chat_templates', 'config.json', 'model.safetensors'].sort());
    for (const [name, content] of Object.entries(side)) expect(await readFile(at('out', name)), name).toEqual(Buffer.from(content));
    expect(await (await openCheckpoint(at('out'))).tokenizer()).toEqual({ tokenizer: { a: 1 }, config: { bos_token: '<s>' } });
    expect(await (await openCheckpoint(at('source'))).sideFiles.get('LICENSE')?.read()).toEqual(new Uint8Array(Buffer.from('as is')));
  });

  it('opens beside a link whose target is gone', async () => {
    await saveCheckpoint(at('source'), toy());
    await symlink(at('nowhere'), at('source', 'README.md'));
    expect([...(await openCheckpoint(at('source'))).sideFiles.keys()]).toEqual([]);
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
    const broken = { read: () => Promise.reject(new Error('unreadable')) };
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
    const unfit = [
      '../x',
      'a/x',
      'config.json',
      'model.safetensors',
      '.hidden',
      'additional_chat_templates/../x',
      'additional_chat_templates/',
    ];
    for (const name of unfit) {
      const sideFiles = new Map([[name, { read: async () => new Uint8Array() }]]);
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
