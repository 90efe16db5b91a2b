// Methods parse their options when a step is written.
import { describe, expect, it } from 'vitest';
import { z } from 'zod';
import { DEFAULT_TARGETS, defineMethod, type Recipe } from '../src/index.js';

const method = defineMethod({
  name: 'sample',
  version: 3,
  options: z.strictObject({
    bits: z.int().min(1).max(8).default(4),
    groupSize: z.int().default(64),
    search: z.strictObject({ steps: z.int() }).optional(),
  }),
  quantizeLinear: async (linear) => linear,
});
const loose = method as (input?: unknown) => unknown;
const invalid = (pattern: RegExp): unknown => expect.objectContaining({ code: 'OPTIONS_INVALID', message: expect.stringMatching(pattern) });

describe('a step', () => {
  it('has defaults filled in, all targets and no overrides', () => {
    const step = method();
    expect(step.options).toEqual({ bits: 4, groupSize: 64 });
    expect(step.targets).toEqual(DEFAULT_TARGETS);
    expect(step.overrides).toEqual([]);
    expect(step.method).toBe(method.definition);
  });

  it('has overrides as whole options, what they leave out taken from the step', () => {
    const step = method({
      bits: 2,
      overrides: { '**.down_proj': { bits: 4 }, '**.o_proj': { groupSize: 32 } },
      targets: ['**', '!**.q_proj'],
    });
    expect(step.overrides).toEqual([
      { glob: '**.down_proj', options: { bits: 4, groupSize: 64 } },
      { glob: '**.o_proj', options: { bits: 2, groupSize: 32 } },
    ]);
    expect(step.targets).toEqual(['**', '!**.q_proj']);
  });

  it('of any options is an entry of a recipe', () => {
    const plain = defineMethod({ name: 'plain', version: 1, options: z.strictObject({}), finetune: async (model) => model });
    const recipe: Recipe = [method({ bits: 3 }), plain({ targets: ['**.mlp.*'] })];
    expect(recipe.map((step) => step.method.version)).toEqual([3, 1]);
  });
});

describe('options', () => {
  it('are refused with the method, the option and what it expects', () => {
    expect(() => method({ bits: 9 })).toThrow(invalid(/^OPTIONS_INVALID: sample: bits: .*8/));
    expect(() => loose({ gruopSize: 3 })).toThrow(invalid(/sample: .*gruopSize.*; it takes bits, groupSize, search, targets, overrides$/));
    const opaque = defineMethod({ name: 'opaque', version: 1, options: z.strictObject({ at: z.date().optional() }) });
    expect(() => (opaque as (input: unknown) => unknown)({ bits: 2 })).toThrow(invalid(/opaque: .*"bits"$/));
    expect(() => loose({ search: { steps: 'many' } })).toThrow(invalid(/search\.steps: /));
    expect(() => loose({ bits: 9, groupSize: 'x' })).toThrow(invalid(/bits: .*; groupSize: /));
    expect(() => method({ overrides: { '**': { bits: 0 } } })).toThrow(invalid(/sample: overrides '\*\*': bits/));
  });

  it.each([
    [null, /sample: options must be an object, got null/],
    ['bits=4', /options must be an object, got a string/],
    [[], /options must be an object, got a list/],
    [{ overrides: ['**'] }, /overrides must be an object, got a list/],
    [{ overrides: { '**': 4 } }, /overrides '\*\*' must be an object, got a number/],
    [{ targets: '**' }, /targets must be a list of globs/],
    [{ targets: [4] }, /targets must be a list of globs/],
  ])('%j are refused for their form', (input, pattern) => expect(() => loose(input)).toThrow(invalid(pattern)));

  it('may be described by any standard schema that answers at once', () => {
    const schema = <T>(validate: (value: unknown) => T) => ({ '~standard': { version: 1 as const, vendor: 'test', validate } });
    const accepting = defineMethod({ name: 'any', version: 1, options: schema((value) => ({ value: { seen: value } })) });
    expect(accepting().options).toEqual({ seen: {} });
    const refusing = defineMethod({
      name: 'any',
      version: 1,
      options: schema(() => ({ issues: [{ message: 'no', path: [{ key: 'a' }, 0] }, { message: 'never' }] })),
    });
    expect(() => refusing()).toThrow(invalid(/any: a\.0: no; never/));
    const waiting = defineMethod({ name: 'any', version: 1, options: schema(async () => ({ value: 1 })) });
    expect(() => waiting()).toThrow(expect.objectContaining({ code: 'OPTIONS_SCHEMA' }));
  });
});
