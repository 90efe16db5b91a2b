// What lowbit says of itself: methods, built in and installed, and help.
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { commandIn, toyFolder } from './toy-folder.js';

const folder = toyFolder();
const lowbit = commandIn(folder);

const small = ['--threads', '1', '--text', 'text.txt', '--window', '32', '--windows', '8'];

describe('methods and help', () => {
  it('lists methods with options from their schemas', async () => {
    const { output, code } = await lowbit('methods');
    expect(code).toBe(0);
    expect(output).toMatch(/^rtn \(version \d+\): /);
    expect(output).toMatch(/groupSize +integer .*= 32/);
    const record = JSON.parse((await lowbit('methods', 'gptq', '--json')).output) as { stages: string[] };
    expect(record).toMatchObject({ method: 'gptq', stages: ['quantizeLinear'] });
    const all = (await lowbit('methods', '--json')).output.trim().split('\n');
    const finetunes = all
      .map((line) => JSON.parse(line) as { method: string; stages: string[] })
      .filter(({ stages }) => stages.includes('finetune'));
    expect(finetunes.map(({ method }) => method)).toEqual(['decoupleq-sft', 'lrec', 'emef', 'merge-adapters', 'tune', 'quzo', 'qat']);
  });

  it('describes options whose defaults depend on one another', async () => {
    const { output } = await lowbit('methods', 'decoupleq');
    expect(output).toMatch(/preset +"default" \| "paper" = "default"/);
    expect(output).toMatch(/codeStep +"gptq" \| "pgd\+gptq" \| "first-level" +How codes are found/);
    const wrong = await lowbit('quantize', 'toy', '--recipe', 'decoupleq:codesStep=gptq', '--out', 'unwanted', ...small);
    expect(wrong).toMatchObject({ code: 2, errors: expect.stringContaining("no option 'codesStep'; did you mean 'codeStep'?") as string });
  });

  it('finds an installed package called lowbit-method-<name>', async () => {
    const home = join(folder, 'node_modules', 'lowbit-method-nothing');
    await mkdir(home, { recursive: true });
    await writeFile(join(home, 'package.json'), '{ "name": "lowbit-method-nothing", "type": "module", "exports": "./index.js" }');
    const validate = '(value) => ({ value })';
    await writeFile(
      join(home, 'index.js'),
      `const definition = { name: 'nothing', version: 1, options: { '~standard': { version: 1, vendor: 'none', validate: ${validate} } }, quantizeLinear: async (linear) => linear };
export default Object.assign((options = {}) => ({ method: definition, options, targets: ['**'], overrides: [] }), { definition });`,
    );
    expect((await lowbit('methods', 'nothing')).output).toContain('nothing (version 1)');
    expect((await lowbit('quantize', 'toy', '--recipe', 'nothing', '--out', 'unchanged', ...small)).code).toBe(0);
  });

  it('says what is wrong with an installed package that cannot be used', async () => {
    const install = async (name: string, exported: string, text: string): Promise<void> => {
      const home = join(folder, 'node_modules', `lowbit-method-${name}`);
      await mkdir(home, { recursive: true });
      await writeFile(join(home, 'package.json'), `{ "name": "lowbit-method-${name}", "type": "module", "exports": ${exported} }`);
      await writeFile(join(home, 'index.js'), text);
    };
    await install('hidden', '{ ".": { "import": "./index.js" } }', '');
    await install('broken', '"./index.js"', 'throw new Error("not today");');
    await install('other', '"./index.js"', 'export default 1;');
    for (const [name, message] of [
      ['hidden', 'without the condition "import" alone'],
      ['broken', 'not today'],
      ['other', 'its default export is not a method'],
    ] as const) {
      const outcome = await lowbit('methods', name);
      expect(outcome.code).toBe(2);
      expect(outcome.errors).toContain('METHOD_PACKAGE');
      expect(outcome.errors).toContain(message);
    }
  });

  it.each([[['--help']], [['quantize', '--help']], [['bench', '--help']]])('%j prints help and exits with 0', async (words) => {
    const outcome = await lowbit(...words);
    expect(outcome).toMatchObject({ code: 0, errors: '' });
    expect(outcome.output).toContain('Usage: lowbit');
  });
});
