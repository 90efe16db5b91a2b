// What advice is judged by: thresholds as people write them, and text in two parts.
import type { Score } from '@lowbit/core';
import { windowsOf } from '@lowbit/data';
import { describe, expect, it } from 'vitest';
import { parseThreshold, type Threshold, valueOf } from '../src/advise/threshold.js';
import { splitInTwo } from '../src/advise/workbench.js';

const kl = (value: number): Threshold => ({ metric: 'kl', value });

describe('thresholds', () => {
  it('are read from text', () => {
    expect(parseThreshold('kl=0.05')).toEqual(kl(0.05));
    expect(parseThreshold(' perplexity-ratio = 1.1 ')).toEqual({ metric: 'perplexity-ratio', value: 1.1 });
  });

  it.each([
    ['kl', 'THRESHOLD_SYNTAX', 'write kl=0.05'],
    ['k1=0.1', 'THRESHOLD_METRIC', "did you mean 'kl'"],
    ['=1', 'THRESHOLD_METRIC', 'known: perplexity-ratio, kl'],
    ['kl=', 'THRESHOLD_VALUE', 'number above 0'],
    ['kl=low', 'THRESHOLD_VALUE', 'number above 0'],
    ['kl=0', 'THRESHOLD_VALUE', 'number above 0'],
    ['kl=Infinity', 'THRESHOLD_VALUE', 'number above 0'],
    ['perplexity-ratio=0.9', 'THRESHOLD_VALUE', 'number above 1'],
  ])('%j is refused', (text, code, words) => {
    expect(() => parseThreshold(text)).toThrow(
      expect.objectContaining({ code, message: expect.stringContaining(words) as string }) as Error,
    );
  });

  it('are compared with scores against the dense model', () => {
    const score = (evaluator: string, value: number): Score => ({
      ...{ evaluator, value, stderr: 0.02, version: 1, samples: 9, higherIsBetter: false, protocol: {} },
    });
    const scores = [score('perplexity', 9), score('kl', 0.3), score('loss-gap', 0.5)];
    expect(valueOf(kl(1), scores)).toMatchObject({ value: 0.3, stderr: 0.02 });
    const ratio = valueOf({ metric: 'perplexity-ratio', value: 1.5 }, scores);
    expect(ratio.value).toBeCloseTo(Math.exp(0.5), 12);
    expect(ratio.stderr).toBeCloseTo(0.02 * Math.exp(0.5), 12);
    expect(() => valueOf(kl(1), [score('perplexity', 9)])).toThrow('SCORE_MISSING');
  });
});

describe('text to judge by', () => {
  const windowsOfCount = (count: number) => {
    const rows = Array.from({ length: count }, (_, i) => Int32Array.from([i, i + 1, i + 2]));
    return windowsOf(rows, { description: 'text', protocol: { corpus: 'x' } });
  };

  it.each([
    [10, 3, 3, 3],
    [10, 5, 5, 5],
    [10, 8, 5, 5],
    [9, 8, 5, 4],
    [5, 8, 3, 2],
    [4, 8, 2, 2],
  ])('%i windows, at most %i a part: %i and %i that follow', (count, most, first, second) => {
    const [chosen, fresh] = splitInTwo(windowsOfCount(count), most);
    expect([chosen.count, fresh.count]).toEqual([first, second]);
    const starts = [chosen, fresh].flatMap(({ tokens, length }) => [...tokens].filter((_, i) => i % length === 0));
    expect(starts).toEqual(Array.from({ length: first + second }, (_, i) => i));
    expect(chosen.scoredTokens).toBe(2 * first);
    expect(fresh.description).toBe(`text, the next ${second}`);
    expect(fresh.protocol).toMatchObject({ corpus: 'x', windows: second, tokensSha256: fresh.hash });
    expect(fresh.hash).not.toBe(chosen.hash);
  });

  it.each([
    [1, 'one window'],
    [3, '3 windows'],
  ])('must be two windows for either use, so %i is too little', (count, words) => {
    expect(() => splitInTwo(windowsOfCount(count), 8)).toThrow(new RegExp(`HELD_OUT_SHORT: text: is ${words}, and two.*--window`));
  });
});
