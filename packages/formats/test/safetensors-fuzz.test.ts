// Damaged and lying safetensors files: a LowbitError or correct tensors, never another error, never a huge allocation.
import { truncate, writeFile } from 'node:fs/promises';
import { LowbitError, read, tensor } from '@lowbit/core';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { openSafetensors, storedTensor, writeSafetensors } from '../src/index.js';
import { parseHeader, parseHeaderLength } from '../src/safetensors-header.js';
import { storedBytes } from '../src/stored-dtype.js';
import { temporaryDirectory } from './temporary-directory.js';

const at = temporaryDirectory();

/** Parses a whole file in memory; undefined when it was refused as it should be. */
function parse(content: Uint8Array) {
  try {
    const length = parseHeaderLength(content.subarray(0, 8), content.length, 'x');
    return parseHeader(content.subarray(8, 8 + length), content.length - 8 - length, 'x');
  } catch (error) {
    expect(error).toBeInstanceOf(LowbitError);
    expect((error as Error).message.length).toBeLessThan(1000);
    return undefined;
  }
}

/** What must hold of a header that was accepted: every byte of the data belongs to one tensor, of the right size. */
function expectSound(content: Uint8Array): void {
  const header = parse(content);
  if (!header) return;
  const length = Number(new DataView(content.buffer, content.byteOffset).getBigUint64(0, true));
  const owners = new Uint8Array(content.length - 8 - length);
  for (const { shape, dtype, start, end } of header.entries.values()) {
    expect(end - start).toBe(shape.reduce((product, n) => product * n, storedBytes.get(dtype)!));
    for (let i = start; i < end; i++) owners[i]++;
  }
  expect(owners.every((n) => n === 1)).toBe(true);
}

function file(header: unknown, dataBytes: number): Uint8Array {
  const json = Buffer.from(JSON.stringify(header));
  const content = Buffer.alloc(8 + json.length + dataBytes);
  content.writeBigUInt64LE(BigInt(json.length));
  content.set(json, 8);
  return content;
}

const valid = file(
  {
    'model.embed_tokens.weight': { dtype: 'BF16', shape: [4, 3], data_offsets: [0, 24] },
    'model.norm.weight': { dtype: 'F32', shape: [3], data_offsets: [24, 36] },
    codes: { dtype: 'U8', shape: [5], data_offsets: [36, 41] },
    __metadata__: { format: 'pt' },
  },
  41,
);

describe('a header', () => {
  it('is accepted undamaged', () => expect(parse(valid)?.entries.size).toBe(3));

  it('is refused at every length but its own', () => {
    for (let length = 0; length < valid.length; length++) expect(parse(valid.subarray(0, length))).toBeUndefined();
    expect(parse(Buffer.concat([valid, Uint8Array.of(0)]))).toBeUndefined();
  });

  it('survives changed bytes', () => {
    fc.assert(
      fc.property(fc.array(fc.tuple(fc.nat(valid.length - 1), fc.nat(255)), { minLength: 1, maxLength: 4 }), (changes) => {
        const content = Uint8Array.from(valid);
        for (const [i, byte] of changes) content[i] = byte;
        expectSound(content);
      }),
      { numRuns: 500 },
    );
  });

  it('survives lies in offsets, shapes and types', () => {
    const lie = fc.oneof(
      fc.nat(60),
      fc.integer(),
      fc.double(),
      fc.constantFrom(2 ** 53, 2 ** 53 - 1, 2 ** 31, 2 ** 32, -0, 1e308, null, '1', true, [], {}),
    );
    const entry = fc.record(
      {
        dtype: fc.oneof({ weight: 9, arbitrary: fc.constantFrom(...storedBytes.keys()) }, { weight: 1, arbitrary: fc.jsonValue() }),
        shape: fc.oneof(
          {
            weight: 9,
            arbitrary: fc.array(fc.oneof({ weight: 5, arbitrary: fc.nat(6) }, { weight: 1, arbitrary: lie }), { maxLength: 4 }),
          },
          { weight: 1, arbitrary: fc.jsonValue() },
        ),
        data_offsets: fc.oneof({ weight: 9, arbitrary: fc.tuple(lie, lie) }, { weight: 1, arbitrary: fc.jsonValue() }),
      },
      { requiredKeys: [] },
    );
    fc.assert(
      fc.property(
        fc.dictionary(fc.string(), fc.oneof({ weight: 9, arbitrary: entry }, { weight: 1, arbitrary: fc.jsonValue() }), { maxKeys: 4 }),
        fc.nat(60),
        (header, dataBytes) => {
          expectSound(file(header, dataBytes));
        },
      ),
      { numRuns: 500 },
    );
  });

  it('survives contiguous tensors of which one claims another shape', () => {
    fc.assert(
      fc.property(
        fc.array(fc.array(fc.nat(4), { maxLength: 3 }), { minLength: 1, maxLength: 4 }),
        fc.nat(3),
        fc.array(fc.oneof(fc.nat(5), fc.maxSafeNat())),
        (shapes, which, shape) => {
          let end = 0;
          const entries = shapes.map((s, i) => {
            const start = end;
            end += s.reduce((product, n) => product * n, 2);
            return [`t${i}`, { dtype: 'F16', shape: i === which ? shape : s, data_offsets: [start, end] }];
          });
          expectSound(file(Object.fromEntries(entries), end));
        },
      ),
      { numRuns: 500 },
    );
  });

  it('survives any text and any bytes', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 200 }), (content) => expectSound(content)),
      { numRuns: 500 },
    );
    fc.assert(
      fc.property(fc.string({ unit: 'binary', maxLength: 100 }), (text) => {
        const json = Buffer.from(`{${text}}`);
        const length = Buffer.alloc(8);
        length.writeBigUInt64LE(BigInt(json.length));
        expectSound(Buffer.concat([length, json]));
      }),
      { numRuns: 500 },
    );
  });
});

describe('a file', () => {
  it('that was cut anywhere is refused when it is opened, or when it was cut afterwards, when it is read', async () => {
    const path = at('x.safetensors');
    const whole = async () => {
      await writeSafetensors(path, [storedTensor('a', tensor([1, 2, 3])), storedTensor('b', tensor([4]), 'BF16')]);
      return openSafetensors(path);
    };
    const { size } = await (await import('node:fs/promises')).stat((await whole()).path);
    await fc.assert(
      fc.asyncProperty(fc.nat(size - 1), async (length) => {
        const opened = await whole();
        await truncate(path, length);
        await expect(openSafetensors(path)).rejects.toThrow(LowbitError);
        await expect(read(opened.tensor('b'))).rejects.toThrow(/FILE_CHANGED/);
      }),
      { numRuns: 25 },
    );
  });

  it('that claims terabytes is refused without allocating them', async () => {
    const claims = [
      file({ a: { dtype: 'F32', shape: [2 ** 40], data_offsets: [0, 2 ** 42] } }, 8),
      Buffer.from('00e1f505000000007b7d', 'hex'), // a header of 100 000 000 bytes, of which two are there
    ];
    const before = process.memoryUsage().arrayBuffers;
    for (const content of claims) {
      await writeFile(at('x.safetensors'), content);
      await expect(openSafetensors(at('x.safetensors'))).rejects.toThrow(LowbitError);
    }
    expect(process.memoryUsage().arrayBuffers - before).toBeLessThan(10e6);
  });
});
