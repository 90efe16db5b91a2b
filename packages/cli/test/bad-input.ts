// What tests of bad input share: copies of a toy model that something is done to, and what a refusal must be.
import { cp, lstat, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect } from 'vitest';
import { runIn } from './toy-folder.js';

/** Something that is wrong, in a folder with a toy model. */
export interface Case {
  readonly what: string;
  readonly words: readonly string[] | ((folder: string) => Promise<readonly string[]>);
  /** Empty for what commander refuses. */
  readonly code: string;
  /** What the message names. */
  readonly says: RegExp;
  /** What it says to do. */
  readonly remedy: RegExp;
}

export const OUT = 'unwanted';
const small = ['--out', OUT, '--threads', '1', '--text', 'text.txt', '--window', '32', '--windows', '4', '--quiet'];

/** `lowbit quantize` with something else than usual. */
export function quantizing(
  model: string | ((folder: string) => Promise<string>),
  recipe = 'gptq:bits=3,groupSize=16',
  more: readonly string[] = [],
): Case['words'] {
  return async (folder) => ['quantize', typeof model === 'string' ? model : await model(folder), '--recipe', recipe, ...small, ...more];
}

/** Runs it: exit code 2, its code, its message, no stack, nothing on stdout, and every file as it was. */
export async function expectRefusal(folder: string, { words, code, says, remedy }: Case): Promise<void> {
  const given = typeof words === 'function' ? await words(folder) : words;
  const before = await listing(folder);
  const { code: exit, output, errors } = await runIn(folder, given);
  expect({ exit, output }, errors).toEqual({ exit: 2, output: '' });
  if (code !== '') expect(errors).toContain(`lowbit: ${code}: `);
  expect(errors).toMatch(says);
  expect(errors, 'what to do').toMatch(remedy);
  expect(errors, 'a stack is for bugs').not.toMatch(/\n\s+at /);
  expect(await listing(folder)).toEqual(before);
}

/** Every file below a folder with its size and the time of its last change. */
async function listing(folder: string): Promise<string[]> {
  const paths = (await readdir(folder, { recursive: true })).sort();
  return Promise.all(
    paths.map(async (path) => {
      const { size, mtimeMs } = await lstat(join(folder, path));
      return `${path} ${size} ${mtimeMs}`;
    }),
  );
}

export const WEIGHTS = 'model.safetensors';

/** A copy of the toy model that something is done to. */
export function broken(name: string, change: (directory: string) => Promise<unknown>): (folder: string) => Promise<string> {
  return async (folder) => {
    const directory = join(folder, name);
    await rm(directory, { recursive: true, force: true });
    await cp(join(folder, 'toy'), directory, { recursive: true });
    await change(directory);
    return name;
  };
}

/** Members of config.json that are other ones; undefined leaves one out. */
export function withConfig(changes: Readonly<Record<string, unknown>>): (directory: string) => Promise<void> {
  return async (directory) => {
    const path = join(directory, 'config.json');
    const config = JSON.parse(await readFile(path, 'utf8')) as Record<string, unknown>;
    await writeFile(path, JSON.stringify({ ...config, ...changes }));
  };
}

type Header = Record<string, { dtype: string; shape: number[]; data_offsets: [number, number] }>;

/** The header of the weights as something else, the tensors' bytes as they were. */
export function withHeader(change: (header: Header) => unknown): (directory: string) => Promise<void> {
  return async (directory) => {
    const bytes = await readFile(join(directory, WEIGHTS));
    const length = Number(bytes.readBigUInt64LE(0));
    const header = JSON.parse(bytes.toString('utf8', 8, 8 + length)) as Header;
    const changed = change(header);
    const text = Buffer.from(typeof changed === 'string' ? changed : JSON.stringify(header));
    const size = Buffer.alloc(8);
    size.writeBigUInt64LE(BigInt(text.length));
    await writeFile(join(directory, WEIGHTS), Buffer.concat([size, text, bytes.subarray(8 + length)]));
  };
}

export const Q_PROJ = 'model.layers.0.self_attn.q_proj.weight';

/** Bytes of one tensor's first element. */
export function withElement(name: string, element: readonly number[]): (directory: string) => Promise<void> {
  return async (directory) => {
    const bytes = await readFile(join(directory, WEIGHTS));
    const length = Number(bytes.readBigUInt64LE(0));
    const header = JSON.parse(bytes.toString('utf8', 8, 8 + length)) as Header;
    bytes.set(element, 8 + length + header[name].data_offsets[0]);
    await writeFile(join(directory, WEIGHTS), bytes);
  };
}
