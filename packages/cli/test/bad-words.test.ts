// Recipes, texts, outputs and commands that cannot be meant: each a code, a sentence that names the thing and the remedy, exit code 2, and nothing written.
import { statfsSync } from 'node:fs';
import { chmod, mkdir, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { beforeAll, describe, it } from 'vitest';
import { type Case, expectRefusal, OUT, quantizing } from './bad-input.js';
import { toyFolder } from './toy-folder.js';

const folder = toyFolder();
beforeAll(async () => {
  await writeFile(join(folder, 'empty.txt'), '');
  await writeFile(join(folder, 'records.jsonl'), '{"text":"one"}\n{"text":"two"}\n');
  await writeFile(join(folder, 'noise.jsonl'), '{"text":"one"}\n{"text":\n');
  await writeFile(join(folder, 'broken.yaml'), '- method: [gptq\n');
  await mkdir(join(folder, 'taken'));
  await writeFile(join(folder, 'taken', 'notes.txt'), 'mine');
  await symlink(join(folder, 'toy'), join(folder, 'alias'));
  await symlink(join(folder, 'gone'), join(folder, 'dangling'));
});

const recipes: readonly Case[] = [
  {
    what: 'a method that is not known',
    words: quantizing('toy', 'gtpq:bits=3'),
    code: 'METHOD_UNKNOWN',
    says: /did you mean 'gptq'/,
    remedy: /or install a package called lowbit-method-gtpq/,
  },
  {
    what: 'an option that is not known',
    words: quantizing('toy', 'gptq:bit=3'),
    code: 'OPTIONS_INVALID',
    says: /did you mean 'bits'/,
    remedy: /did you mean 'bits'\? known: bits, groupSize/,
  },
  {
    what: 'nine bits',
    words: quantizing('toy', 'gptq:bits=9'),
    code: 'OPTIONS_INVALID',
    says: /bits/,
    remedy: /bits takes integer 1 to 8/,
  },
  {
    what: 'half a bit',
    words: quantizing('toy', 'gptq:bits=2.5'),
    code: 'OPTIONS_INVALID',
    says: /bits/,
    remedy: /bits takes integer 1 to 8/,
  },
  {
    what: 'words for a number',
    words: quantizing('toy', 'gptq:bits=two'),
    code: 'OPTIONS_INVALID',
    says: /bits/,
    remedy: /bits takes integer 1 to 8/,
  },
  {
    what: 'groups that do not divide the inputs',
    words: quantizing('toy', 'gptq:groupSize=24'),
    code: 'GROUP_SIZE',
    says: /24.*16/s,
    remedy: /use 16, 32, -1 \(one group per output channel\)/,
  },
  {
    what: 'targets that match nothing',
    words: quantizing('toy', 'gptq:groupSize=16,targets=["**.qproj"]'),
    code: 'TARGETS_EMPTY',
    says: /qproj.*q_proj/s,
    remedy: /correct the pattern/,
  },
  {
    what: 'an override that matches nothing',
    words: quantizing('toy', 'gptq:groupSize=16,overrides={"**.x":{"bits":2}}'),
    code: 'OVERRIDES_EMPTY',
    says: /\*\*\.x/,
    remedy: /correct the pattern, or leave the override out/,
  },
  {
    what: 'a glob without its end',
    words: quantizing('toy', 'gptq:groupSize=16,targets=["**.{q_proj"]'),
    code: 'TARGETS_EMPTY',
    says: /q_proj/,
    remedy: /correct the pattern/,
  },
  {
    what: 'a layer that is quantized twice',
    words: quantizing('toy', 'rtn:groupSize=16+rtn:groupSize=16'),
    code: 'LINEAR_NOT_DENSE',
    says: /affine/,
    remedy: /narrow this step's targets or move it earlier in the recipe/,
  },
  {
    what: 'an empty recipe',
    words: quantizing('toy', ''),
    code: 'RECIPE_SYNTAX',
    says: /method:option=value/,
    remedy: /write method:option=value,option=value/,
  },
  {
    what: 'a recipe file that is not there',
    words: quantizing('toy', 'recipe.yaml'),
    code: 'RECIPE_FILE',
    says: /recipe\.yaml/,
    remedy: /give the path of a recipe file/,
  },
  {
    what: 'a recipe file that is no YAML',
    words: quantizing('toy', 'broken.yaml'),
    code: 'RECIPE_FILE',
    says: /broken\.yaml/,
    remedy: /at line \d+.*; correct it/,
  },
];

const texts: readonly Case[] = [
  {
    what: 'a text that is not there',
    words: quantizing('toy', undefined, ['--text', 'speeches.txt']),
    code: 'CORPUS_MISSING',
    says: /speeches\.txt/,
    remedy: /check the path/,
  },
  {
    what: 'an empty text',
    words: quantizing('toy', undefined, ['--text', 'empty.txt']),
    code: 'CORPUS_EMPTY',
    says: /empty\.txt/,
    remedy: /give it some text/,
  },
  {
    what: 'a text that is too short',
    words: quantizing('toy', undefined, ['--windows', '9999']),
    code: 'CALIBRATION_SHORT',
    says: /window/,
    remedy: /give more text, shorter windows, or fewer of them/,
  },
  {
    what: 'windows longer than the context',
    words: quantizing('toy', undefined, ['--window', '65']),
    code: 'WINDOW_CONTEXT',
    says: /64/,
    remedy: /use a shorter one/,
  },
  {
    what: 'records without the field',
    words: quantizing('toy', undefined, ['--text', 'records.jsonl', '--field', 'body']),
    code: 'CORPUS_JSONL',
    says: /body/,
    remedy: /name the field that holds the text/,
  },
  {
    what: 'records that are no JSON',
    words: quantizing('toy', undefined, ['--text', 'noise.jsonl']),
    code: 'CORPUS_JSONL',
    says: /noise\.jsonl.*line 2|noise\.jsonl:2/s,
    remedy: /correct the line: each must hold one JSON object/,
  },
  {
    what: 'no windows',
    words: quantizing('toy', undefined, ['--windows', '0']),
    code: '',
    says: /--windows/,
    remedy: /expected a whole number of at least 1/,
  },
  {
    what: 'a seed that is no number',
    words: quantizing('toy', undefined, ['--seed', 'lucky']),
    code: '',
    says: /--seed/,
    remedy: /expected a whole number of at least 0/,
  },
];

const outputs: readonly Case[] = [
  {
    what: 'a directory that holds something',
    words: quantizing('toy', undefined, ['--out', 'taken']),
    code: 'OUTPUT_EXISTS',
    says: /taken.*--force/s,
    remedy: /choose another output directory, .*or overwrite what is there with --force/,
  },
  {
    what: 'the model itself',
    words: quantizing('toy', undefined, ['--out', 'toy', '--force']),
    code: 'OUTPUT_IS_SOURCE',
    says: /toy/,
    remedy: /choose another output directory/,
  },
  {
    what: 'the model itself by another name',
    words: quantizing('toy', undefined, ['--out', 'alias', '--force']),
    code: 'OUTPUT_IS_SOURCE',
    says: /alias/,
    remedy: /choose another output directory/,
  },
  {
    what: 'a file in the place of a directory',
    words: quantizing('toy', undefined, ['--out', 'text.txt']),
    code: 'OUTPUT_DIRECTORY',
    says: /text\.txt/,
    remedy: /choose another output directory/,
  },
  {
    what: 'a link that leads nowhere',
    words: quantizing('toy', undefined, ['--out', 'dangling/below']),
    code: 'OUTPUT_DIRECTORY',
    says: /dangling/,
    remedy: /choose another output directory/,
  },
  {
    what: 'a directory below a file',
    words: quantizing('toy', undefined, ['--out', 'text.txt/below']),
    code: 'OUTPUT_DIRECTORY',
    says: /text\.txt/,
    remedy: /choose another output directory/,
  },
];

const commands: readonly Case[] = [
  { what: 'a command that is not known', words: ['quantise', 'toy'], code: '', says: /quantize/, remedy: /Did you mean quantize\?/ },
  {
    what: 'a flag that is not known',
    words: ['eval', 'toy', '--windws', '3'],
    code: '',
    says: /--windows/,
    remedy: /Did you mean --windows\?/,
  },
  {
    what: 'no recipe',
    words: ['quantize', 'toy', '--out', OUT],
    code: '',
    says: /--recipe/,
    remedy: /lowbit <command> --help its options/,
  },
  {
    what: 'an evaluator that is not known',
    words: ['eval', 'toy', '--text', 'text.txt', '--evaluators', 'perplexty'],
    code: 'EVALUATOR_UNKNOWN',
    says: /text/,
    remedy: /known: text, layer-error/,
  },
  {
    what: 'a preset that is not known',
    words: ['bench', '--preset', 'methds', '--out', OUT],
    code: '',
    says: /methods/,
    remedy: /did you mean 'methods'\?/,
  },
  {
    what: 'an experiment that is not known',
    words: ['reproduce', 'qat/gab', '--out', OUT],
    code: 'EXPERIMENT_UNKNOWN',
    says: /gap/,
    remedy: /did you mean 'gap'\?/,
  },
];

describe.each([
  ['recipes', recipes],
  ['texts', texts],
  ['outputs', outputs],
  ['commands', commands],
] as const)('%s', (_, cases) => {
  it.each(cases)('$what', (one) => expectRefusal(folder, one));
});

/** As statfs(2) numbers them. */
const SYSFS = 0x62656572;
const PROCFS = 0x9fa0;

describe('outputs that cannot be written to', () => {
  const remedy = /choose another output directory/;

  it.skipIf(process.getuid?.() === 0)('a directory of another owner (root may write to any)', async () => {
    await mkdir(join(folder, 'locked'));
    await chmod(join(folder, 'locked'), 0o500);
    const words = quantizing('toy', undefined, ['--out', 'locked/below']);
    await expectRefusal(folder, { what: '', words, code: 'OUTPUT_DIRECTORY', says: /locked/, remedy });
  });

  // Linux shows devices and processes there; not even root makes a directory among them.
  it.skipIf(!isFileSystem('/sys', SYSFS))('a file system that takes nothing, whoever asks (needs the /sys of Linux)', async () => {
    for (const out of ['/sys/lowbit-out', '/sys/lowbit-out/below']) {
      const words = quantizing('toy', undefined, ['--out', out]);
      await expectRefusal(folder, { what: '', words, code: 'OUTPUT_DIRECTORY', says: /\/sys\/lowbit-out/, remedy });
    }
    const words = quantizing('toy', undefined, ['--store', '/sys/lowbit-store']);
    const other = /choose another directory with --store, or keep nothing with --no-store/;
    await expectRefusal(folder, { what: '', words, code: 'STORE_DIRECTORY', says: /\/sys\/lowbit-store/, remedy: other });
  });

  it.skipIf(!isFileSystem('/proc', PROCFS))(
    'a file system that says that its own root is not there (needs the /proc of Linux)',
    async () => {
      const words = quantizing('toy', undefined, ['--out', '/proc/lowbit-out/below']);
      await expectRefusal(folder, { what: '', words, code: 'OUTPUT_DIRECTORY', says: /\/proc\/lowbit-out\/below: ENOENT/, remedy });
    },
  );
});

function isFileSystem(path: string, type: number): boolean {
  try {
    return statfsSync(path).type === type;
  } catch {
    return false;
  }
}
