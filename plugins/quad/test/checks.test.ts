// What the methods say of a model and of their need for text, before there is any.
import type { Recipe } from '@lowbit/core';
import { checkRecipe } from '@lowbit/pipeline';
import { createToyModel } from '@lowbit/testkit';
import { describe, expect, it } from 'vitest';
import { type QuadInput, quad, rotate } from '../src/index.js';

const loud = createToyModel({ seed: 7, outliers: 2, biases: true });

describe('before there is data', () => {
  it('says what does not fit a model, by its shapes', () => {
    const check = (...recipe: Recipe) => checkRecipe(recipe, loud);
    const code = (wanted: string): unknown => expect.objectContaining({ code: wanted });
    expect(() => check(quad({ rank: 33 }))).toThrow(code('RANK'));
    expect(() => check(rotate({ targets: ['**.mlp.*'] }))).toThrow(code('TARGETS_UNUSED'));
    const odd = createToyModel({ innerSize: 38, hiddenSize: 24, headCount: 3, keyValueHeadCount: 1 });
    expect(() => checkRecipe([rotate({ fallback: 'error' })], odd)).toThrow(code('HADAMARD_SIZE'));
    expect(() => checkRecipe([rotate({ fallback: 'error', onlineRotation: false })], odd)).not.toThrow();
    // 24 is the order of a Hadamard matrix; 24 − 2, what is left in layout 'compact', is not.
    const compact = { rank: 2, layout: 'compact', fallback: 'error', onlineRotation: false } as const;
    expect(() => checkRecipe([quad(compact)], odd)).toThrow(code('HADAMARD_SIZE'));
    expect(() => checkRecipe([quad({ ...compact, rotation: 'none' })], odd)).not.toThrow();
    const wide = createToyModel({ hiddenSize: 1032, innerSize: 8, blockCount: 1, vocabularySize: 2 });
    expect(() => checkRecipe([quad({ rank: 4, basis: 'bottom' })], wide)).toThrow(code('BASIS_SIZE'));
  });

  it('says whether it reads any', () => {
    const { readsCalibration } = quad.definition;
    const reads = (input: QuadInput): boolean | undefined => readsCalibration?.(quad(input).options);
    expect([reads({}), reads({ basis: 'channels' }), reads({ basis: 'random' }), reads({ rank: 0 })]).toEqual([true, true, false, false]);
    expect(rotate.definition.readsCalibration?.(rotate().options)).toBe(false);
  });
});
