// Recipes are resolved and checked before a weight is read.
import { createReferenceBackend } from '@lowbit/backend-reference';
import { checkDense, defineMethod, type LinearShape, LowbitError, type MethodDefinition, type Recipe } from '@lowbit/core';
import { createToyModel, createToyTokens, type ToyModelOptions } from '@lowbit/testkit';
import { describe, expect, it } from 'vitest';
import { z } from 'zod';
import { checkRecipe, quantize } from '../src/index.js';
import { linearShapes, planRecipe } from '../src/plan.js';
import { rotate } from './methods/rotate.js';
import { nearest } from './methods/round.js';

const model = createToyModel();
const plan = (...recipe: Recipe) => planRecipe(recipe, model);
const failure = (recipe: Recipe, options: ToyModelOptions = {}): LowbitError => {
  try {
    planRecipe(recipe, createToyModel(options));
  } catch (error) {
    if (error instanceof LowbitError) return error;
  }
  throw new Error('the recipe was accepted');
};

describe('targets', () => {
  it('are all Linears of all blocks in the order of computation unless said otherwise', () => {
    const [{ options }] = plan(nearest());
    expect([...options.keys()]).toEqual(linearShapes(model).map(({ path }) => path));
    expect([...options.keys()].slice(0, 4)).toEqual(['q', 'k', 'v', 'o'].map((name) => `model.layers.0.self_attn.${name}_proj`));
    expect(options.size).toBe(14);
  });

  it('add up, and a negation takes away', () => {
    const [{ options }] = plan(nearest({ targets: ['model.layers.1.**', '**.0.mlp.*', '!**.down_proj'] }));
    expect([...options.keys()].map((path) => path.replace('model.layers.', ''))).toEqual([
      '0.mlp.gate_proj',
      '0.mlp.up_proj',
      '1.self_attn.q_proj',
      '1.self_attn.k_proj',
      '1.self_attn.v_proj',
      '1.self_attn.o_proj',
      '1.mlp.gate_proj',
      '1.mlp.up_proj',
    ]);
    expect(plan(nearest({ targets: ['!**.mlp.*'] }))[0].options.size).toBe(8);
    // A glob that begins with an extended negation negates within itself.
    expect(plan(nearest({ targets: ['!(lm_head).layers.0.mlp.*'] }))[0].options.size).toBe(3);
  });

  it.each([[['layers.*']], [['**.q_proj', '**.qproj']], [['!**.gate_prj']], [['**', '!**']], [[]]])(
    '%j are refused, with paths that exist',
    (targets) => {
      const error = failure([nearest({ targets })]);
      expect(error.code).toBe('TARGETS_EMPTY');
      expect(error.message).toMatch(/test-nearest: .*model\.layers\.0\.self_attn\.q_proj.*\(6 more\)/);
    },
  );
});

describe('overrides', () => {
  it('replace options where they match, the last one winning, parsed by the same schema', () => {
    const [{ options }] = plan(
      nearest({ bits: 2, overrides: { '**.down_proj': { bits: 4 }, 'model.layers.1.**': { bits: 6, groupSize: 8 } } }),
    );
    expect(options.get('model.layers.0.mlp.up_proj')).toEqual({ bits: 2, groupSize: 16 });
    expect(options.get('model.layers.0.mlp.down_proj')).toEqual({ bits: 4, groupSize: 16 });
    expect(options.get('model.layers.1.mlp.down_proj')).toEqual({ bits: 6, groupSize: 8 });
    expect(() => nearest({ overrides: { '**.down_proj': { bits: 99 } } })).toThrow(expect.objectContaining({ code: 'OPTIONS_INVALID' }));
  });

  it('that match nothing are refused', () => {
    expect(failure([nearest({ overrides: { '**.donw_proj': { bits: 4 } } })])).toMatchObject({
      code: 'OVERRIDES_EMPTY',
      message: expect.stringContaining("'**.donw_proj' matches no Linear; the model has model.layers.0"),
    });
    const untargeted = nearest({ targets: ['**.self_attn.*'], overrides: { '**.down_proj': { bits: 4 } } });
    expect(failure([untargeted]).message).toContain('the step does not target, such as model.layers.0.mlp.down_proj');
  });
});

describe('checks', () => {
  it('gather what the method says of each Linear under one code', () => {
    const error = failure([nearest({ groupSize: 24 })]);
    expect(error.code).toBe('GROUP_SIZE');
    expect(error.message).toMatch(
      /test-nearest: 12 of 14 targeted Linears do not fit: model\.layers\.0\.self_attn\.q_proj: 32 inputs.*\(4 more\)/,
    );
    const other = defineMethod({
      name: 'test-picky',
      version: 1,
      options: z.strictObject({}),
      check: ({ path }) => {
        throw new LowbitError(path.includes('mlp') ? 'A' : 'B', `${path}: no`);
      },
      quantizeLinear: async (linear) => linear,
    });
    expect(failure([other()]).code).toBe('RECIPE_CHECK');
  });

  it('see the options of overrides', () => {
    expect(failure([nearest({ overrides: { '**.up_proj': { groupSize: 5 } } })]).message).toContain('2 of 14');
  });

  it('of later steps run at once where no earlier step can have changed the Linear', () => {
    const picky = nearest({ groupSize: 24, targets: ['**.o_proj'] });
    expect(failure([nearest({ targets: ['**.mlp.*'] }), picky]).code).toBe('GROUP_SIZE');
    expect(() => plan(rotate(), picky)).not.toThrow();
  });

  it('run before any weight is read, and again on what earlier steps made', async () => {
    const loaded: string[] = [];
    const lazy = createToyModel({ onLoad: (name) => loaded.push(name) });
    const run = (...recipe: Recipe) => quantize({ model: lazy, backend: createReferenceBackend(), recipe, calibration: createToyTokens() });
    await expect(run(nearest({ groupSize: 24 }))).rejects.toMatchObject({ code: 'GROUP_SIZE' });
    await expect(run(nearest({ targets: ['x'] }))).rejects.toMatchObject({ code: 'TARGETS_EMPTY' });
    expect(loaded).toEqual([]);
    // 32 + 4 inputs after widening divide by 12; before it, 32 do not.
    const readers = ['**.{q,k,v,gate,up}_proj'];
    await expect(run(rotate({ extra: 4 }), nearest({ groupSize: 12, targets: readers }))).resolves.toBeDefined();
    await expect(run(rotate({ extra: 4 }), nearest({ targets: readers }))).rejects.toMatchObject({ code: 'GROUP_SIZE' });
  });
});

describe('checks of the whole model', () => {
  const narrow = defineMethod({
    name: 'test-narrow',
    version: 1,
    options: z.strictObject({ width: z.number() }),
    checkModel({ width }, options) {
      if (width !== options.width) throw new LowbitError('WIDTH', `test-narrow: ${width} is not ${options.width}`);
    },
    transform: async (given) => given,
  });

  it('run at once for the first step, and when a later one begins', async () => {
    const loaded: string[] = [];
    const lazy = createToyModel({ onLoad: (name) => loaded.push(name) });
    const run = (...recipe: Recipe) => quantize({ model: lazy, backend: createReferenceBackend(), recipe });
    expect(failure([narrow({ width: 36 })]).code).toBe('WIDTH');
    await expect(run(narrow({ width: 36 }))).rejects.toMatchObject({ code: 'WIDTH' });
    expect(loaded).toEqual([]);
    expect(() => plan(rotate({ extra: 4 }), narrow({ width: 36 }))).not.toThrow();
    await expect(run(rotate({ extra: 4 }), narrow({ width: 36 }))).resolves.toBeDefined();
    await expect(run(rotate({ extra: 4 }), narrow({ width: 32 }))).rejects.toMatchObject({ code: 'WIDTH' });
  });

  it('come after those of its Linears', () => {
    const check = (): void => {
      throw new LowbitError('FIRST', 'no');
    };
    expect(failure([defineMethod({ ...narrow.definition, check })({ width: 36 })]).code).toBe('FIRST');
  });
});

describe('targets and overrides of a step that only transforms', () => {
  it.each([
    [{ targets: ['**.mlp.*'] }, /test-rotate: .* reads no targets; leave them out/],
    [{ overrides: { '**.mlp.*': { extra: 1 } } }, /reads no overrides/],
    [{ targets: ['!**.mlp.*'], overrides: { '**.q_proj': {} } }, /reads no targets and overrides/],
  ])('%j are refused', (settings, message) => {
    expect(failure([rotate(settings)])).toMatchObject({ code: 'TARGETS_UNUSED', message: expect.stringMatching(message) });
  });

  it('may be the default, and mean what they say for a step with another stage', () => {
    expect(() => plan(rotate({ targets: ['**'] }))).not.toThrow();
    const both = defineMethod({ ...nearest.definition, transform: async (given) => given });
    expect(plan(both({ targets: ['**.mlp.*'] }))[0].options.size).toBe(6);
  });
});

describe('recipes', () => {
  it('need a step, called, with a stage', () => {
    expect(failure([]).code).toBe('RECIPE_EMPTY');
    for (const wrong of [undefined, null, 'rtn', { method: 'rtn', options: {} }])
      expect(failure([wrong as never])).toMatchObject({ code: 'RECIPE_STEP', message: expect.stringContaining('is no step') });
    expect(failure([nearest as never])).toMatchObject({ code: 'RECIPE_STEP', message: expect.stringContaining('call it') });
    const idle = defineMethod({ name: 'test-idle', version: 1, options: z.strictObject({}) });
    expect(failure([idle()])).toMatchObject({ code: 'RECIPE_STEP', message: expect.stringContaining("'test-idle' has none of") });
  });

  it('need a table that holds every Linear of a block', () => {
    const [block] = model.blocks;
    const hidden = Object.create(block, { groups: { value: block.groups.slice(0, 3) } });
    expect(() => linearShapes(model.withBlock(0, hidden))).toThrow(
      expect.objectContaining({ code: 'MODEL_GROUPS', message: expect.stringContaining('mlp.down_proj') }),
    );
  });

  it('knows what earlier steps make of a Linear, and refuses a second quantizer before the first has run', () => {
    const dense = defineMethod({
      name: 'test-dense-only',
      version: 1,
      options: z.strictObject({}),
      makes: 'test-affine',
      check: checkDense,
      quantizeLinear: async (linear) => linear,
    });
    const unknown = defineMethod({
      name: 'test-unknown',
      version: 1,
      options: z.strictObject({}),
      quantizeLinear: async (linear) => linear,
    });
    expect(() => checkRecipe([dense(), dense()], model)).toThrow(/LINEAR_NOT_DENSE: .*is already 'test-affine'/);
    expect(() => checkRecipe([dense({ targets: ['**.mlp.*'] }), dense({ targets: ['!**.mlp.*'] })], model)).not.toThrow();
    expect(() => checkRecipe([unknown(), dense()], model)).not.toThrow();
  });

  it.each<Pick<MethodDefinition, 'refineBlock' | 'finetune'>>([
    { refineBlock: async (block) => block },
    { finetune: async (given) => given },
  ])('knows that %o makes codes of dense Linears and leaves others as they are', (stage) => {
    const shared = { version: 1, options: z.strictObject({}) };
    const seen: string[] = [];
    const check = ({ kind }: LinearShape): void => void seen.push(kind);
    const trained = defineMethod({ ...shared, ...stage, name: 'test-trained', makes: 'test-affine' });
    const corrected = defineMethod({ ...shared, name: 'test-corrected', makes: 'test-low-rank', quantizeLinear: async (linear) => linear });
    const last = defineMethod({ ...shared, name: 'test-last', check, quantizeLinear: async (linear) => linear });
    const attention = ['**.self_attn.*'];
    checkRecipe([corrected({ targets: attention }), trained(), last({ targets: ['**.0.*.{q,up}_proj'] })], model);
    expect(seen).toEqual(['test-low-rank', 'test-affine']);
    const dense = defineMethod({ ...last.definition, check: checkDense });
    expect(() => checkRecipe([trained(), dense()], model)).toThrow(
      /LINEAR_NOT_DENSE: test-last: 14 of 14 .*is already 'test-affine'; narrow .* or move it earlier/,
    );
    expect(() => checkRecipe([trained({ targets: attention }), dense({ targets: ['**.mlp.*'] })], model)).not.toThrow();
  });
});
