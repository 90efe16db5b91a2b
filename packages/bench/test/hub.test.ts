// Models, texts and tasks from a hub on this machine.
import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { HubOptions } from '@lowbit/hub';
import { tinyLlamaDirectory } from '@lowbit/tiny-llama';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { type Files, type HubServer, startHub } from '../../hub/test/hub-server.js';
import { modelName, openSuite, openTask, type ResolvedModel, resolveModel } from '../src/index.js';
import { describeModel } from '../src/model-reference.js';
import { suiteFiles } from '../src/suite.js';
import { openCorpus } from '../src/texts.js';

const commit = 'c'.repeat(40);
let hub: HubServer;
let cache: string;
let options: HubOptions;
beforeEach(async () => {
  hub = await startHub();
  cache = await mkdtemp(join(tmpdir(), 'lowbit-hub-bench-'));
  options = { settings: { cache, endpoint: hub.endpoint, isOffline: false }, wait: async () => undefined };
});
afterEach(async () => {
  await hub.close();
  await rm(cache, { recursive: true });
});

const serve = (name: string, files: Files): void => void hub.repositories.set(name, { files, commit });
const downloads = (): string[] => hub.requests.flatMap(({ url }) => /\/resolve\/[^/]+\/(.*)/.exec(url)?.[1] ?? []);

async function serveTiny(): Promise<void> {
  const files: Record<string, Uint8Array> = {};
  for (const name of await readdir(tinyLlamaDirectory())) files[name] = await readFile(join(tinyLlamaDirectory(), name));
  serve('models/org/tiny-llama', files);
}

describe('models', () => {
  it('are opened by reference, and say which commit they are', async () => {
    await serveTiny();
    const [found, local] = [await resolveModel('hf:org/tiny-llama', cache, options), await resolveModel(tinyLlamaDirectory())];
    expect(found).toMatchObject({ name: 'tiny-llama', text: { kind: 'sotu' }, versions: { 'hf:org/tiny-llama': commit } });
    expect(local.versions).toEqual({});
    expect(found.model.config).toEqual(local.model.config);
    expect([...found.checkpoint.entries]).toEqual([...local.checkpoint.entries]);
    expect(found.tokenizer.encode('My fellow Americans')).toEqual(local.tokenizer.encode('My fellow Americans'));
  });

  it('are described by their config alone', async () => {
    await serveTiny();
    const { config } = await describeModel(tinyLlamaDirectory());
    expect(await describeModel('hf:org/tiny-llama', cache, options)).toEqual({ name: 'tiny-llama', config, tensorBytes: null });
    expect(downloads()).not.toContain('model.safetensors');
  });

  it('are called by their name, whatever their owner and revision', () => {
    expect(['hf:org/a', 'hf:org/a@v1', `hf:org/a.b@${commit}`].map(modelName)).toEqual(['a', 'a', 'a.b']);
  });

  it('that are not there are an error of the hub, and of what else it might be', async () => {
    await expect(resolveModel('hf:org/none', cache, options)).rejects.toMatchObject({ code: 'HUB_MISSING' });
    await expect(resolveModel('hf:tiny', cache, options)).rejects.toMatchObject({ code: 'HUB_REFERENCE' });
    await expect(resolveModel('org/none', cache, options)).rejects.toThrow(/MODEL_REFERENCE.*hf:owner\/name/);
  });
});

describe('texts', () => {
  const lines = (...texts: string[]): string => texts.map((text) => `${JSON.stringify({ text })}\n`).join('');
  const many = Array.from({ length: 20 }, (_, i) => `document ${i}`);

  it('are a split for each use', async () => {
    serve('datasets/org/data', { 'train.jsonl': lines('a', 'b'), 'test.jsonl': lines('c') });
    const source = { kind: 'file', path: 'hf:org/data' } as const;
    expect(await openCorpus(source, 'train', options)).toMatchObject({ split: 'train', documents: ['a', 'b'] });
    expect(await openCorpus(source, 'held-out', options)).toMatchObject({ split: 'test', documents: ['c'], name: `hf:org/data@${commit}` });
  });

  it('without such splits are parts that share nothing', async () => {
    serve('datasets/org/data', { 'train.jsonl': lines(...many) });
    const source = { kind: 'file', path: 'hf:org/data' } as const;
    const [train, held] = [await openCorpus(source, 'train', options), await openCorpus(source, 'held-out', options)];
    expect(held.documents).toEqual(['document 9', 'document 19']);
    expect([...train.documents, ...held.documents].sort()).toEqual([...many].sort());
  });

  it('that are named are used whole, unless parts are asked for', async () => {
    serve('datasets/org/data', { 'train.jsonl': lines('a', 'b'), 'test.jsonl': lines(...many) });
    for (const named of [{ path: 'hf:org/data/test.jsonl' }, { path: 'hf:org/data', datasetSplit: 'test' }]) {
      const source = { kind: 'file', ...named } as const;
      expect((await openCorpus(source, 'train', options)).documents).toEqual(many);
      expect((await openCorpus({ ...source, split: 'train' }, 'train', options)).documents).toHaveLength(18);
      expect((await openCorpus({ ...source, split: 'held-out' }, 'held-out', options)).documents).toHaveLength(2);
    }
  });
});

describe('tasks', () => {
  let model: ResolvedModel;
  beforeEach(async () => {
    model = { ...(await resolveModel('tiny')), hub: options };
  });
  const examples = (count: number): string =>
    Array.from({ length: count }, (_, i) => `{"a":"one ${i}","b":"${i % 2 ? 'yes' : 'no'}"}\n`).join('');

  it('are read from files of datasets', async () => {
    serve('datasets/org/data', { 'train.jsonl': examples(12), 'dev.jsonl': examples(4), 'README.md': '#' });
    const [source, dev] = ['hf:org/data/train.jsonl', 'hf:org/data/dev.jsonl'];
    const { report } = await openTask({ source, dev, template: '{a} {b}' }, model);
    expect(report).toMatch(/train\.jsonl/);
    expect(downloads().sort()).toEqual(['dev.jsonl', 'train.jsonl']);
    await expect(openTask({ source: 'hf:org/data', template: '{a} {b}' }, model)).rejects.toThrow(/HUB_FILES.*names no file/);
  });

  it('of the literature are found in datasets, and named by what was read', async () => {
    const record = { id: 'q', question: 'Which?', choices: { text: ['a', 'b'], label: ['A', 'B'] }, answerKey: 'A' };
    serve('datasets/org/arc', { 'ARC-Easy/test-00000-of-00001.jsonl': `${JSON.stringify(record)}\n` });
    const source = { names: ['arc_easy'], data: 'hf:org/arc' };
    const [evaluator] = await openSuite(source, model);
    expect(evaluator.name).toContain('arc_easy');
    const files = await suiteFiles(source, options);
    expect([...files.values()].flat()).toEqual([
      join(cache, 'datasets--org--arc', 'snapshots', commit, 'ARC-Easy', 'test-00000-of-00001.jsonl'),
    ]);
  });
});
