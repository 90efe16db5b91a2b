// llama2.c checkpoints: a small file written by the format's description, and what is wrong with damaged ones.
import { writeFile } from 'node:fs/promises';
import { createRng, LowbitError, read, readFloats } from '@lowbit/core';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { openLlama2c } from '../src/index.js';
import { llamaTokenizer, parseTokenizerBin } from '../src/llama2c-tokenizer.js';
import { deinterleaveRows, parseLlama2cHeader } from '../src/llama2c-weights.js';
import { temporaryDirectory } from './temporary-directory.js';

const at = temporaryDirectory();

const [dim, inner, layers, heads, keyValueHeads, vocabulary, contextLength] = [12, 10, 2, 3, 1, 300, 5];
const headDim = dim / heads;

/** The arrays of a legacy model.bin in the order in which llama2.c's export writes them. */
function arrays(tied: boolean) {
  const order: [name: string, shape: number[]][] = [
    ['tok_embeddings', [vocabulary, dim]],
    ['attention_norm', [layers, dim]],
    ['wq', [layers, dim, dim]],
    ['wk', [layers, keyValueHeads * headDim, dim]],
    ['wv', [layers, keyValueHeads * headDim, dim]],
    ['wo', [layers, dim, dim]],
    ['ffn_norm', [layers, dim]],
    ['w1', [layers, inner, dim]],
    ['w2', [layers, dim, inner]],
    ['w3', [layers, inner, dim]],
    ['norm', [dim]],
    ['freqs_cos', [contextLength, headDim / 2]],
    ['freqs_sin', [contextLength, headDim / 2]],
    ...(tied ? [] : [['output', [vocabulary, dim]] satisfies [string, number[]]]),
  ];
  return new Map(
    order.map(([name, shape]) => [
      name,
      createRng(0)
        .at(name)
        .normal(shape.reduce((a, b) => a * b, 1)),
    ]),
  );
}

function modelBin(tied: boolean): Buffer {
  const header = Int32Array.of(dim, inner, layers, heads, keyValueHeads, tied ? vocabulary : -vocabulary, contextLength);
  return Buffer.concat([header, ...arrays(tied).values()].map(({ buffer }) => new Uint8Array(buffer)));
}

/** A vocabulary of 300: special and byte tokens as exported, then some pieces with falling scores. */
function vocabularyPieces(rawBytes = true): { text: string; score: number }[] {
  const bytes = Array.from({ length: 256 }, (_, byte) =>
    rawBytes ? String.fromCharCode(byte) : `<0x${byte.toString(16).padStart(2, '0').toUpperCase()}>`,
  );
  const texts = [
    ' t',
    'he',
    ' the',
    'in',
    ' a',
    'an',
    ' an',
    '  ',
    ' ',
    ...'abcdefghijklmnopqrstuvwxyz',
    'é',
    '▁é',
    'th',
    '日本',
    '日',
    '本',
  ];
  return [
    ...['<unk>', '\n<s>\n', '\n</s>\n', ...bytes].map((text) => ({ text, score: 0 })),
    ...texts.map((text, i) => ({ text, score: -i })),
  ].slice(0, vocabulary);
}

function tokenizerBin(pieces: { text: string; score: number }[]): Buffer {
  const parts = pieces.map(({ text, score }) => {
    const bytes = Buffer.from(text);
    const head = Buffer.alloc(8);
    head.writeFloatLE(score, 0);
    head.writeInt32LE(bytes.length, 4);
    return Buffer.concat([head, bytes]);
  });
  const longest = Buffer.alloc(4);
  longest.writeInt32LE(Math.max(...pieces.map(({ text }) => Buffer.byteLength(text))));
  return Buffer.concat([longest, ...parts]);
}

describe('openLlama2c', () => {
  it('gives every tensor its Hugging Face name, out of the middle of a file', async () => {
    const content = modelBin(false);
    await writeFile(at('x.bin'), Buffer.concat([Buffer.from('before'), content, Buffer.from('after')]));
    const checkpoint = await openLlama2c({ path: at('x.bin'), offset: 6, length: content.length });
    expect(checkpoint.config).toMatchObject({
      model_type: 'llama',
      hidden_size: dim,
      intermediate_size: inner,
      num_hidden_layers: layers,
      num_attention_heads: heads,
      num_key_value_heads: keyValueHeads,
      vocab_size: vocabulary,
      max_position_embeddings: contextLength,
      tie_word_embeddings: false,
      rms_norm_eps: 1e-5,
      rope_theta: 10000,
    });
    const stored = arrays(false);
    const slice = (name: string, block: number) => {
      const all = stored.get(name)!;
      return all.subarray((block * all.length) / layers, ((block + 1) * all.length) / layers);
    };
    const expected: [string, number[], Float32Array][] = [
      ['model.embed_tokens.weight', [vocabulary, dim], stored.get('tok_embeddings')!],
      ['model.norm.weight', [dim], stored.get('norm')!],
      ['lm_head.weight', [vocabulary, dim], stored.get('output')!],
      ...[0, 1].flatMap((block): [string, number[], Float32Array][] => [
        [`model.layers.${block}.input_layernorm.weight`, [dim], slice('attention_norm', block)],
        [`model.layers.${block}.self_attn.v_proj.weight`, [headDim, dim], slice('wv', block)],
        [`model.layers.${block}.self_attn.o_proj.weight`, [dim, dim], slice('wo', block)],
        [`model.layers.${block}.post_attention_layernorm.weight`, [dim], slice('ffn_norm', block)],
        [`model.layers.${block}.mlp.gate_proj.weight`, [inner, dim], slice('w1', block)],
        [`model.layers.${block}.mlp.down_proj.weight`, [dim, inner], slice('w2', block)],
        [`model.layers.${block}.mlp.up_proj.weight`, [inner, dim], slice('w3', block)],
      ]),
    ];
    for (const [name, shape, values] of expected) {
      const leaf = checkpoint.tensor(name);
      expect([name, checkpoint.entries.get(name), leaf.shape, await read(leaf)]).toEqual([name, { shape, dtype: 'F32' }, shape, values]);
    }
    expect(checkpoint.entries.size).toBe(expected.length + 2 * layers); // and q and k of each block
    expect(checkpoint.storedBits('lm_head.weight')).toBe(32);
    expect(() => checkpoint.tensor('x')).toThrow(/TENSOR_MISSING: .*x\.bin: has no tensor 'x'/);
    expect(await checkpoint.tokenizer()).toBeUndefined();
  });

  it('has no head of its own when the vocabulary size is positive', async () => {
    await writeFile(at('x.bin'), modelBin(true));
    const checkpoint = await openLlama2c({ path: at('x.bin') });
    expect(checkpoint.config.tie_word_embeddings).toBe(true);
    expect(checkpoint.entries.has('lm_head.weight')).toBe(false);
    expect(await read(checkpoint.tensor('model.norm.weight'))).toEqual(arrays(true).get('norm'));
  });

  it('orders the rows of q and k so that rotating halves does what rotating pairs did', async () => {
    await writeFile(at('x.bin'), modelBin(true));
    const checkpoint = await openLlama2c({ path: at('x.bin') });
    const x = createRng(1).normal(dim);
    const product = (rows: Float32Array) =>
      Array.from({ length: rows.length / dim }, (_, r) => x.reduce((sum, v, c) => sum + v * rows[r * dim + c], 0));
    // run.c: (v[2i], v[2i+1]) turned by position · 10000^(−2i / headDim).
    const rotatePairs = (v: number[], position: number) =>
      v.map((_, r) => {
        const i = (r % headDim) >> 1;
        const angle = position * 10000 ** ((-2 * i) / headDim);
        const [a, b] = [v[r - (r % 2)], v[r - (r % 2) + 1]];
        return r % 2 === 0 ? a * Math.cos(angle) - b * Math.sin(angle) : a * Math.sin(angle) + b * Math.cos(angle);
      });
    // Hugging Face: v · cos + rotate_half(v) · sin, with the halves of each head.
    const rotateHalves = (v: number[], position: number) =>
      v.map((value, r) => {
        const [head, within, half] = [r - (r % headDim), r % headDim, headDim / 2];
        const angle = position * 10000 ** ((-2 * (within % half)) / headDim);
        const other = within < half ? -v[head + within + half] : v[head + within - half];
        return value * Math.cos(angle) + other * Math.sin(angle);
      });
    const stored = arrays(true);
    for (let block = 0; block < layers; block++) {
      const part = (name: string) =>
        stored.get(name)!.subarray((block * stored.get(name)!.length) / layers, ((block + 1) * stored.get(name)!.length) / layers);
      const [q, k] = [rotatePairs(product(part('wq')), 4), rotatePairs(product(part('wk')), 2)];
      const converted = async (name: string) =>
        product(await readFloats(checkpoint.tensor(`model.layers.${block}.self_attn.${name}.weight`)));
      const [hq, hk] = [rotateHalves(await converted('q_proj'), 4), rotateHalves(await converted('k_proj'), 2)];
      for (let head = 0; head < heads; head++) {
        const dot = (a: number[], b: number[]) => b.reduce((sum, v, i) => sum + v * a[head * headDim + i], 0);
        expect(dot(hq, hk)).toBeCloseTo(dot(q, k), 10);
      }
    }
  });

  it('moves rows, and loses none', () => {
    const rows = Float32Array.from({ length: 8 * 2 }, (_, i) => i);
    expect([...deinterleaveRows(rows, 2, 2)]).toEqual([0, 1, 4, 5, 2, 3, 6, 7, 8, 9, 12, 13, 10, 11, 14, 15]);
  });

  it.each([
    ['is empty', Buffer.alloc(0), /LLAMA2C_HEADER: .*has 0 bytes, fewer than the 28/],
    [
      'is cut',
      modelBin(true).subarray(0, -4),
      /LLAMA2C_HEADER: .*its header describes \d+ bytes and it has \d+; it is not a llama2\.c checkpoint/,
    ],
    ['has more at its end', Buffer.concat([modelBin(true), Buffer.alloc(4)]), /LLAMA2C_HEADER/],
    ['has a negative width', Buffer.from(Int32Array.of(-12, 10, 2, 3, 1, 300, 5).buffer), /LLAMA2C_HEADER: .*dim is -12/],
    ['has no vocabulary', Buffer.from(Int32Array.of(12, 10, 2, 3, 1, 0, 5).buffer), /vocab_size is 0/],
    ['has odd heads', Buffer.from(Int32Array.of(9, 10, 2, 3, 1, 300, 5).buffer), /dim 9 does not divide into 3 heads of even size/],
    ['shares heads unevenly', Buffer.from(Int32Array.of(12, 10, 2, 3, 2, 300, 5).buffer), /3 heads do not share 2 key-value heads/],
    [
      'claims a huge model',
      Buffer.from(Int32Array.of(2 ** 30, 2 ** 30, 2 ** 30, 1, 1, 2 ** 30, 1).buffer),
      /LLAMA2C_HEADER: .*its header describes/,
    ],
  ])('refuses a file that %s', async (_, content, message) => {
    await writeFile(at('x.bin'), content);
    await expect(openLlama2c({ path: at('x.bin') })).rejects.toThrow(message);
  });

  it('refuses a range outside the file', async () => {
    await writeFile(at('x.bin'), modelBin(true));
    await expect(openLlama2c({ path: at('x.bin'), offset: 10, length: 1e9 })).rejects.toThrow(
      /FILE_RANGE: .*1000000000 bytes from 10 on lie outside/,
    );
    await expect(openLlama2c({ path: at('x.bin'), offset: 1e9 })).rejects.toThrow(/FILE_RANGE/);
    await expect(openLlama2c({ path: at('none.bin') })).rejects.toThrow(/FILE_MISSING/);
  });

  it('survives any header', () => {
    fc.assert(
      fc.property(
        fc.int32Array({ minLength: 7, maxLength: 7 }),
        fc.array(fc.integer({ min: 1, max: 9 }), { minLength: 7, maxLength: 7 }),
        fc.boolean(),
        fc.nat(),
        (wild, tame, isTame, size) => {
          try {
            parseLlama2cHeader(new Uint8Array((isTame ? Int32Array.from(tame) : wild).buffer), size, 'x');
          } catch (error) {
            expect(error).toBeInstanceOf(LowbitError);
          }
        },
      ),
      { numRuns: 500 },
    );
  });
});

describe('tokenizer.bin', () => {
  it.each([[true], [false]])('becomes a Hugging Face tokenizer (bytes stored raw: %s)', async (raw) => {
    await writeFile(at('x.bin'), Buffer.concat([modelBin(true), tokenizerBin(vocabularyPieces(raw))]));
    const length = modelBin(true).length;
    const checkpoint = await openLlama2c({ path: at('x.bin'), length, tokenizer: { path: at('x.bin'), offset: length } });
    const files = await checkpoint.tokenizer();
    const { vocab, merges } = files!.tokenizer.model as { vocab: Record<string, number>; merges: string[] };
    expect(Object.keys(vocab)).toHaveLength(vocabulary);
    expect([vocab['<unk>'], vocab['<s>'], vocab['</s>'], vocab['<0x00>'], vocab['<0xFF>'], vocab['▁t'], vocab['▁']]).toEqual([
      0, 1, 2, 3, 258, 259, 267,
    ]);
    // By score of the union, then by the ids of the parts: ▁the = ▁t + he before ▁ + the, which is no piece.
    expect(merges).toEqual(['▁ t', 'h e', '▁t he', 'i n', '▁ a', 'a n', '▁a n', '▁ an', '▁ ▁', '▁ é', 't h', '日 本']);
    for (const [name, content] of [
      ['tokenizer.json', files?.tokenizer],
      ['tokenizer_config.json', files?.config],
    ] as const) {
      expect(JSON.parse(Buffer.from((await checkpoint.sideFiles.get(name)?.read())!).toString())).toEqual(content);
    }
  });

  const pieces = vocabularyPieces();
  const changed = (id: number, text: string) => tokenizerBin(pieces.map((piece, i) => (i === id ? { ...piece, text } : piece)));
  it.each([
    ['is cut', tokenizerBin(pieces).subarray(0, -1), /TOKENIZER_BIN: x: token 299 claims \d+ bytes/],
    ['ends early', tokenizerBin(pieces.slice(0, 280)), /TOKENIZER_BIN: x: ends in token 280 of 300/],
    ['is longer', Buffer.concat([tokenizerBin(pieces), Buffer.alloc(3)]), /TOKENIZER_BIN: x: 3 bytes follow its 300 tokens/],
    ['is empty', Buffer.alloc(0), /TOKENIZER_BIN: x: ends in token 0/],
    ['has other special tokens', changed(1, '<bos>'), /token 1 is '<bos>' where '<s>' belongs/],
    ['has other byte tokens', changed(3 + 65, 'B'), /token 68 is 'B' where the byte token <0x41> belongs/],
    ['has a score that is none', tokenizerBin(pieces.map((piece) => ({ ...piece, score: Number.NaN }))), /token 0 has no score/],
  ])('is refused when it %s', (_, bytes, message) => {
    expect(() => parseTokenizerBin(bytes, vocabulary, 'x')).toThrow(message);
  });

  it('is refused when two tokens have one text, or the vocabulary is too small', () => {
    const twice = parseTokenizerBin(changed(270, 'z'), vocabulary, 'x');
    expect(() => llamaTokenizer(twice, 5, 'x')).toThrow(/TOKENIZER_BIN: x: tokens 270 and \d+ are both 'z'/);
    expect(() => parseTokenizerBin(tokenizerBin(pieces), 100, 'x')).toThrow(/TOKENIZER_BIN: x: a vocabulary of 100 has no room/);
  });

  it('survives changed bytes', () => {
    const valid = tokenizerBin(pieces);
    fc.assert(
      fc.property(fc.array(fc.tuple(fc.nat(valid.length - 1), fc.nat(255)), { minLength: 1, maxLength: 4 }), (changes) => {
        const content = Uint8Array.from(valid);
        for (const [i, byte] of changes) content[i] = byte;
        try {
          llamaTokenizer(parseTokenizerBin(content, vocabulary, 'x'), 5, 'x');
        } catch (error) {
          expect(error).toBeInstanceOf(LowbitError);
        }
      }),
      { numRuns: 500 },
    );
  });
});
