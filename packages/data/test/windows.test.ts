import { createHash } from 'node:crypto';
import { read } from '@lowbit/core';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { batchWindows, corpusOf, cutWindows, type Tokenizer, type TokenStream, tokenStream, windowsOf } from '../src/index.js';

/** One token a character, 0 for BOS. */
const letters: Tokenizer = {
  vocabularySize: 128,
  bosToken: 0,
  eosToken: undefined,
  addsBos: true,
  encode: (text, { bos = false } = {}) => Int32Array.from([...(bos ? [0] : []), ...[...text].map((c) => c.charCodeAt(0))]),
  decode: (ids) => String.fromCharCode(...Array.from(ids)),
};

const ramp = (length: number): TokenStream => ({
  ids: Int32Array.from({ length }, (_, i) => i + 1),
  corpus: corpusOf(['x'], { name: 'ramp' }),
  documents: 1,
  bos: 'none',
});

describe('tokenStream', () => {
  const corpus = corpusOf(['ab', 'c', 'de']);
  const encoded = (rule: Parameters<typeof tokenStream>[2]) => letters.decode(tokenStream(corpus, letters, rule).ids).replaceAll('\0', '^');

  it('puts BOS and separators where the rule says', () => {
    expect(encoded({ bos: 'none' })).toBe('abcde');
    expect(encoded({ bos: 'start' })).toBe('^abcde');
    expect(encoded({ bos: 'document' })).toBe('^ab^c^de');
    expect(encoded({ bos: 'start', join: '--' })).toBe('^ab--c--de');
    expect(() => encoded({ bos: 'document', join: '' })).toThrow(/STREAM_RULE/);
  });

  it('stops when it has enough', () => {
    expect(tokenStream(corpus, letters, { bos: 'none', enough: 3 })).toMatchObject({ documents: 2, ids: letters.encode('abc') });
  });
});

describe('cutWindows', () => {
  it('cuts windows that meet, and scores all but the first token of each', () => {
    const cut = cutWindows(ramp(11), { window: 4 });
    expect(cut).toMatchObject({ count: 2, length: 4, scoredTokens: 6, description: 'ramp all, 2 windows of 4, stride 4' });
    expect([...cut.tokens]).toEqual([1, 2, 3, 4, 5, 6, 7, 8]);
    expect(cut.hash).toBe(createHash('sha256').update(Buffer.from(cut.tokens.buffer)).digest('hex'));
    expect(cut.protocol).toMatchObject({
      corpus: 'ramp',
      window: 4,
      stride: 4,
      tail: 'drop',
      bos: 'none',
      join: null,
      windows: 2,
      scoredTokens: 6,
    });
  });

  it('scores only new tokens of overlapping windows', () => {
    const cut = cutWindows(ramp(8), { window: 4, stride: 2 });
    expect([...cut.tokens]).toEqual([1, 2, 3, 4, 3, 4, 5, 6, 5, 6, 7, 8]);
    expect([...cut.scoredFrom]).toEqual([1, 2, 2]);
    expect([...cut.scoredTo]).toEqual([4, 4, 4]);
  });

  it('pads a last window and scores only what is in the text', () => {
    const cut = cutWindows(ramp(7), { window: 4, tail: 'pad' });
    expect([...cut.tokens]).toEqual([1, 2, 3, 4, 5, 6, 7, 0]);
    expect([...cut.scoredTo]).toEqual([4, 3]);
    expect(cutWindows(ramp(5), { window: 4, tail: 'pad' }).count).toBe(1);
    expect(cutWindows(ramp(3), { window: 8, tail: 'pad' }).scoredTokens).toBe(2);
  });

  it('scores each token at most once, and every one but the first when windows overlap and the tail is kept', () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 2, max: 12 }),
        fc.integer({ min: 1, max: 12 }),
        fc.integer({ min: 2, max: 60 }),
        (window, step, length) => {
          const stride = Math.min(step, window);
          const cut = cutWindows(ramp(length), { window, stride, tail: 'pad' });
          const seen: number[] = [];
          for (let i = 0; i < cut.count; i++) {
            for (let p = cut.scoredFrom[i]; p < cut.scoredTo[i]; p++) seen.push(cut.tokens[i * window + p]);
          }
          expect(new Set(seen).size).toBe(seen.length);
          expect(seen.length).toBe(cut.scoredTokens);
          if (stride < window) expect([...seen].sort((a, b) => a - b)).toEqual(Array.from({ length: length - 1 }, (_, i) => i + 2));
        },
      ),
    );
  });

  it('stops at the limit', () => {
    expect(cutWindows(ramp(100), { window: 4, limit: 3 }).count).toBe(3);
  });

  it('refuses streams and sizes that give no window', () => {
    expect(() => cutWindows(ramp(3), { window: 4 })).toThrow(/STREAM_SHORT: ramp all: 3 tokens/);
    for (const rule of [{ window: 1 }, { window: 4, stride: 5 }, { window: 4, stride: 0 }, { window: 4.5 }, { window: 4, limit: 0 }]) {
      expect(() => cutWindows(ramp(20), rule)).toThrow(/WINDOW_RULE/);
    }
    expect(() => windowsOf([], { description: 'none', protocol: {} })).toThrow(/WINDOW_RULE/);
    expect(() => windowsOf([new Int32Array(3), new Int32Array(4)], { description: 'mixed', protocol: {} })).toThrow(/WINDOW_RULE.*3, 4/);
  });
});

describe('batchWindows', () => {
  it('gives batches of one shape that hold every window once', async () => {
    const windows = cutWindows(ramp(24), { window: 4 });
    const batches = batchWindows(windows, 4);
    expect(batches).toMatchObject({ length: 2, hash: windows.hash, description: windows.description });
    const tensors = await Promise.all([0, 1].map((i) => batches.at(i)));
    expect(tensors.map((t) => [t.shape, t.dtype])).toEqual([
      [[3, 4], 'int32'],
      [[3, 4], 'int32'],
    ]);
    expect((await Promise.all(tensors.map(read))).flatMap((ids) => [...ids])).toEqual([...windows.tokens]);
    expect(batchWindows(windows, 100).length).toBe(1);
    expect(batchWindows(cutWindows(ramp(28), { window: 4 }), 4).length).toBe(7);
  });
});
