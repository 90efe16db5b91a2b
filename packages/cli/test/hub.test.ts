// Commands on models and datasets of a hub on this machine: fetched, recorded by commit, and offline from the cache alone.
import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { type HubServer, startHub } from '../../hub/test/hub-server.js';
import { benchCommand } from '../src/bench-command.js';
import { planOf } from '../src/bench-plan.js';
import { hubAccess } from '../src/hub-access.js';
import { temporaryFolder, writeToyCheckpoint } from './toy-checkpoint.js';
import { type Outcome, runIn } from './toy-folder.js';

const commit = 'c'.repeat(40);
const pinned = `hf:org/toy@${commit}`;
let hub: HubServer;
let folder: string;
let remove: () => Promise<void>;
beforeEach(async () => {
  hub = await startHub();
  ({ folder, remove } = await temporaryFolder());
  const toy = await writeToyCheckpoint(folder);
  const files: Record<string, Uint8Array> = {};
  for (const name of await readdir(toy)) files[name] = await readFile(join(toy, name));
  hub.repositories.set('models/org/toy', { files, commit });
  const lines = (word: string): string =>
    Array.from({ length: 20 }, (_, i) => `{"body":"some ${word} of document ${i}, and more of it"}\n`).join('');
  hub.repositories.set('datasets/org/data', { files: { 'train.jsonl': lines('words'), 'test.jsonl': lines('lines') }, commit });
  vi.stubEnv('HF_ENDPOINT', hub.endpoint)
    .stubEnv('HF_HUB_CACHE', join(folder, 'cache'))
    .stubEnv('HF_HUB_OFFLINE', '')
    .stubEnv('HF_TOKEN', '')
    .stubEnv('HF_TOKEN_PATH', join(folder, 'token'));
});
afterEach(async () => {
  vi.unstubAllEnvs();
  await hub.close();
  await remove();
});

const lowbit = (...words: string[]): Promise<Outcome> => runIn(folder, words);

const text = ['--text', 'hf:org/data', '--field', 'body', '--windows', '2', '--window', '16'];

describe('hf:owner/name', () => {
  it('is judged by its own split of a text, and offline again', async () => {
    const words = ['eval', 'hf:org/toy', ...text, '--threads', '1', '--json'];
    const online = await lowbit(...words);
    expect(online).toMatchObject({ code: 0 });
    const [row] = online.output
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line) as { model: string; versions: object; value: number; protocol: object });
    expect(row).toMatchObject({
      model: 'toy',
      versions: { 'hf:org/toy': commit },
      protocol: { corpus: `hf:org/data@${commit}`, split: 'test' },
    });
    hub.requests.length = 0;
    for (const again of [
      [...words, '--offline'],
      ['--offline', ...words],
    ]) {
      const { code, output } = await lowbit(...again);
      expect(code).toBe(0);
      expect(JSON.parse(output.split('\n')[0])).toMatchObject({ value: row.value, versions: { 'hf:org/toy': commit } });
    }
    expect(hub.requests).toEqual([]);
  });

  it('is quantized into a checkpoint that names its commit', async () => {
    const { code, errors } = await lowbit('quantize', 'hf:org/toy', '--recipe', 'gptq:bits=4', ...text, '--threads', '1', '--out', 'made');
    expect({ code, errors }).toMatchObject({ code: 0 });
    expect(errors).toContain(`hf:org/data@${commit} train`);
    const { lowbit: section } = JSON.parse(await readFile(join(folder, 'made', 'config.json'), 'utf8')) as { lowbit: { versions: object } };
    expect(section.versions).toMatchObject({ 'hf:org/toy': commit });
    expect((await readdir(join(folder, 'made'))).sort()).toContain('tokenizer.json');
  });

  it('is planned from the headers of its weights, which are fetched when all that can be checked has been', async () => {
    const snapshot = join(folder, 'cache', 'models--org--toy', 'snapshots', commit);
    const words = ['hf:org/toy', ...text, '--threads', '1', '--recipe'];
    const planned = await lowbit('plan', ...words, 'gptq:bits=4', '--out', 'made');
    expect(planned).toMatchObject({ code: 0, output: expect.stringMatching(/^weights \S+ KiB are not in \S+cache yet/m) as string });
    expect(JSON.parse((await lowbit('plan', ...words, 'gptq:bits=4', '--json', '--offline')).output)).toMatchObject({
      steps: [{ method: 'gptq', targets: 14 }],
      fetchBytes: expect.any(Number) as number,
    });
    for (const [recipe, error] of [
      ['gptq:groupSize=24', 'GROUP_SIZE'],
      ['gptq:targets=["nothing"]', 'TARGETS_EMPTY'],
    ]) {
      expect(await lowbit('quantize', ...words, recipe, '--out', 'made')).toMatchObject({
        code: 2,
        errors: expect.stringContaining(error) as string,
      });
    }
    expect(await readdir(snapshot)).not.toContain('model.safetensors');
    expect(await lowbit('quantize', ...words, 'gptq:bits=4', '--out', 'made')).toMatchObject({ code: 0 });
    expect(await readdir(snapshot)).toContain('model.safetensors');
    expect(JSON.parse((await lowbit('plan', ...words, 'gptq:bits=4', '--json')).output)).toMatchObject({ fetchBytes: 0 });
  });

  it('is in the plan of a benchmark by its commit, whatever the branch is later', async () => {
    const words = [
      'bench',
      '--model',
      'hf:org/toy',
      '--recipe',
      'rtn:bits=4',
      ...text,
      '--calibration-windows',
      '2',
      '--evaluators',
      'text',
      '--threads',
      '1',
    ];
    expect(await lowbit(...words, '--out', 'run')).toMatchObject({ code: 0 });
    const { plan } = JSON.parse(await readFile(join(folder, 'run', 'plan.json'), 'utf8')) as {
      plan: { models: string[]; heldOut: object };
    };
    expect(plan.models).toEqual([pinned]);
    expect(plan.heldOut).toMatchObject({ source: { path: `hf:org/data@${commit}` } });
    const rows = (await readFile(join(folder, 'run', 'results.jsonl'), 'utf8'))
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line) as object);
    for (const row of rows) expect(row).toMatchObject({ model: 'toy', versions: { 'hf:org/toy': commit } });
    hub.requests.length = 0;
    // Processes of its own are offline too.
    const apart = await lowbit(...words, '--offline', '--workers', '1', '--json');
    expect(apart).toMatchObject({ code: 0, errors: expect.not.stringMatching(/HUB_/) as string });
    expect(hub.requests).toEqual([]);
  });

  it('is in the command that repeats a benchmark, with the split of a text', async () => {
    const options = {
      model: ['hf:org/toy'],
      recipe: ['rtn'],
      text: 'hf:org/data',
      split: 'test',
      documents: 'whole',
      field: 'body',
    } as const;
    const plan = await planOf(options, { backend: 'onnxruntime:cpu', threads: 1 }, folder);
    const command = benchCommand(plan) ?? '';
    for (const words of [`--model ${pinned}`, `--text hf:org/data@${commit}`, '--field body', '--split test'])
      expect(command).toContain(words);
  });

  it('is inspected where it lies', async () => {
    const { code, output } = await lowbit('inspect', pinned, '--json');
    expect(code).toBe(0);
    expect(JSON.parse(output)).toMatchObject({ model: 'toy', path: join(folder, 'cache', 'models--org--toy', 'snapshots', commit) });
  });

  it.each([
    [['eval', 'hf:org/toy', '--offline'], /HUB_OFFLINE.*fetch it with: hf download org\/toy,/],
    [['eval', 'hf:org/none'], /HUB_MISSING.*no model org\/none/],
    [['eval', 'hf:toy'], /HUB_REFERENCE/],
    [['eval', 'toy', '--text', 'hf:org/none'], /HUB_MISSING.*no dataset org\/none/],
    [['eval', 'toy', '--text', 'hf:org/data', '--split', 'dev'], /HUB_FILES.*no files of a split 'dev'; it has test\.jsonl, train\.jsonl/],
    [['eval', 'toy', '--text', 'hf:org/data', '--split', 'test'], /CORPUS_JSONL.*has body/],
    [['eval', 'toy', '--split', 'test'], /TEXT_OPTIONS: --split/],
    [['eval', 'toy', '--task', 'hf:org/data', '--template', '{body}'], /HUB_FILES.*names no file/],
    [['bench', '--model', 'hf:org/none', '--recipe', 'rtn'], /HUB_MISSING/],
    [['bench', '--model', 'hf:org/toy', '--recipe', 'rtn', '--offline'], /HUB_OFFLINE/],
  ])('%j exits with 2 and says what to do', async (words, message) => {
    const { code, errors } = await lowbit(...words, '--threads', '1');
    expect({ code, errors }).toEqual({ code: 2, errors: expect.stringMatching(message) as string });
  });

  it('is no concern of commands that name none', async () => {
    vi.stubEnv('HF_ENDPOINT', 'nowhere');
    expect(await lowbit('inspect', 'toy')).toMatchObject({ code: 0 });
    const { code, errors } = await lowbit('inspect', 'hf:org/toy');
    expect({ code, errors }).toEqual({ code: 2, errors: expect.stringMatching(/HUB_SETTINGS/) as string });
  });

  it.each([
    [{}, /org\/name \(MiB\) ━+─+ 3\/12.* · model\.safetensors.*\[2K$/s],
    [{ quiet: true }, /^$/],
  ])('is seen while it is fetched: %j', (options, shown) => {
    let errors = '';
    const terminal = { out: () => undefined, err: (text: string) => void (errors += text), isInteractive: true, columns: 100 };
    const access = hubAccess(terminal, new AbortController().signal);
    access.begin(options);
    access.options.onProgress?.({ repository: 'org/name', path: 'model.safetensors', done: 3.5 * 2 ** 20, total: 12 * 2 ** 20 });
    access.end();
    expect(errors).toMatch(shown);
  });

  it('is in the help', async () => {
    expect((await lowbit('--help')).output).toMatch(/--offline +fetch nothing/);
    expect((await lowbit('eval', '--help')).output).toContain('hf:owner/name');
  });
});
