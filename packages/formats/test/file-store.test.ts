// The run store on disk: what is put comes back lazily, nothing half-written is ever seen, keys stay inside.
import { mkdir, readdir, readFile, rm, truncate, writeFile } from 'node:fs/promises';
import { lazyTensor, memoryStore, read, tensor } from '@lowbit/core';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { createFileStore, directoryBytes, fileSha256, openSafetensors, storedTensor, writeSafetensors } from '../src/index.js';
import { temporaryDirectory } from './temporary-directory.js';

const at = temporaryDirectory();

const entry = (n: number) => ({
  metadata: { n, nested: { list: [1, 'zwei', null, true] } },
  tensors: { weight: tensor([n, n + 1, n + 2, n + 3], [2, 2]), codes: tensor(Uint8Array.of(n)) },
});

describe('file store', () => {
  it('gives back what was put, as lazy leaves', async () => {
    const store = createFileStore(at('run'));
    expect(await store.get('blocks/003')).toBeUndefined();
    await store.put('blocks/003', entry(1));
    const got = await store.get('blocks/003');
    expect(got?.metadata).toEqual(entry(1).metadata);
    expect(Object.keys(got!.tensors).sort()).toEqual(['codes', 'weight']);
    expect(got?.tensors.weight.source).not.toHaveProperty('data');
    expect([got?.tensors.weight.shape, await read(got!.tensors.weight)]).toEqual([[2, 2], Float32Array.of(1, 2, 3, 4)]);
    expect(await read(got!.tensors.codes)).toEqual(Uint8Array.of(1));
    expect(await readdir(at('run', 'blocks'))).toEqual(['003.safetensors']);
    expect((await openSafetensors(at('run', 'blocks', '003.safetensors'))).entries.size).toBe(2);
  });

  it('behaves as the store in memory under any sequence of calls', async () => {
    const operation = fc.tuple(fc.constantFrom('put', 'get', 'delete'), fc.constantFrom('a', 'b', 'a/b', 'a-b/c.d'), fc.nat(9));
    await fc.assert(
      fc.asyncProperty(fc.array(operation, { maxLength: 12 }), async (operations) => {
        const [ours, model] = [createFileStore(at('run')), memoryStore()];
        for (const key of ['a', 'b', 'a/b', 'a-b/c.d']) await ours.delete(key);
        for (const [verb, key, n] of operations) {
          for (const store of [ours, model]) {
            if (verb === 'put') await store.put(key, entry(n));
            if (verb === 'delete') await store.delete(key);
          }
          const [got, expected] = [await ours.get(key), await model.get(key)];
          expect(got?.metadata).toEqual(expected?.metadata);
          if (got && expected) expect(await read(got.tensors.weight)).toEqual(await read(expected.tensors.weight));
        }
      }),
      { numRuns: 15 },
    );
  });

  it('can put an entry that reads from the one it replaces', async () => {
    const store = createFileStore(at('run'));
    await store.put('state', entry(1));
    const old = await store.get('state');
    await store.put('state', { metadata: {}, tensors: { weight: old!.tensors.weight } });
    expect(await read((await store.get('state'))!.tensors.weight)).toEqual(Float32Array.of(1, 2, 3, 4));
    await expect(read(old!.tensors.weight)).rejects.toThrow(/FILE_CHANGED/);
  });

  it('is cleared of its entries and of what killed processes left, and of nothing else', async () => {
    const store = createFileStore(at('run'));
    expect(await store.isEmpty()).toBe(true);
    await store.clear();
    await mkdir(at('run', 'blocks'), { recursive: true });
    await writeFile(at('run', 'blocks', '003.safetensors.1-0123abcd.tmp'), 'part');
    expect(await store.isEmpty()).toBe(true);
    expect(await store.holdsEntries()).toBe(false);
    await store.put('blocks/003', entry(1));
    expect(await store.holdsEntries()).toBe(true);
    await store.put('state', entry(2));
    expect(await store.isEmpty()).toBe(false);
    await writeFile(at('run', 'notes.txt'), 'mine');
    await writeSafetensors(at('run', 'model.safetensors'), [storedTensor('weight', tensor([1, 2], [2]))]);
    await store.clear();
    expect((await readdir(at('run'), { recursive: true })).sort()).toEqual(['model.safetensors', 'notes.txt']);
    expect(await store.holdsEntries()).toBe(false);
    await rm(at('run', 'model.safetensors'));
    expect(await store.isEmpty()).toBe(false);
    await rm(at('run', 'notes.txt'));
    await store.clear();
    await expect(readdir(at('run'))).rejects.toMatchObject({ code: 'ENOENT' });
  });

  it('reads lazy tensors one after another while it writes', async () => {
    const store = createFileStore(at('run'));
    const open: string[] = [];
    const lazy = (name: string) =>
      lazyTensor([2], 'float32', async () => {
        open.push(name);
        return Float32Array.of(open.length, 0);
      });
    await store.put('stream', { metadata: {}, tensors: { b: lazy('b'), a: lazy('a') } });
    expect(open).toEqual(['a', 'b']);
    expect(await read((await store.get('stream'))!.tensors.b)).toEqual(Float32Array.of(2, 0));
  });

  it('keeps the old entry when a put fails', async () => {
    const store = createFileStore(at('run'));
    await store.put('state', entry(1));
    const failing = lazyTensor([1], 'float32', () => Promise.reject(new Error('gone')));
    await expect(store.put('state', { metadata: {}, tensors: { failing } })).rejects.toThrow('gone');
    await expect(store.put('state', { metadata: { n: Number.NaN }, tensors: {} })).rejects.toThrow(
      /NOT_JSON: store .*run: state: metadata\.n: NaN cannot be kept/,
    );
    expect((await store.get('state'))?.metadata.n).toBe(1);
    expect(await readdir(at('run'))).toEqual(['state.safetensors']);
  });

  it('survives two puts of one key at once', async () => {
    const store = createFileStore(at('run'));
    await Promise.all([1, 2, 3, 4].map((n) => store.put('state', entry(n))));
    const got = await store.get('state');
    expect((await read(got!.tensors.weight))[0]).toBe(got?.metadata.n);
    expect(await readdir(at('run'))).toEqual(['state.safetensors']);
  });

  it('says that an entry is damaged instead of computing it again in silence', async () => {
    const store = createFileStore(at('run'));
    await store.put('state', entry(1));
    const size = (await readFile(at('run', 'state.safetensors'))).length;
    for (const length of [0, 5, 60, size - 1]) {
      await store.put('state', entry(1));
      await truncate(at('run', 'state.safetensors'), length);
      await expect(store.get('state')).rejects.toThrow(
        /STORE_CORRUPT: .*state\.safetensors: the stored entry 'state' is damaged .*delete the file, and the run computes it again/,
      );
    }
    await writeSafetensors(at('run', 'state.safetensors'), [storedTensor('a', tensor([1]))]);
    await expect(store.get('state')).rejects.toThrow(/STORE_CORRUPT: .*has no entry metadata/);
    await writeSafetensors(at('run', 'state.safetensors'), [], { metadata: { entry: '[' } });
    await expect(store.get('state')).rejects.toThrow(/STORE_CORRUPT/);
    await store.delete('state');
    expect(await store.get('state')).toBeUndefined();
  });

  it.each(['', '/', 'a/', '/a', '../a', 'a/../b', 'a//b', '.hidden', 'a b', 'a\\b', 'ä'])('refuses the key %j', async (key) => {
    const store = createFileStore(at('run'));
    await expect(store.get(key)).rejects.toThrow(/STORE_KEY/);
    await expect(store.put(key, entry(1))).rejects.toThrow(/STORE_KEY/);
  });

  it('says so when the directory cannot be one', async () => {
    await writeFile(at('run'), 'a file');
    await expect(createFileStore(at('run')).put('a', entry(1))).rejects.toThrow(/^FILE_(MISSING|IO): .*could not write/);
  });
});

describe('disk usage', () => {
  it('hashes files piece by piece', async () => {
    await writeFile(at('x'), 'abc');
    expect(await fileSha256(at('x'))).toBe('ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad'); // FIPS 180-2, example B.1
    await writeFile(at('x'), Buffer.alloc(9 * 2 ** 20, 'a'));
    const { createHash } = await import('node:crypto');
    expect(await fileSha256(at('x'))).toBe(
      createHash('sha256')
        .update(Buffer.alloc(9 * 2 ** 20, 'a'))
        .digest('hex'),
    );
    await expect(fileSha256(at('none'))).rejects.toThrow(/FILE_MISSING/);
  });

  it('adds up the files of a directory', async () => {
    await mkdir(at('d', 'e'), { recursive: true });
    await writeFile(at('d', 'a'), 'abc');
    await writeFile(at('d', 'e', 'b'), 'de');
    expect(await directoryBytes(at('d'))).toBe(5);
    await expect(directoryBytes(at('none'))).rejects.toThrow(/FILE_MISSING/);
  });
});
