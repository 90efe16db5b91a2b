// lowbit replay: a model that quzo made, rebuilt from the log beside it.
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { beforeAll, expect, it } from 'vitest';
import { commandIn, toyFolder } from './toy-folder.js';

const folder = toyFolder(Array.from({ length: 40 }, (_, i) => `Line ${i}: what is ${i} times ${i}?`).join('\n'));
const lowbit = commandIn(folder);

beforeAll(async () => {
  const tune = ['quzo:steps=3,batchWindows=2,keepBest=false,learningRate=300', '--text', 'text.txt', '--window', '16', '--windows', '4'];
  expect(await lowbit('quantize', 'toy', '--recipe', 'rtn:bits=8,groupSize=16', '--out', 'base', '--threads', '1')).toMatchObject({
    code: 0,
  });
  expect(await lowbit('quantize', 'base', '--recipe', ...tune, '--out', 'tuned', '--threads', '2')).toMatchObject({ code: 0 });
});

it('writes the weights that the run had written, and the log again', async () => {
  const replayed = await lowbit('replay', 'base', 'tuned/quzo-log.jsonl', '--out', 'again', '--json', '--quiet');
  expect(replayed).toMatchObject({ code: 0, errors: '' });
  expect(JSON.parse(replayed.output)).toMatchObject({ model: 'base', steps: 3, digest: expect.stringMatching(/^[0-9a-f]{16}$/) });
  const [weights, log] = ['model.safetensors', 'quzo-log.jsonl'];
  const file = (directory: string, name: string): Promise<Buffer> => readFile(join(folder, directory, name));
  expect((await file('again', weights)).equals(await file('tuned', weights))).toBe(true);
  expect((await file('again', weights)).equals(await file('base', weights))).toBe(false);
  expect((await file('again', log)).equals(await file('tuned', log))).toBe(true);
  expect(await lowbit('replay', 'base', 'tuned/quzo-log.jsonl', '--out', 'again')).toMatchObject({ code: 2 });
  const recipeOf = async (directory: string) => JSON.parse((await file(directory, 'config.json')).toString()).lowbit.recipe;
  const [made, again] = [await recipeOf('tuned'), await recipeOf('again')];
  expect(again.map(({ method }: { method: string }) => method)).toEqual(['rtn', 'quzo']);
  expect(again[1].options).toEqual(made[1].options);
  const spoken = await lowbit('replay', 'base', 'tuned/quzo-log.jsonl', '--out', 'again', '--force');
  expect(spoken.output).toContain('again: 3 steps replayed, digest');
});

it.each([
  ['REPLAY_MODEL', ['tuned', 'tuned/quzo-log.jsonl']],
  ['REPLAY_PARAMETER', ['toy', 'tuned/quzo-log.jsonl']],
  ['REPLAY_FILE', ['base', 'absent.jsonl']],
  ['REPLAY_LOG', ['base', 'text.txt']],
  ['OUTPUT_IS_SOURCE', ['base', 'tuned/quzo-log.jsonl', '--out', 'base', '--force']],
])('fails with %s and writes nothing', async (code, words) => {
  const outcome = await lowbit('replay', ...words, ...(words.includes('--out') ? [] : ['--out', 'unwanted']));
  expect(outcome).toMatchObject({ code: 2, output: '' });
  expect(outcome.errors).toContain(code);
  await expect(readFile(join(folder, 'unwanted', 'config.json'))).rejects.toMatchObject({ code: 'ENOENT' });
});

it('fails where a derivative of the log was changed', async () => {
  const text = await readFile(join(folder, 'tuned', 'quzo-log.jsonl'), 'utf8');
  const turned = text.replace(/"mu":\[(-?)/, (_, sign) => `"mu":[${sign === '-' ? '' : '-'}`);
  await writeFile(join(folder, 'changed.jsonl'), turned);
  const outcome = await lowbit('replay', 'base', 'changed.jsonl', '--out', 'unwanted');
  expect(outcome).toMatchObject({ code: 2, output: '' });
  expect(outcome.errors).toContain('REPLAY_END');
});

it('numbers the logs of several steps', async () => {
  const recipe = (seed: number) => ['--recipe', `quzo:steps=1,keepBest=false,learningRate=${seed}`];
  const data = ['--text', 'text.txt', '--window', '16', '--windows', '4', '--threads', '1'];
  expect(await lowbit('quantize', 'base', ...recipe(300), ...recipe(200), '--out', 'twice', ...data)).toMatchObject({ code: 0 });
  await lowbit('replay', 'base', 'twice/quzo-log.jsonl', '--out', 'half');
  expect(await lowbit('replay', 'half', 'twice/quzo-log-1.jsonl', '--out', 'whole')).toMatchObject({ code: 0 });
  const weights = (directory: string): Promise<Buffer> => readFile(join(folder, directory, 'model.safetensors'));
  expect((await weights('whole')).equals(await weights('twice'))).toBe(true);
});
