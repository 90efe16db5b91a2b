// Recipes from files: what they may hold, and what is said when they hold something else.
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { readRecipe } from '../src/recipe.js';
import { emptyFolder } from './toy-folder.js';

const folder = emptyFolder();

async function readWritten(name: string, text: string) {
  await writeFile(join(folder, name), text);
  return readRecipe(name, folder);
}

describe('readRecipe', () => {
  it('takes a TypeScript module', async () => {
    const { name, recipe } = await readRecipe(fileURLToPath(new URL('recipes/mixed.ts', import.meta.url)), folder);
    expect(name).toBe('mixed');
    expect(recipe.map(({ method, targets }) => [method.name, ...targets])).toEqual([
      ['rtn', '**.self_attn.*'],
      ['rtn', '**.mlp.*'],
    ]);
    expect(recipe[1].overrides).toMatchObject([{ glob: '**.down_proj', options: { bits: 4 } }]);
  });

  it('takes JSON and YAML alike', async () => {
    const steps = [{ method: 'gptq', options: { bits: 2 }, overrides: { '**.o_proj': { bits: 4 } } }, { method: 'rtn' }];
    const json = await readWritten('steps.json', JSON.stringify(steps));
    const yaml = await readWritten(
      'steps.yaml',
      "- method: gptq\n  options: { bits: 2 }\n  overrides:\n    '**.o_proj': { bits: 4 }\n- method: rtn\n",
    );
    expect(json.recipe).toEqual(yaml.recipe);
    expect(json.recipe[0]).toMatchObject({ options: { bits: 2, groupSize: 32 }, overrides: [{ options: { bits: 4 } }] });
  });

  it.each([
    ['empty.json', '[]', 'RECIPE_FILE', 'expected a list of steps'],
    ['object.yaml', 'method: rtn', 'RECIPE_FILE', 'expected a list of steps'],
    ['unknown.json', '[{ "method": "rtn", "bits": 4 }]', 'RECIPE_FILE', 'step 1: bits is not known here'],
    ['nameless.json', '[{ "options": {} }]', 'RECIPE_FILE', 'step 1: has no method'],
    ['options.json', '[{ "method": "rtn", "options": [] }]', 'RECIPE_FILE', 'options must be an object'],
    ['broken.yaml', '- method: [rtn\n', 'RECIPE_FILE', 'line 2'],
    ['range.json', '[{ "method": "rtn", "options": { "bits": 12 } }]', 'OPTIONS_INVALID', 'bits'],
    [
      'override.json',
      '[{ "method": "rtn", "overrides": { "**.q_proj": { "bitz": 2 } } }]',
      'OPTIONS_INVALID',
      "override '**.q_proj': no option",
    ],
    ['setting.json', '[{ "method": "rtn", "options": { "target": [] } }]', 'OPTIONS_INVALID', "did you mean 'targets'?"],
    ['list.json', '[{ "method": "rtn", "overrides": [] }]', 'OPTIONS_INVALID', 'overrides must be an object'],
    ['plain.mjs', 'export default { method: "rtn" };', 'RECIPE_FILE', 'the default export is not a recipe'],
    ['common.ts', 'export default [];', 'RECIPE_FILE', 'call it .mts'],
    ['throws.mjs', 'throw new Error("not today");', 'RECIPE_FILE', 'not today'],
  ])('refuses %s', async (name, text, code, message) => {
    await expect(readWritten(name, text)).rejects.toMatchObject({ code, message: expect.stringContaining(message) as unknown });
  });
});
