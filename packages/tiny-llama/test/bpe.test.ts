// The tokenizer trainer: merges of a text worked out by hand, exact round trips, equality with the library that reads its file.

import { Tokenizer } from '@huggingface/tokenizers';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { byteAlphabet, SPECIAL_TOKENS, tokenizerConfig, tokenizerJson, trainBytePairs } from '../train/bpe.js';

const text = 'the cat sat on the mat; the rat sat with the cat. The year 1945, the year 1950.';
const base = SPECIAL_TOKENS.length + 256;

describe('trainBytePairs', () => {
  it('merges the most frequent pair first and breaks ties by the smaller ids', () => {
    // "aab aab": pieces "aab" and " aab"; pairs aa ×2, ab ×2, " a" ×1. Equal counts: (a, a) has the smaller ids.
    const { tokens, merges } = trainBytePairs(['aab aab'], base + 2);
    const a = SPECIAL_TOKENS.length + 'a'.charCodeAt(0);
    expect(merges[0]).toEqual([a, a]);
    expect(tokens.slice(base)).toEqual(['aa', 'aab']);
  });

  it('gives equal vocabularies for equal texts', () => {
    expect(trainBytePairs([text], base + 10)).toEqual(trainBytePairs([text], base + 10));
  });

  it('never merges across words', () => {
    const { tokens } = trainBytePairs([text], base + 10);
    for (const token of tokens.slice(base)) expect(token.slice(1)).not.toContain('Ġ');
  });

  it('refuses a vocabulary without room for the bytes, and a text too small for it', () => {
    expect(() => trainBytePairs([text], 100)).toThrow(/VOCABULARY_SIZE/);
    expect(() => trainBytePairs(['ab'], base + 50)).toThrow(/VOCABULARY_SIZE/);
  });
});

describe('tokenizerJson', () => {
  const vocabulary = trainBytePairs([text], base + 14);
  const tokenizer = new Tokenizer(tokenizerJson(vocabulary), tokenizerConfig(256));

  it('has one printable character a byte', () => {
    expect(new Set(byteAlphabet()).size).toBe(256);
  });

  it('loads in @huggingface/tokenizers and starts a text with <s>', () => {
    const { ids, tokens } = tokenizer.encode('the cat sat');
    expect(ids[0]).toBe(0);
    expect(tokens.slice(1)).toEqual(['the', 'Ġcat', 'Ġsat']);
  });

  it('decodes what it encodes, whatever the text', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'grapheme', maxLength: 40 }), (sample) => {
        fc.pre(!/<s>|<pad>/.test(sample));
        expect(tokenizer.decode(tokenizer.encode(sample).ids, { skip_special_tokens: true })).toBe(sample);
      }),
    );
  });

  it('cuts numbers into at most three digits', () => {
    expect(tokenizer.encode('123456', { add_special_tokens: false }).tokens.every((token: string) => token.length <= 3)).toBe(true);
  });
});
