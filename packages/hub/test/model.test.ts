// Models of a hub on this machine: which files come, where they lie, and how the cache is shared with Hugging Face's own programs.
import { mkdir, mkdtemp, readdir, readFile, readlink, rm, symlink, truncate, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { fetchModel, type HubOptions, type HubProgress, openSource, pinReference } from '../src/index.js';
import { entryOf, gitHash, type HubServer, sha256, startHub } from './hub-server.js';

const commit = 'c'.repeat(40);
const weights = Buffer.from(Array.from({ length: 3000 }, (_, i) => (i * 7919) % 251));
const config = '{"model_type":"llama"}';
const model = { 'config.json': config, 'tokenizer.json': '{"é":1}', 'model.safetensors': weights };

let hub: HubServer;
let cache: string;
let options: HubOptions;
beforeEach(async () => {
  hub = await startHub();
  cache = await mkdtemp(join(tmpdir(), 'lowbit-hub-'));
  options = { settings: { cache, endpoint: hub.endpoint, isOffline: false }, wait: async () => undefined };
});
afterEach(async () => {
  await hub.close();
  await rm(cache, { recursive: true });
});

const offline = (): HubOptions => ({ ...options, settings: { cache, endpoint: hub.endpoint, isOffline: true } });
const serve = (files: Readonly<Record<string, string | Uint8Array>>, revisions: readonly string[] = []): void =>
  void hub.repositories.set('models/org/name', { files, commit, revisions });
const downloads = (): string[] => hub.requests.flatMap(({ url }) => /\/resolve\/[^/]+\/(.*)/.exec(url)?.[1] ?? []);

describe('fetchModel', () => {
  it('lays files out as Hugging Face does: blobs by hash, links by commit, a ref for the branch', async () => {
    serve(model);
    const { directory, reference, repository, commit: found } = await fetchModel('hf:org/name', options);
    expect({ reference, repository, found }).toEqual({ reference: `hf:org/name@${commit}`, repository: 'org/name', found: commit });
    const root = join(cache, 'models--org--name');
    expect(directory).toBe(join(root, 'snapshots', commit));
    expect((await readdir(directory)).sort()).toEqual(Object.keys(model).sort());
    expect(await readlink(join(directory, 'config.json'))).toBe(join('..', '..', 'blobs', gitHash(config)));
    expect(await readlink(join(directory, 'model.safetensors'))).toBe(join('..', '..', 'blobs', sha256(weights)));
    expect((await readdir(join(root, 'blobs'))).sort()).toEqual(
      [gitHash(config), gitHash(model['tokenizer.json']), sha256(weights)].sort(),
    );
    expect(await readFile(join(root, 'refs', 'main'), 'utf8')).toBe(commit);
    expect(await readFile(join(directory, 'model.safetensors'))).toEqual(weights);
    expect(await readFile(join(directory, 'tokenizer.json'), 'utf8')).toBe(model['tokenizer.json']);
  });

  it('takes config, tokenizer, chat templates and safetensors weights, and nothing else', async () => {
    const wanted = {
      ...model,
      'generation_config.json': '{}',
      'tokenizer_config.json': '{}',
      'special_tokens_map.json': '{}',
      'tokenizer.model': 'spm',
      'merges.txt': 'a b',
      'vocab.json': '{}',
      'vocab.bpe': 'a b',
      'encoder.json': '{}',
      'tekken.json': '{}',
      'tokenizer.model.v3': 'spm',
      'chat_template.jinja': '{{ messages }}',
      'additional_chat_templates/tool.jinja': '{{ tools }}',
    };
    serve({
      ...wanted,
      ...{
        'README.md': '#',
        '.gitattributes': '*',
        'modeling_x.py': 'evil()',
        'pytorch_model.bin': weights,
        'consolidated.safetensors': weights,
      },
      ...{ 'model.safetensors.index.json': '{}', 'onnx/model.onnx': weights, 'onnx/config.json': '{}', 'evil.json': '{}' },
    });
    await fetchModel('hf:org/name', options);
    expect(downloads().sort()).toEqual(Object.keys(wanted).sort());
  });

  it('takes the shards that an index names', async () => {
    const index = JSON.stringify({
      weight_map: { a: 'model-00002-of-00002.safetensors', b: 'model-00001-of-00002.safetensors', c: 'model-00002-of-00002.safetensors' },
    });
    const shards = { 'model-00001-of-00002.safetensors': weights, 'model-00002-of-00002.safetensors': Buffer.from(weights).reverse() };
    serve({ 'config.json': config, 'model.safetensors.index.json': index, ...shards, 'other.safetensors': weights });
    const { directory } = await fetchModel('hf:org/name', options);
    expect((await readdir(directory)).sort()).toEqual([
      'config.json',
      'model-00001-of-00002.safetensors',
      'model-00002-of-00002.safetensors',
      'model.safetensors.index.json',
    ]);
    expect(await readFile(join(directory, 'model-00002-of-00002.safetensors'))).toEqual(shards['model-00002-of-00002.safetensors']);
  });

  it('leaves the weights where config and tokenizer are enough', async () => {
    serve(model);
    await fetchModel('hf:org/name', { ...options, weights: false });
    expect(downloads().sort()).toEqual(['config.json', 'tokenizer.json']);
  });

  it('fetches what is missing, and nothing twice', async () => {
    serve(model);
    await fetchModel('hf:org/name', { ...options, weights: false });
    await fetchModel('hf:org/name', options);
    await fetchModel('hf:org/name', options);
    expect(downloads().sort()).toEqual(Object.keys(model).sort());
  });

  it('uses what hf download has fetched, and replaces what has another size', async () => {
    serve(model);
    const root = join(cache, 'models--org--name');
    await mkdir(join(root, 'snapshots', commit), { recursive: true });
    await mkdir(join(root, 'blobs'));
    for (const [name, bytes] of Object.entries(model)) {
      const { oid, lfs } = entryOf(name, bytes);
      const hash = lfs?.oid ?? oid;
      await writeFile(join(root, 'blobs', hash), bytes);
      await symlink(`../../blobs/${hash}`, join(root, 'snapshots', commit, name));
    }
    await fetchModel('hf:org/name', options);
    expect(downloads()).toEqual([]);
    await truncate(join(root, 'blobs', sha256(weights)), 100);
    const { directory } = await fetchModel('hf:org/name', options);
    expect(downloads()).toEqual(['model.safetensors']);
    expect(await readFile(join(directory, 'model.safetensors'))).toEqual(weights);
  });

  it('links a blob that another commit has to this one', async () => {
    serve(model);
    await fetchModel('hf:org/name', options);
    hub.repositories.set('models/org/name', { files: { ...model, 'config.json': '{"model_type":"qwen2"}' }, commit: 'd'.repeat(40) });
    const { directory } = await fetchModel('hf:org/name', options);
    expect(directory).toContain('d'.repeat(40));
    expect(downloads().filter((path) => path === 'model.safetensors')).toHaveLength(1);
    expect(await readFile(join(directory, 'model.safetensors'))).toEqual(weights);
    expect(await readFile(join(cache, 'models--org--name', 'refs', 'main'), 'utf8')).toBe('d'.repeat(40));
  });

  it('finds branches, tags and commits', async () => {
    serve(model, ['v1', 'feature/x', 'refs/pr/2']);
    for (const revision of ['v1', 'feature%2Fx', 'refs/pr/2', commit]) {
      expect((await fetchModel(`hf:org/name@${revision}`, options)).commit).toBe(commit);
    }
    const refs = join(cache, 'models--org--name', 'refs');
    expect((await readdir(refs, { recursive: true })).sort()).toEqual(['feature', 'feature/x', 'refs', 'refs/pr', 'refs/pr/2', 'v1']);
    expect(await readFile(join(refs, 'feature', 'x'), 'utf8')).toBe(commit);
  });

  it('tells of bytes, up to all of them', async () => {
    serve(model);
    const heard: HubProgress[] = [];
    await fetchModel('hf:org/name', { ...options, onProgress: (progress) => heard.push(progress) });
    const last = heard.filter(({ path }) => path === 'model.safetensors');
    expect(last[0]).toEqual({ repository: 'org/name', path: 'model.safetensors', done: 0, total: weights.length });
    expect(last.at(-1)).toMatchObject({ done: weights.length, total: weights.length });
    const small = Buffer.byteLength(config) + Buffer.byteLength(model['tokenizer.json']);
    expect(heard.filter(({ path }) => path !== 'model.safetensors').at(-1)).toMatchObject({ done: small, total: small });
  });

  it.each([
    [
      'no config',
      { 'adapter_model.safetensors': weights, 'adapter_config.json': '{}' },
      /HUB_FILES.*has no config\.json.*it has adapter_config\.json, adapter_model\.safetensors/,
    ],
    [
      'no safetensors',
      { 'config.json': config, 'pytorch_model.bin': weights },
      /HUB_FILES.*has no model\.safetensors: weights are read from safetensors alone.*pytorch_model\.bin/,
    ],
    [
      'a lost shard',
      { 'config.json': config, 'model.safetensors.index.json': '{"weight_map":{"a":"gone.safetensors"}}' },
      /HUB_FILES.*has no gone\.safetensors/,
    ],
    [
      'a broken index',
      { 'config.json': config, 'model.safetensors.index.json': '{"weight_map":' },
      /HUB_FILES.*index\.json cannot be read/,
    ],
    ['nothing', {}, /HUB_FILES.*it has no files/],
  ])('refuses a repository with %s', async (_, files, message) => {
    serve(files);
    await expect(fetchModel('hf:org/name', options)).rejects.toThrow(message);
  });

  it('writes nothing outside of the snapshot', async () => {
    const paths = ['../../../escaped', '/escaped', 'a/../../escaped', 'a\\..\\escaped', 'C:escaped'];
    serve({ ...model, ...Object.fromEntries(paths.map((path) => [path, 'x'])) });
    const { files } = await openSource('hf:org/name', 'model', options);
    expect([...files]).toEqual(Object.keys(model).sort());
  });

  it('leaves out entries of a tree whose hashes or sizes are none', async () => {
    serve(model);
    hub.entry = (entry) => ({ ...entry, oid: '../../x' });
    expect((await openSource('hf:org/name', 'model', options)).files).toEqual(['model.safetensors']);
    hub.entry = (entry) => ({ ...entry, size: -0.5 });
    expect((await openSource('hf:org/name', 'model', options)).files).toEqual(['model.safetensors']);
  });
});

describe('pinReference', () => {
  it('names the commit, offline the one that it was', async () => {
    serve(model, ['v1']);
    hub.repositories.set('datasets/org/data', { files: { 'en/x.txt': 'x' }, commit });
    await expect(pinReference('hf:org/name', 'model', offline())).rejects.toThrow(/HUB_OFFLINE/);
    for (const how of [options, offline()]) {
      expect(await pinReference('hf:org/name@v1', 'model', how)).toBe(`hf:org/name@${commit}`);
      expect(await pinReference('hf:org/data/en/x.txt', 'dataset', how)).toBe(`hf:org/data@${commit}/en/x.txt`);
      expect(await pinReference(`hf:org/none@${commit}`, 'model', how)).toBe(`hf:org/none@${commit}`);
    }
    await expect(pinReference('hf:org/name@v2', 'model', options)).rejects.toThrow(/HUB_MISSING/);
  });
});

describe('offline', () => {
  it('asks nobody, and has what was fetched', async () => {
    serve(model, ['v1']);
    const { directory } = await fetchModel('hf:org/name@v1', options);
    hub.requests.length = 0;
    for (const revision of ['v1', commit]) expect((await fetchModel(`hf:org/name@${revision}`, offline())).directory).toBe(directory);
    await expect(fetchModel('hf:org/name', offline())).rejects.toThrow(/HUB_OFFLINE/);
    expect(hub.requests).toEqual([]);
  });

  it('names the command that fetches what is missing', async () => {
    await expect(fetchModel('hf:org/name', offline())).rejects.toThrow(
      /HUB_OFFLINE: model org\/name: hf:org\/name is not in .*fetch it with: hf download org\/name, or/,
    );
    await expect(fetchModel('hf:org/name@v1', offline())).rejects.toThrow(/hf download org\/name --revision v1, or/);
    await expect(openSource('hf:org/name/en', 'dataset', offline())).rejects.toThrow(
      /hf download org\/name --repo-type dataset --include 'en\/\*', or/,
    );
  });

  it('names the files of a model that was fetched in part', async () => {
    const index = JSON.stringify({ weight_map: { a: 'model-00001-of-00002.safetensors', b: 'model-00002-of-00002.safetensors' } });
    const files = { 'config.json': config, 'model.safetensors.index.json': index, 'model-00001-of-00002.safetensors': weights };
    serve({ ...files, 'model-00002-of-00002.safetensors': weights });
    await (await openSource('hf:org/name', 'model', options)).fetch(Object.keys(files));
    await expect(fetchModel('hf:org/name', offline())).rejects.toThrow(/HUB_OFFLINE.*model-00002-of-00002\.safetensors of it is not in/);
    await rm(join(cache, 'models--org--name', 'snapshots', commit, 'config.json'));
    await expect(fetchModel('hf:org/name', offline())).rejects.toThrow(/HUB_OFFLINE.*config\.json of it is not in/);
  });

  it('does not take a link without its blob for a file', async () => {
    serve(model);
    await fetchModel('hf:org/name', options);
    await rm(join(cache, 'models--org--name', 'blobs', sha256(weights)));
    await expect(fetchModel('hf:org/name', offline())).rejects.toThrow(/HUB_OFFLINE.*model\.safetensors of it is not/);
  });
});

describe('datasets', () => {
  it('are listed page by page, a folder at a time, and fetched file by file', async () => {
    const files = Object.fromEntries(
      ['en/test-00000-of-00001.parquet', 'en/a/b.jsonl', 'en/c.txt', 'de/x.txt'].map((path) => [path, path]),
    );
    hub.repositories.set('datasets/org/data', { files, commit });
    hub.pageLength = 2;
    const source = await openSource('hf:org/data/en', 'dataset', options);
    expect(source.reference).toBe(`hf:org/data@${commit}/en`);
    expect(source.files).toEqual(['a/b.jsonl', 'c.txt', 'test-00000-of-00001.parquet']);
    await source.fetch(['a/b.jsonl']);
    expect(source.directory).toBe(join(cache, 'datasets--org--data', 'snapshots', commit, 'en'));
    expect(await readFile(join(source.directory, 'a', 'b.jsonl'), 'utf8')).toBe('en/a/b.jsonl');
    expect(await readlink(join(source.directory, 'a', 'b.jsonl'))).toBe(join('..', '..', '..', '..', 'blobs', gitHash('en/a/b.jsonl')));
    expect(downloads()).toEqual(['en/a/b.jsonl']);
    const again = await openSource('hf:org/data/en', 'dataset', offline());
    expect({ reference: again.reference, files: again.files }).toEqual({ reference: source.reference, files: source.files });
    await again.fetch(['a/b.jsonl']);
    await expect(again.fetch(['c.txt'])).rejects.toThrow(/HUB_OFFLINE.*c\.txt of it is not in/);
    // What others have fetched was never listed.
    await rm(join(cache, 'datasets--org--data', '.lowbit'), { recursive: true });
    expect((await openSource('hf:org/data/en', 'dataset', offline())).files).toEqual(['a/b.jsonl']);
  });

  it('are known offline by folders, if they were listed as a whole', async () => {
    hub.repositories.set('datasets/org/data', { files: { 'en/a.txt': 'a', 'en/b.txt': 'b', 'english/c.txt': 'c' }, commit });
    await (await openSource('hf:org/data', 'dataset', options)).fetch(['en/a.txt']);
    expect((await openSource('hf:org/data/en', 'dataset', offline())).files).toEqual(['a.txt', 'b.txt']);
  });

  const part = (i: number, own = ''): string => `train-0000${i}-of-00002${own}.parquet`;

  it('are there offline file by file: one that was fetched is not refused for the sake of others', async () => {
    const names = [part(0), part(1), part(0, '-0a1b'), part(1, '-2c3d')];
    hub.repositories.set('datasets/org/data', { files: Object.fromEntries(names.map((name) => [name, 'x'])), commit });
    await (await openSource('hf:org/data', 'dataset', options)).fetch([part(0), part(0, '-0a1b')]);
    const source = await openSource('hf:org/data', 'dataset', offline());
    expect(source.files).toEqual(names.sort());
    await source.fetch([part(0), part(0, '-0a1b')]);
    await expect(source.fetch([part(0), part(1)])).rejects.toThrow(/HUB_OFFLINE.*train-00001-of-00002\.parquet of it is not in/);
  });

  it('name the parts that are missing offline, where others have fetched and nothing was listed', async () => {
    const files = { [part(0)]: 'x', [`en/${part(1, '-2c3d')}`]: 'x', 'en/test-00000-of-00001.parquet': 'x', 'notes-of-3.txt': 'x' };
    hub.repositories.set('datasets/org/data', { files, commit });
    await (await openSource('hf:org/data', 'dataset', options)).fetch(Object.keys(files));
    await rm(join(cache, 'datasets--org--data', '.lowbit'), { recursive: true });
    const source = await openSource('hf:org/data', 'dataset', offline());
    expect(source.files).toEqual([...Object.keys(files), part(1), `en/${part(0, '-*')}`].sort());
    await source.fetch(Object.keys(files));
    await expect(source.fetch([`en/${part(0, '-*')}`])).rejects.toThrow(/HUB_OFFLINE.*en\/train-00000-of-00002-\*\.parquet of it is not/);
  });
});
