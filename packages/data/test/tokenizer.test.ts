import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Tokenizer as HuggingFaceTokenizer } from '@huggingface/tokenizers';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { createTokenizer, loadTokenizer } from '../src/index.js';
import { withWordSplit } from '../src/word-split.js';
import { smallConfig, smallTokenizer } from './small-tokenizer.js';

const text = fc.string({
  unit: fc.constantFrom('a', 'b', 'h', 'e', 'l', 'o', 'w', 'r', 'd', ' ', ' ', '\n', '.', 'é', '▁', 'hello', ' world', '日'),
  maxLength: 60,
});

describe('createTokenizer', () => {
  const tokenizer = createTokenizer(smallTokenizer(), smallConfig);

  it('decodes what it encoded', () => {
    const plain = fc.string({ unit: fc.constantFrom('a', 'hello', ' ', '\n', '.', 'é', '日', 'z', '🙂'), minLength: 1, maxLength: 40 });
    fc.assert(
      fc.property(plain, (s) => {
        expect(tokenizer.decode(tokenizer.encode(s))).toBe(s);
      }),
    );
  });

  it('merges by rank, falls back to bytes, and adds BOS when asked', () => {
    const { vocab } = smallTokenizer().model;
    expect([...tokenizer.encode('hello world')]).toEqual([vocab['▁hello'], vocab['▁world']]);
    expect([...tokenizer.encode('é')]).toEqual([vocab['▁'], vocab['<0xC3>'], vocab['<0xA9>']]);
    expect([...tokenizer.encode('ab', { bos: true })]).toEqual([1, vocab['▁'], vocab.ab]);
    expect([...tokenizer.encode('', { bos: true })]).toEqual([1]);
    expect(tokenizer.decode([])).toBe('');
    expect(tokenizer.decode([1, vocab['▁ab'], 2])).toBe('ab');
  });

  it('knows its special tokens from the configuration, or BOS from the post-processor', () => {
    expect(tokenizer).toMatchObject({
      bosToken: 1,
      eosToken: 2,
      addsBos: true,
      vocabularySize: Object.keys(smallTokenizer().model.vocab).length,
    });
    expect(createTokenizer(smallTokenizer())).toMatchObject({ bosToken: 1, eosToken: undefined, addsBos: true });
    expect(createTokenizer(smallTokenizer(), { ...smallConfig, add_bos_token: false })).toMatchObject({ bosToken: 1, addsBos: false });
    const without = createTokenizer({ ...smallTokenizer(), post_processor: null });
    expect(without).toMatchObject({ bosToken: undefined, addsBos: false });
    expect(() => without.encode('a', { bos: true })).toThrow(/TOKENIZER_BOS/);
  });

  it('keeps the spaces before punctuation when decoding', () => {
    expect(tokenizer.decode(tokenizer.encode('hello . a'))).toBe('hello . a');
  });

  it('refuses ids of another vocabulary', () => {
    expect(() => tokenizer.decode([5, 99999])).toThrow(/TOKEN_RANGE.*99999/);
    expect(() => tokenizer.decode([1.5])).toThrow(/TOKEN_RANGE/);
  });

  it.each([
    ['null', null],
    ['a list', []],
    ['no model', { version: '1.0' }],
    ['no vocabulary', { model: { type: 'BPE' } }],
    ['an empty vocabulary', { model: { type: 'BPE', vocab: {}, merges: [] } }],
    ['no merges', { ...smallTokenizer(), model: { type: 'BPE', vocab: { '▁': 0 } } }],
    ['an unknown normalizer', { ...smallTokenizer(), normalizer: { type: 'Mystery' } }],
  ])('refuses a description with %s', (_, description) => {
    expect(() => createTokenizer(description, {}, 'here/tokenizer.json')).toThrow(/TOKENIZER_INVALID: here\/tokenizer.json: /);
  });
});

describe('withWordSplit', () => {
  const plain = (description: object) => new HuggingFaceTokenizer(description, smallConfig);
  const ids = (engine: HuggingFaceTokenizer, s: string) => engine.encode(s, { add_special_tokens: false }).ids;

  it.each([
    ['no newline piece', smallTokenizer()],
    ['a newline piece', smallTokenizer({ extraMerges: ['\n \n', 'a \n'] })],
    [
      'a Metaspace that does not split',
      smallTokenizer({ preTokenizer: { type: 'Metaspace', replacement: '▁', prepend_scheme: 'first', split: false } }),
    ],
  ])('changes no token: %s', (_, description) => {
    const [slow, fast] = [plain(description), plain(withWordSplit(description))];
    expect(withWordSplit(description)).not.toBe(description);
    fc.assert(
      fc.property(text, (s) => {
        expect(ids(fast, s)).toEqual(ids(slow, s));
      }),
      { numRuns: 300 },
    );
  });

  it('makes a splitting Metaspace start a word at every space', () => {
    const description = smallTokenizer({ preTokenizer: { type: 'Metaspace', replacement: '▁', prepend_scheme: 'first' } });
    const { vocab } = description.model;
    expect(ids(plain(withWordSplit(description)), 'a    b')).toEqual([
      vocab['▁a'],
      vocab['▁'],
      vocab['▁'],
      vocab['▁'],
      vocab['▁'],
      vocab.b,
    ]);
  });

  it.each([
    ['a piece joins two words', smallTokenizer({ extraMerges: ['o ▁w'] })],
    ['there is a pre-tokenizer already', { ...smallTokenizer(), pre_tokenizer: { type: 'ByteLevel' } }],
    ['the model is no BPE', { ...smallTokenizer(), model: { type: 'Unigram', vocab: [['▁', 0]] } }],
  ])('leaves the description alone when %s', (_, description) => {
    expect(withWordSplit(description)).toBe(description);
  });
});

describe('loadTokenizer', () => {
  it('reads a checkpoint directory and says what is wrong with it', async () => {
    const directory = await mkdtemp(join(tmpdir(), 'lowbit-tokenizer-'));
    try {
      await expect(loadTokenizer(directory)).rejects.toThrow(/TOKENIZER_MISSING.*tokenizer.json/);
      await writeFile(join(directory, 'tokenizer.json'), '{"model":');
      await expect(loadTokenizer(directory)).rejects.toThrow(/TOKENIZER_INVALID.*not valid JSON/);
      await writeFile(join(directory, 'tokenizer.json'), JSON.stringify(smallTokenizer()));
      expect(await loadTokenizer(directory)).toMatchObject({ bosToken: 1, eosToken: undefined });
      await writeFile(join(directory, 'tokenizer_config.json'), JSON.stringify(smallConfig));
      expect(await loadTokenizer(directory)).toMatchObject({ bosToken: 1, eosToken: 2 });
      await writeFile(join(directory, 'tokenizer_config.json'), '[]');
      await expect(loadTokenizer(directory)).rejects.toThrow(/TOKENIZER_INVALID/);
    } finally {
      await rm(directory, { recursive: true });
    }
  });

  const data = process.env.LOWBIT_TEST_DATA;
  it.skipIf(!data)('encodes real text exactly as the library does, in less time (LOWBIT_TEST_DATA unset: skipped)', async () => {
    const directory = join(data!, 'models/stories15M');
    const tokenizer = await loadTokenizer(directory);
    const [description, config] = await Promise.all(
      ['tokenizer.json', 'tokenizer_config.json'].map(async (name) => JSON.parse(await readFile(join(directory, name), 'utf8'))),
    );
    const slow = new HuggingFaceTokenizer(description, config);
    const story = (await readFile(join(data!, 'text/tinystories-valid.txt'), 'utf8')).slice(0, 20_000);
    expect([...tokenizer.encode(story)]).toEqual(slow.encode(story, { add_special_tokens: false }).ids);
    expect(tokenizer.decode(tokenizer.encode(story))).toBe(story);
  });
});
