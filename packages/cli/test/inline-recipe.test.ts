// Recipes written on the command line.
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { formatInlineRecipe, parseInlineRecipe, parseInlineSweep } from '../src/inline-recipe.js';

describe('parseInlineRecipe', () => {
  it.each([
    ['rtn', [{ method: 'rtn', options: {} }]],
    ['gptq:bits=2,groupSize=64', [{ method: 'gptq', options: { bits: 2, groupSize: 64 } }]],
    ['rtn:clip=mse,symmetric=true', [{ method: 'rtn', options: { clip: 'mse', symmetric: true } }]],
    [
      'quad:rank=16+gptq:bits=4',
      [
        { method: 'quad', options: { rank: 16 } },
        { method: 'gptq', options: { bits: 4 } },
      ],
    ],
    ['gptq:dampening=1e+3', [{ method: 'gptq', options: { dampening: 1000 } }]],
    ['rtn:targets=["**.q_proj","**.k_proj"],bits=3', [{ method: 'rtn', options: { targets: ['**.q_proj', '**.k_proj'], bits: 3 } }]],
    ['rtn:overrides={"**.down_proj":{"bits":8}}', [{ method: 'rtn', options: { overrides: { '**.down_proj': { bits: 8 } } } }]],
  ])('reads %s', (text, steps) => expect(parseInlineRecipe(text)).toEqual(steps));

  it('reads back what was written as text', () => {
    const text = 'rtn:clip=mse,bits=2,symmetric=true+tune:rates=[0.1,1e-7],note="true",spaced="a, b+c",targets=["**.q_proj"]+plain';
    expect(formatInlineRecipe(parseInlineRecipe(text))).toBe(text);
  });

  it.each([
    ['', "'' is not the name of a method"],
    ['gptq:', "'' is not name=value"],
    ['gptq:bits', "'bits' is not name=value"],
    ['gptq:=3', "'=3' is not name=value"],
    ['gptq:bits=2,bits=3', 'bits is given twice'],
    ['rtn+', "'' is not the name of a method"],
    ['two words:bits=2', "'two words' is not the name of a method"],
    ['gptq:bits=2|3', 'it is 2 recipes, and one is wanted here; only bench compares several'],
    ['gptq:bits=2|2', 'bits has a value twice'],
    ['gptq:bits=2|', 'bits has a value that is empty'],
  ])('refuses %j and says why', (text, why) => {
    expect(() => parseInlineRecipe(text)).toThrow(`RECIPE_SYNTAX: --recipe ${text}: ${why}`);
  });

  it('reads back any options written as JSON', () => {
    const names = fc.stringMatching(/^[a-z][a-zA-Z]{0,8}$/).filter((name) => name !== 'toString' && name !== 'valueOf');
    const options = fc.dictionary(
      names,
      fc.oneof(fc.integer(), fc.boolean(), fc.double({ noNaN: true, noDefaultInfinity: true }), fc.array(fc.stringMatching(/^[\w*.,+]*$/))),
      { minKeys: 1 },
    );
    fc.assert(
      fc.property(options, (given) => {
        const text = Object.entries(given)
          .map(([name, value]) => `${name}=${JSON.stringify(value)}`)
          .join(',');
        expect(JSON.stringify(parseInlineRecipe(`gptq:${text}`)[0].options)).toBe(JSON.stringify(given));
      }),
    );
  });
});

describe('parseInlineSweep', () => {
  it('makes a recipe of every combination, named after what varies', () => {
    const swept = parseInlineSweep('gptq:bits=2|3,groupSize=64+lrec:rank=4|8,note="a|b"');
    expect(swept.map(({ name }) => name)).toEqual([
      'gptq:bits=2+lrec:rank=4',
      'gptq:bits=2+lrec:rank=8',
      'gptq:bits=3+lrec:rank=4',
      'gptq:bits=3+lrec:rank=8',
    ]);
    expect(swept[2].steps).toEqual([
      { method: 'gptq', options: { bits: 3, groupSize: 64 } },
      { method: 'lrec', options: { rank: 4, note: 'a|b' } },
    ]);
  });

  it('takes lists and objects as values', () => {
    const [list, object] = parseInlineSweep('rtn:targets=["a|b","c"]|["d"],bits=3').map(({ steps }) => steps[0].options);
    expect([list, object]).toEqual([
      { targets: ['a|b', 'c'], bits: 3 },
      { targets: ['d'], bits: 3 },
    ]);
  });

  it('is the recipe itself, by the name that was written, where nothing varies', () => {
    const text = 'gptq:bits=2 , groupSize=64';
    expect(parseInlineSweep(text)).toEqual([{ name: text, steps: parseInlineRecipe(text) }]);
  });
});
