// A disk that fills up while lowbit quantize is at work: at the first block, later, and while the checkpoint is written.
import { existsSync } from 'node:fs';
import { type FileHandle, open, readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterEach, beforeAll, expect, it, vi } from 'vitest';
import { type Outcome, runIn, toyFolder } from './toy-folder.js';

const folder = toyFolder();
let written: number;
let whole: Buffer[];
beforeAll(async () => {
  written = await withRoomFor(Number.POSITIVE_INFINITY, async (bytes) => {
    expect(await quantize('whole')).toMatchObject({ code: 0 });
    return bytes();
  });
  whole = await weightsOf('whole');
});
afterEach(() => void vi.restoreAllMocks());

/** Files that a program writes, as one disk with so much room: the write that does not fit fails as the system's does. */
async function withRoomFor<T>(room: number, use: (written: () => number) => Promise<T>): Promise<T> {
  const handle = await open(join(folder, 'text.txt'));
  const files = Object.getPrototypeOf(handle) as FileHandle;
  await handle.close();
  const write = files.write as (this: FileHandle, bytes: Uint8Array, offset: number, length: number) => Promise<unknown>;
  let bytes = 0;
  const full = Object.assign(new Error('ENOSPC: no space left on device, write'), { code: 'ENOSPC' });
  const limited = vi.spyOn(files, 'write').mockImplementation(async function (this: FileHandle, ...given: unknown[]) {
    const [data, offset, length] = given as [Uint8Array, number, number];
    if (bytes + length > room) throw full;
    bytes += length;
    return (await write.call(this, data, offset, length)) as Awaited<ReturnType<FileHandle['write']>>;
  });
  try {
    return await use(() => bytes);
  } finally {
    limited.mockRestore();
  }
}

function quantize(out: string, ...more: string[]): Promise<Outcome> {
  const small = ['--threads', '1', '--text', 'text.txt', '--window', '32', '--windows', '4'];
  return runIn(folder, ['quantize', 'toy', '--recipe', 'gptq:bits=3,groupSize=16', '--out', out, ...small, ...more]);
}

async function weightsOf(out: string): Promise<Buffer[]> {
  return Promise.all(['model.safetensors', 'config.json'].map((name) => readFile(join(folder, out, name))));
}

it.each([
  ['at the first block', 0, false],
  ['at a later one', 0.5, true],
  ['while the checkpoint is written', 0.98, true],
])('%s: DISK_FULL with exit code 2 and nothing at the output; with room the run goes on', async (_when, share, isKept) => {
  const out = `full-${share}`;
  const before = (await readdir(folder)).sort();
  const { code, errors } = await withRoomFor(share * written, () => quantize(out));
  expect([code, errors]).toEqual([
    2,
    expect.stringMatching(/^lowbit: DISK_FULL: .*could not write: no space is left on the disk; free some/m),
  ]);
  expect(errors.includes(`${out}.partial: could not`) || errors.includes(`${out}.partial/`)).toBe(share < 0.9);
  expect(existsSync(join(folder, out))).toBe(false);
  expect((await readdir(folder)).sort()).toEqual([...before, ...(isKept ? [`${out}.partial`] : [])].sort());
  expect(errors.includes('the same command with --resume goes on')).toBe(isKept);

  expect(await quantize(out, '--resume')).toMatchObject({ code: 0 });
  expect(await weightsOf(out)).toEqual(whole);
  expect(existsSync(join(folder, `${out}.partial`))).toBe(false);
});
