// The trigram baseline: a proper distribution, Kneser-Ney's continuation counts, and the loss it reports.
import { createRng } from '@lowbit/core';
import { describe, expect, it } from 'vitest';
import { trainTrigram, trigramLoss } from '../train/trigram.js';

const vocabulary = 12;
const tokens = createRng(5)
  .integers(600, vocabulary)
  .map((x, i, all) => (i % 3 === 0 ? x : (all[i - 1] * 5 + 1) % vocabulary));

describe('trainTrigram', () => {
  const model = trainTrigram(tokens, vocabulary);

  it('sums to one after seen and unseen contexts', () => {
    const contexts: [number | undefined, number | undefined][] = [
      [undefined, undefined],
      [undefined, 3],
      [tokens[4], tokens[5]],
      [11, 11],
      [0, 7],
    ];
    for (const [two, one] of contexts) {
      const total = Array.from({ length: vocabulary }, (_, token) => model.probability(two, one, token)).reduce((a, b) => a + b, 0);
      expect(total).toBeCloseTo(1, 10);
    }
  });

  it('counts in how many contexts a token occurs, not how often (Kneser and Ney)', () => {
    // 2 follows only 1, ten times over; 3 follows four different tokens once each.
    const text = [...Array.from({ length: 10 }, () => [1, 2]).flat(), 4, 3, 5, 3, 6, 3, 7, 3, 8];
    const sparse = trainTrigram(text, 10);
    expect(sparse.probability(undefined, undefined, 3)).toBeGreaterThan(sparse.probability(undefined, undefined, 2));
  });

  it('loses what its probabilities say, leaving out the first token of each window', () => {
    const length = 50;
    let expected = 0;
    let count = 0;
    for (let i = 0; i < tokens.length; i++) {
      if (i % length === 0) continue;
      expected -= Math.log(model.probability(i > 1 ? tokens[i - 2] : undefined, tokens[i - 1], tokens[i]));
      count++;
    }
    expect(trigramLoss(model, tokens, length)).toBeCloseTo(expected / count, 10);
  });
});
