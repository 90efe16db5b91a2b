// Names that a person mistyped.
import { expect, it } from 'vitest';
import { didYouMean, nearestNames } from '../src/suggestion.js';

it('finds the nearest names, the closest first, and nothing far away', () => {
  expect(nearestNames('stories15m', ['tiny', 'stories15M'])).toEqual(['stories15M']);
  expect(nearestNames('gtpq', ['rtn', 'gptq'])).toEqual(['gptq']);
  expect(nearestNames('gpt', ['rtn', 'gptq'])).toEqual(['gptq']);
  expect(nearestNames('perplexty', ['kl', 'perplexity'])).toEqual(['perplexity']);
  expect(nearestNames('something', ['rtn', 'gptq'])).toEqual([]);
});

it('says what is known', () => {
  expect(didYouMean('gptqq', ['rtn', 'gptq'])).toBe("did you mean 'gptq'? known: rtn, gptq");
  expect(didYouMean('other', ['rtn', 'gptq'])).toBe('known: rtn, gptq');
});
