import { corpusOf, type Tokenizer } from '@lowbit/data';
import { describe, expect, it } from 'vitest';
import { windowsByProtocol } from '../src/index.js';

/** One token a character; 0 for BOS. `read` counts what was encoded. */
function letters(addsBos: boolean) {
  let read = 0;
  const tokenizer: Tokenizer = {
    vocabularySize: 128,
    bosToken: addsBos ? 0 : undefined,
    eosToken: undefined,
    addsBos,
    encode(text, { bos = false } = {}) {
      read += text.length;
      return Int32Array.from([...(bos ? [0] : []), ...[...text].map((c) => c.charCodeAt(0))]);
    },
    decode: (ids) => String.fromCharCode(...Array.from(ids)),
  };
  return { tokenizer, read: () => read };
}

const corpus = corpusOf(Array.from({ length: 100 }, (_, i) => 'x'.repeat(99 + (i % 2))));

describe('windowsByProtocol', () => {
  it('follows the presets', () => {
    const gptq = windowsByProtocol('gptq-2048', corpus, letters(true).tokenizer);
    // 100 documents of 99.5 letters, 99 joins of two, one BOS.
    expect(gptq).toMatchObject({ length: 2048, count: Math.floor((9950 + 198 + 1) / 2048) });
    expect(gptq.protocol).toMatchObject({ preset: 'gptq-2048', window: 2048, stride: 2048, tail: 'drop', bos: 'start', join: '\n\n' });
    expect([gptq.tokens[0], gptq.tokens[100], gptq.tokens[101]]).toEqual([0, 10, 10]);
    const short = windowsByProtocol('window-256', corpus, letters(true).tokenizer);
    expect(short.count).toBe(Math.floor((9950 + 100) / 256));
    expect(short.protocol).toMatchObject({ preset: 'window-256', bos: 'document', join: null });
    expect(short.tokens[100]).toBe(0);
  });

  it('adds no BOS for tokenizers that do not, and records that', () => {
    expect(windowsByProtocol('window-256', corpus, letters(false).tokenizer).protocol).toMatchObject({ preset: 'window-256', bos: 'none' });
  });

  it('is the preset with a limit, which costs no more encoding than it needs, but not with other changes', () => {
    const { tokenizer, read } = letters(true);
    expect(windowsByProtocol('window-256', corpus, tokenizer, { limit: 3 })).toMatchObject({
      count: 3,
      protocol: { preset: 'window-256' },
    });
    expect(read()).toBeLessThan(1200);
    expect(windowsByProtocol('window-256', corpus, tokenizer, { stride: 128 }).protocol).toMatchObject({
      preset: null,
      stride: 128,
      window: 256,
    });
  });
});
