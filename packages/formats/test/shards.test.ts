// Weights split over several files, and the index that says where each tensor lies.
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { type StoredTensor, writeShards } from '../src/index.js';
import { openWeights } from '../src/weights.js';
import { temporaryDirectory } from './temporary-directory.js';

const at = temporaryDirectory();

const bytes = (name: string, content: number[]): StoredTensor => ({
  name,
  shape: [content.length],
  dtype: 'U8',
  bytes: async () => Uint8Array.from(content),
});

describe('shards', () => {
  const tensors = ['d', 'b', 'a', 'c'].map((name, i) => bytes(name, [i, i, i]));

  it('splits at the size given, in the order of names, with an index', async () => {
    const files = await writeShards(at(), tensors, { maxShardBytes: 7 });
    expect(files).toEqual(['model-00001-of-00002.safetensors', 'model-00002-of-00002.safetensors', 'model.safetensors.index.json']);
    expect(JSON.parse(await readFile(at('model.safetensors.index.json'), 'utf8'))).toEqual({
      metadata: { total_size: 12 },
      weight_map: { a: files[0], b: files[0], c: files[1], d: files[1] },
    });
    const weights = await openWeights(at());
    for (const { name, bytes: content } of tensors) expect(await weights?.get(name)?.bytes(name)).toEqual(await content());
  });

  it('writes one file without an index when all fits, and a file of its own for what is larger', async () => {
    expect(await writeShards(at('one'), tensors)).toEqual(['model.safetensors']);
    expect(await writeShards(at('four'), tensors, { maxShardBytes: 2 })).toHaveLength(5);
    await expect(writeShards(at('none'), tensors, { maxShardBytes: 0 })).rejects.toThrow(/SHARD_SIZE/);
  });

  it('opens any split to the same tensors', async () => {
    await fc.assert(
      fc.asyncProperty(fc.integer({ min: 1, max: 40 }), fc.array(fc.nat(9), { maxLength: 8 }), async (maxShardBytes, lengths) => {
        const written = lengths.map((length, i) =>
          bytes(
            `t${i}`,
            Array.from({ length }, () => i),
          ),
        );
        const directory = at(`${maxShardBytes}-${lengths.join('_')}`);
        await mkdir(directory, { recursive: true });
        await writeShards(directory, written, { maxShardBytes });
        const weights = await openWeights(directory);
        expect(weights?.size).toBe(written.length);
        for (const t of written) expect(await weights?.get(t.name)?.bytes(t.name)).toEqual(await t.bytes());
      }),
      { numRuns: 15 },
    );
  });

  it.each([
    [
      'a path',
      { a: '../x.safetensors' },
      /places tensor 'a' in '\.\.\/x\.safetensors', which is not the name of a safetensors file beside it/,
    ],
    ['no text', { a: 3 }, /places tensor 'a' in number/],
    ['a missing shard', { a: 'other.safetensors' }, /names the shard other\.safetensors, which is missing/],
    [
      'a tensor that the shard has not',
      { a: 'model-00001-of-00002.safetensors', z: 'model-00001-of-00002.safetensors' },
      /places tensor 'z' in .*, which has a, b/,
    ],
    ['no map', [], /weight_map must be an object/],
  ])('refuses an index with %s', async (_, weightMap, message) => {
    await writeShards(at(), tensors, { maxShardBytes: 7 });
    await writeFile(at('model.safetensors.index.json'), JSON.stringify({ weight_map: weightMap }));
    await expect(openWeights(at())).rejects.toThrow(message);
    await expect(openWeights(at())).rejects.toThrow(/^SAFETENSORS_INDEX/);
  });
});
