// Reading and writing safetensors: every type, laziness, streaming, alignment and atomicity.
import { readdir, readFile, stat, truncate, utimes, writeFile } from 'node:fs/promises';
import { bfloat16FromBits, float16FromBits, lazyTensor, read, tensor } from '@lowbit/core';
import { describe, expect, it } from 'vitest';
import { openSafetensors, type StoredTensor, storedTensor, writeSafetensors } from '../src/index.js';
import { temporaryDirectory } from './temporary-directory.js';

const at = temporaryDirectory();

/** A file put together by hand, as the format's description says. */
function file(header: unknown, data: Uint8Array = new Uint8Array()): Uint8Array {
  const json = Buffer.from(typeof header === 'string' ? header : JSON.stringify(header));
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(json.length));
  return Buffer.concat([length, json, data]);
}

const bytes = (name: string, content: number[]): StoredTensor => ({
  name,
  shape: [content.length],
  dtype: 'U8',
  bytes: async () => Uint8Array.from(content),
});

describe('reading', () => {
  it('reads a file written by hand, whatever its alignment', async () => {
    const data = Buffer.alloc(4 + 3 + 8 + 8);
    data.writeUInt16LE(0x3c00, 0); // 1 in float16
    data.writeUInt16LE(0xc0a0, 2); // −5 in bfloat16
    data.set([1, 0, 1], 4);
    data.writeBigInt64LE(-7n, 7);
    data.writeFloatLE(0.25, 15);
    data.writeFloatLE(-1e30, 19);
    await writeFile(
      at('x.safetensors'),
      file(
        {
          half: { dtype: 'F16', shape: [1], data_offsets: [0, 2] },
          brain: { dtype: 'BF16', shape: [1, 1], data_offsets: [2, 4] },
          flags: { dtype: 'BOOL', shape: [3], data_offsets: [4, 7] },
          long: { dtype: 'I64', shape: [], data_offsets: [7, 15] },
          float: { dtype: 'F32', shape: [2], data_offsets: [15, 23] },
          empty: { dtype: 'F32', shape: [0, 4], data_offsets: [23, 23] },
          __metadata__: { format: 'pt' },
        },
        data,
      ),
    );
    const opened = await openSafetensors(at('x.safetensors'));
    expect(opened.metadata).toEqual(new Map([['format', 'pt']]));
    expect(await read(opened.tensor('half'))).toEqual(Float32Array.of(1));
    expect(await read(opened.tensor('brain'))).toEqual(Float32Array.of(-5));
    expect(await read(opened.tensor('flags'))).toEqual(Uint8Array.of(1, 0, 1));
    expect(opened.tensor('flags').dtype).toBe('bool');
    expect(await read(opened.tensor('long'))).toEqual(Int32Array.of(-7));
    expect(opened.tensor('long').shape).toEqual([]);
    expect(await read(opened.tensor('float'))).toEqual(Float32Array.of(0.25, -1e30));
    expect(await read(opened.tensor('empty'))).toEqual(new Float32Array());
    expect(() => opened.tensor('brian')).toThrow(/^TENSOR_MISSING: .*x\.safetensors: has no tensor 'brian'; it has half, brain, flags/);
  });

  it.skipIf(process.platform === 'win32')('reads only the bytes of the tensor that is touched', async () => {
    // A sparse file: 8 GB of zeros that nobody could read in a test, and four bytes at its end.
    const hole = 8 * 2 ** 30;
    await writeFile(
      at('x.safetensors'),
      file({
        big: { dtype: 'U8', shape: [hole], data_offsets: [0, hole] },
        end: { dtype: 'I32', shape: [1], data_offsets: [hole, hole + 4] },
      }),
    );
    await truncate(at('x.safetensors'), (await stat(at('x.safetensors'))).size + hole + 4);
    expect(await read((await openSafetensors(at('x.safetensors'))).tensor('end'))).toEqual(Int32Array.of(0));
  });

  it('refuses int64 that int32 does not hold, and booleans that are neither', async () => {
    const data = Buffer.alloc(17);
    data.writeBigInt64LE(2n ** 31n, 8);
    data[16] = 2;
    await writeFile(
      at('x.safetensors'),
      file({ ids: { dtype: 'I64', shape: [2], data_offsets: [0, 16] }, mask: { dtype: 'BOOL', shape: [1], data_offsets: [16, 17] } }, data),
    );
    const opened = await openSafetensors(at('x.safetensors'));
    await expect(read(opened.tensor('ids'))).rejects.toThrow(
      /TENSOR_VALUE: .*x\.safetensors: tensor 'ids': element 1 is 2147483648, outside the int32 range/,
    );
    await expect(read(opened.tensor('mask'))).rejects.toThrow(/TENSOR_VALUE: .*tensor 'mask': element 0 of a boolean tensor is 2/);
  });

  it('opens files with types it cannot compute with, and refuses those tensors alone', async () => {
    await writeFile(
      at('x.safetensors'),
      file(
        { a: { dtype: 'F64', shape: [1], data_offsets: [0, 8] }, b: { dtype: 'U8', shape: [1], data_offsets: [8, 9] } },
        new Uint8Array(9),
      ),
    );
    const opened = await openSafetensors(at('x.safetensors'));
    expect(() => opened.tensor('a')).toThrow(/SAFETENSORS_DTYPE: .*tensor 'a' has dtype F64; readable are F32/);
    expect(await read(opened.tensor('b'))).toEqual(Uint8Array.of(0));
  });

  it('notices that the file was replaced after it had been opened', async () => {
    await writeSafetensors(at('x.safetensors'), [bytes('a', [1, 2])]);
    const a = (await openSafetensors(at('x.safetensors'))).tensor('a');
    expect(await read(a)).toEqual(Uint8Array.of(1, 2));
    await writeSafetensors(at('x.safetensors'), [bytes('a', [3, 4])]);
    await expect(read(a)).rejects.toThrow(/FILE_CHANGED: .*x\.safetensors: was changed after it had been opened/);
    const again = (await openSafetensors(at('x.safetensors'))).tensor('a');
    await utimes(at('x.safetensors'), 0, 0);
    await expect(read(again)).rejects.toThrow(/FILE_CHANGED/);
  });

  it('says what is wrong with a path', async () => {
    await expect(openSafetensors(at('none.safetensors'))).rejects.toThrow(
      /^FILE_MISSING: .*none\.safetensors: could not read: no such file/,
    );
    await expect(openSafetensors(at())).rejects.toThrow(/^FILE_KIND/);
  });
});

describe('header checks', () => {
  const u8 = (start: number, end: number, shape = [end - start]) => ({ dtype: 'U8', shape, data_offsets: [start, end] });
  const deep = `{"a":${'['.repeat(20_000)}${']'.repeat(20_000)}}`;
  const cases: [what: string, content: Uint8Array, message: RegExp][] = [
    ['an empty file', new Uint8Array(), /SAFETENSORS_HEADER: .*has 0 bytes, too few/],
    ['half a length', new Uint8Array(5), /SAFETENSORS_HEADER: .*has 5 bytes, too few/],
    ['a header of no bytes', file(''), /SAFETENSORS_HEADER: .*claims 0 bytes, outside 2 to 100000000/],
    ['an absurd length', Buffer.from('ffffffffffffffff7b7d', 'hex'), /SAFETENSORS_HEADER: .*claims 18446744073709552000 bytes/],
    ['a length past the end', file('{}').subarray(0, 9), /SAFETENSORS_HEADER: .*claims 2 bytes and the file has 9; it is truncated/],
    ['no JSON object', file('[1]'), /SAFETENSORS_HEADER: .*not a JSON object/],
    ['a byte order mark', file('\ufeff{}'), /SAFETENSORS_HEADER: .*not a JSON object/],
    ['bytes that are not UTF-8', file('{}').fill(0xff, 8), /SAFETENSORS_HEADER: .*not a JSON object in UTF-8/],
    ['broken JSON', file('{"a":'), /SAFETENSORS_HEADER: .*not JSON/],
    ['metadata of another shape', file({ __metadata__: [] }), /SAFETENSORS_HEADER: .*__metadata__ must be an object/],
    ['metadata with a number', file({ __metadata__: { n: 1 } }), /SAFETENSORS_HEADER: .*__metadata__ 'n' must be a string/],
    ['an entry that is no object', file({ a: 3 }), /SAFETENSORS_TENSOR: .*tensor "a" must be an object/],
    [
      'an unknown dtype',
      file({ a: { ...u8(0, 1), dtype: 'Q4' } }, new Uint8Array(1)),
      /SAFETENSORS_TENSOR: .*tensor "a" has dtype "Q4"; known are BOOL/,
    ],
    ['no dtype', file({ a: { shape: [], data_offsets: [0, 1] } }, new Uint8Array(1)), /has dtype none; known are/],
    [
      'a negative dimension',
      file({ a: u8(0, 1, [-1]) }, new Uint8Array(1)),
      /has shape \[-1\], which is not a list of non-negative integers/,
    ],
    ['a fractional dimension', file({ a: u8(0, 1, [0.5, 2]) }, new Uint8Array(1)), /has shape \[0\.5, 2\]/],
    ['a dimension in words', file('{"a":{"dtype":"U8","shape":["1"],"data_offsets":[0,1]}}', new Uint8Array(1)), /has shape \["1"\]/],
    ['a deep shape', file(`{"a":{"dtype":"U8","shape":${deep.slice(5, -1)},"data_offsets":[0,1]}}`, new Uint8Array(1)), /has shape \[…\]/],
    ['a deep entry', file(deep), /must be an object with dtype/],
    ['an overflowing shape', file({ a: u8(0, 1, [2 ** 40, 2 ** 40]) }, new Uint8Array(1)), /too large/],
    ['an overflow behind a zero', file({ a: u8(0, 0, [2 ** 40, 2 ** 40, 0]) }), /too large/],
    [
      'a shape that is larger than its bytes',
      file({ a: u8(0, 2, [3]) }, new Uint8Array(2)),
      /shape \[3\] and dtype U8 takes 3 bytes; its data_offsets span 2/,
    ],
    ['offsets that run backwards', file({ a: u8(2, 1, [0]) }, new Uint8Array(2)), /claims bytes 2 to 1/],
    ['one offset', file({ a: { ...u8(0, 1), data_offsets: [0] } }, new Uint8Array(1)), /data_offsets \[0\], which are not two/],
    ['offsets past the end', file({ a: u8(0, 9) }, new Uint8Array(8)), /claims bytes 0 to 9 of 8 bytes of data; the file is truncated/],
    [
      'an overlap',
      file({ a: u8(0, 4), b: u8(3, 5) }, new Uint8Array(5)),
      /tensor "b" begins at byte 3, inside the tensor before it, which ends at 4/,
    ],
    ['a hole', file({ a: u8(0, 4), b: u8(5, 6) }, new Uint8Array(6)), /tensor "b" begins at byte 5, leaving a hole after byte 4/],
    ['a hole at the start', file({ a: u8(1, 2) }, new Uint8Array(2)), /leaving a hole after byte 0/],
    ['bytes behind the last tensor', file({ a: u8(0, 4) }, new Uint8Array(6)), /SAFETENSORS_HEADER: .*tensors take 4 bytes and 6 follow/],
    [
      'a name twice',
      file('{"a":{"dtype":"U8","shape":[0],"data_offsets":[0,0]},"\\u0061":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}}'),
      /has 'a' twice/,
    ],
    ['a field twice', file('{"a":{"dtype":"U8","dtype":"I8","shape":[0],"data_offsets":[0,0]}}'), /has 'dtype' twice/],
  ];
  it.each(cases)('refuses %s', async (_, content, message) => {
    await writeFile(at('x.safetensors'), content);
    await expect(openSafetensors(at('x.safetensors'))).rejects.toThrow(message);
  });

  it('is not confused by names that look like syntax or like object members', async () => {
    const names = ['{"', '\\', '":', '[', '__proto__', 'constructor', '', '1', '▁é'];
    await writeSafetensors(
      at('x.safetensors'),
      names.map((name, i) => bytes(name, [i])),
    );
    const opened = await openSafetensors(at('x.safetensors'));
    for (const [i, name] of names.entries()) expect(await read(opened.tensor(name))).toEqual(Uint8Array.of(i));
  });
});

describe('writing', () => {
  it('round trips every type bit for bit', async () => {
    const patterns = Uint16Array.from({ length: 65536 }, (_, i) => i);
    const half = Float32Array.from(patterns, float16FromBits);
    const brain = Float32Array.from(patterns, bfloat16FromBits);
    const values = {
      f32: tensor(Float32Array.of(1, -0, Infinity, 1e-45), [2, 2]),
      i32: tensor(Int32Array.of(-(2 ** 31), 2 ** 31 - 1)),
      i8: tensor(Int8Array.of(-128, 127, 0)),
      u8: tensor(Uint8Array.of(0, 255)),
      bool: tensor([0, 1, 1], [3, 1], 'bool'),
      scalar: tensor(3.5),
    };
    await writeSafetensors(at('x.safetensors'), [
      ...Object.entries(values).map(([name, t]) => storedTensor(name, t)),
      storedTensor('half', tensor(half), 'F16'),
      storedTensor('brain', tensor(brain), 'BF16'),
      storedTensor('i64', values.i32, 'I64'),
    ]);
    const opened = await openSafetensors(at('x.safetensors'));
    for (const [name, t] of Object.entries(values)) {
      const back = opened.tensor(name);
      expect([back.shape, back.dtype, await read(back)]).toEqual([t.shape, t.dtype, await read(t)]);
    }
    expect(await read(opened.tensor('half'))).toEqual(half);
    expect(await read(opened.tensor('brain'))).toEqual(brain);
    expect(await read(opened.tensor('i64'))).toEqual(await read(values.i32));
  });

  it('starts the data at a multiple of 8 and aligns every tensor to its element', async () => {
    await writeSafetensors(
      at('x.safetensors'),
      [bytes('a', [1, 2, 3]), storedTensor('b', tensor([1, 2])), storedTensor('c', tensor([1]), 'F16')],
      { metadata: { z: '1', a: '2' } },
    );
    const content = await readFile(at('x.safetensors'));
    const length = Number(content.readBigUInt64LE());
    expect(length % 8).toBe(0);
    expect(
      content
        .subarray(8, 8 + length)
        .toString()
        .trimEnd(),
    ).toBe(
      '{"__metadata__":{"a":"2","z":"1"},"b":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},' +
        '"c":{"dtype":"F16","shape":[1],"data_offsets":[8,10]},"a":{"dtype":"U8","shape":[3],"data_offsets":[10,13]}}',
    );
  });

  it('gives equal bytes whatever order the tensors come in', async () => {
    const tensors = [bytes('b', [1]), bytes('a', [2]), storedTensor('c', tensor([1]))];
    await writeSafetensors(at('1'), tensors);
    await writeSafetensors(at('2'), tensors.toReversed());
    expect(await readFile(at('1'))).toEqual(await readFile(at('2')));
  });

  it('asks for one tensor at a time, in the order of the file', async () => {
    let held = 0;
    const asked: string[] = [];
    const tensors = ['b', 'a', 'c'].map(
      (name): StoredTensor => ({
        ...bytes(name, [0]),
        bytes: async () => {
          expect(held++).toBe(0);
          asked.push(name);
          await new Promise(setImmediate);
          held--;
          return Uint8Array.of(0);
        },
      }),
    );
    const progress: string[] = [];
    await writeSafetensors(at('x.safetensors'), tensors, { progress: (done, total) => progress.push(`${done}/${total}`) });
    expect(asked).toEqual(['a', 'b', 'c']);
    expect(progress).toEqual(['1/3', '2/3', '3/3']);
  });

  it('leaves the old file, and nothing else, when a tensor fails midway', async () => {
    await writeSafetensors(at('x.safetensors'), [bytes('a', [1])]);
    const before = await readFile(at('x.safetensors'));
    const broken = lazyTensor([1], 'uint8', () => {
      throw new Error('gone');
    });
    await expect(writeSafetensors(at('x.safetensors'), [bytes('a', [1]), storedTensor('b', broken)])).rejects.toThrow('gone');
    await expect(writeSafetensors(at('x.safetensors'), [{ ...bytes('a', [1]), shape: [2] }])).rejects.toThrow(
      /TENSOR_LOAD: .*tensor 'a' gave 1 bytes where its shape takes 2/,
    );
    expect(await readFile(at('x.safetensors'))).toEqual(before);
    expect(await readdir(at())).toEqual(['x.safetensors']);
  });

  it('refuses names that would not come back, and types that do not fit', async () => {
    await expect(writeSafetensors(at('x'), [bytes('a', [1]), bytes('a', [1])])).rejects.toThrow(/TENSOR_NAME: .*'a' occurs twice/);
    await expect(writeSafetensors(at('x'), [bytes('__metadata__', [1])])).rejects.toThrow(/TENSOR_NAME: .*reserved/);
    expect(() => storedTensor('a', tensor([1]), 'I8')).toThrow(/DTYPE: a: float32 cannot be stored as I8/);
    expect(await readdir(at())).toEqual([]);
  });

  it('removes what a killed process left, and not what a running one writes', async () => {
    await writeFile(at('x.safetensors.4194304-00000000.tmp'), 'half'); // beyond the largest process id
    await writeFile(at(`x.safetensors.${process.ppid}-00000000.tmp`), 'half');
    await writeFile(at('y.safetensors.4194304-00000000.tmp'), 'half');
    await writeSafetensors(at('x.safetensors'), [bytes('a', [1])]);
    expect(await readdir(at())).toEqual(
      [`x.safetensors.${process.ppid}-00000000.tmp`, 'x.safetensors', 'y.safetensors.4194304-00000000.tmp'].sort(),
    );
  });
});
