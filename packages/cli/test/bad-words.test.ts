// Recipes, texts, outputs and commands that cannot be meant: each a code, a sentence that names the thing and the remedy, exit code 2, and nothing written.
import { chmod, mkdir, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, it } from 'vitest';
import { badInputFolder, type Case, expectRefusal, OUT, quantizing } from './bad-input.js';

let folder: string;
let remove: () => Promise<void>;
beforeAll(async () => {
  ({ folder, remove } = await badInputFolder());
  await writeFile(join(folder, 'empty.txt'), '');
  await writeFile(join(folder, 'records.jsonl'), '{"text":"one"}\n{"text":"two"}\n');
  await writeFile(join(folder, 'noise.jsonl'), '{"text":"one"}\n{"text":\n');
  await writeFile(join(folder, 'broken.yaml'), '- method: [gptq\n');
  await mkdir(join(folder, 'taken'));
  await writeFile(join(folder, 'taken', 'notes.txt'), 'mine');
  await symlink(join(folder, 'toy'), join(folder, 'alias'));
});
afterAll(() => remove());

const recipes: readonly Case[] = [
  { what: 'a method that is not known', words: quantizing('toy', 'gtpq:bits=3'), code: 'METHOD_UNKNOWN', says: /did you mean 'gptq'/ },
  { what: 'an option that is not known', words: quantizing('toy', 'gptq:bit=3'), code: 'OPTIONS_INVALID', says: /did you mean 'bits'/ },
  { what: 'nine bits', words: quantizing('toy', 'gptq:bits=9'), code: 'OPTIONS_INVALID', says: /bits/ },
  { what: 'half a bit', words: quantizing('toy', 'gptq:bits=2.5'), code: 'OPTIONS_INVALID', says: /bits/ },
  { what: 'words for a number', words: quantizing('toy', 'gptq:bits=two'), code: 'OPTIONS_INVALID', says: /bits/ },
  { what: 'groups that do not divide the inputs', words: quantizing('toy', 'gptq:groupSize=24'), code: 'GROUP_SIZE', says: /24.*16/s },
  {
    what: 'targets that match nothing',
    words: quantizing('toy', 'gptq:groupSize=16,targets=["**.qproj"]'),
    code: 'TARGETS_EMPTY',
    says: /qproj.*q_proj/s,
  },
  {
    what: 'an override that matches nothing',
    words: quantizing('toy', 'gptq:groupSize=16,overrides={"**.x":{"bits":2}}'),
    code: 'OVERRIDES_EMPTY',
    says: /\*\*\.x/,
  },
  {
    what: 'a glob without its end',
    words: quantizing('toy', 'gptq:groupSize=16,targets=["**.{q_proj"]'),
    code: 'TARGETS_EMPTY',
    says: /q_proj/,
  },
  {
    what: 'a layer that is quantized twice',
    words: quantizing('toy', 'rtn:groupSize=16+rtn:groupSize=16'),
    code: 'LINEAR_NOT_DENSE',
    says: /affine/,
  },
  { what: 'an empty recipe', words: quantizing('toy', ''), code: 'RECIPE_SYNTAX', says: /method:option=value/ },
  { what: 'a recipe file that is not there', words: quantizing('toy', 'recipe.yaml'), code: 'RECIPE_FILE', says: /recipe\.yaml/ },
  { what: 'a recipe file that is no YAML', words: quantizing('toy', 'broken.yaml'), code: 'RECIPE_FILE', says: /broken\.yaml/ },
];

const texts: readonly Case[] = [
  {
    what: 'a text that is not there',
    words: quantizing('toy', undefined, ['--text', 'speeches.txt']),
    code: 'CORPUS_MISSING',
    says: /speeches\.txt/,
  },
  { what: 'an empty text', words: quantizing('toy', undefined, ['--text', 'empty.txt']), code: 'CORPUS_EMPTY', says: /empty\.txt/ },
  {
    what: 'a text that is too short',
    words: quantizing('toy', undefined, ['--windows', '9999']),
    code: 'CALIBRATION_SHORT',
    says: /window/,
  },
  { what: 'windows longer than the context', words: quantizing('toy', undefined, ['--window', '65']), code: 'WINDOW_CONTEXT', says: /64/ },
  {
    what: 'records without the field',
    words: quantizing('toy', undefined, ['--text', 'records.jsonl', '--field', 'body']),
    code: 'CORPUS_JSONL',
    says: /body/,
  },
  {
    what: 'records that are no JSON',
    words: quantizing('toy', undefined, ['--text', 'noise.jsonl']),
    code: 'CORPUS_JSONL',
    says: /noise\.jsonl.*line 2|noise\.jsonl:2/s,
  },
  { what: 'no windows', words: quantizing('toy', undefined, ['--windows', '0']), code: '', says: /--windows/ },
  { what: 'a seed that is no number', words: quantizing('toy', undefined, ['--seed', 'lucky']), code: '', says: /--seed/ },
];

const outputs: readonly Case[] = [
  {
    what: 'a directory that holds something',
    words: quantizing('toy', undefined, ['--out', 'taken']),
    code: 'OUTPUT_EXISTS',
    says: /taken.*--force/s,
  },
  { what: 'the model itself', words: quantizing('toy', undefined, ['--out', 'toy', '--force']), code: 'OUTPUT_IS_SOURCE', says: /toy/ },
  {
    what: 'the model itself by another name',
    words: quantizing('toy', undefined, ['--out', 'alias', '--force']),
    code: 'OUTPUT_IS_SOURCE',
    says: /alias/,
  },
  {
    what: 'a file in the place of a directory',
    words: quantizing('toy', undefined, ['--out', 'text.txt']),
    code: 'OUTPUT_DIRECTORY',
    says: /text\.txt/,
  },
  {
    what: 'a directory below a file',
    words: quantizing('toy', undefined, ['--out', 'text.txt/below']),
    code: 'OUTPUT_DIRECTORY',
    says: /text\.txt/,
  },
];

const commands: readonly Case[] = [
  { what: 'a command that is not known', words: ['quantise', 'toy'], code: '', says: /quantize/ },
  { what: 'a flag that is not known', words: ['eval', 'toy', '--windws', '3'], code: '', says: /--windows/ },
  { what: 'no recipe', words: ['quantize', 'toy', '--out', OUT], code: '', says: /--recipe/ },
  {
    what: 'an evaluator that is not known',
    words: ['eval', 'toy', '--text', 'text.txt', '--evaluators', 'perplexty'],
    code: 'EVALUATOR_UNKNOWN',
    says: /text/,
  },
  { what: 'a preset that is not known', words: ['bench', '--preset', 'methds', '--out', OUT], code: '', says: /methods/ },
  { what: 'an experiment that is not known', words: ['reproduce', 'qat/gab', '--out', OUT], code: 'EXPERIMENT_UNKNOWN', says: /gap/ },
];

describe.each([
  ['recipes', recipes],
  ['texts', texts],
  ['outputs', outputs],
  ['commands', commands],
] as const)('%s', (_, cases) => {
  it.each(cases)('$what', (one) => expectRefusal(folder, one));
});

describe('outputs of another owner', () => {
  it.skipIf(process.getuid?.() === 0)('a directory that cannot be written to (needs a user other than root)', async () => {
    await mkdir(join(folder, 'locked'));
    await chmod(join(folder, 'locked'), 0o500);
    const words = quantizing('toy', undefined, ['--out', 'locked/below']);
    await expectRefusal(folder, { what: '', words, code: 'OUTPUT_DIRECTORY', says: /locked/ });
  });
});
