// The same run in two processes gives the same bytes: every file of the quantized checkpoint is compared by its digest, the table of its layers
// without the seconds that they took.
import { execFile } from 'node:child_process';
import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { fileSha256 } from '@lowbit/formats';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { root } from './workspace.js';

let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'lowbit-determinism-'));
});
afterAll(() => rm(folder, { recursive: true, force: true }));

const corrected = [
  'gptq:bits=3,groupSize=32,actOrder=true,targets=["**.self_attn.*"]',
  'rtn:bits=4,targets=["**.mlp.*"]',
  'low-rank-correction:rank=2,targets=["**.q_proj"]',
  'lrec:rank=2,maxTokens=512',
  'emef:rank=2,maxTokens=512,batchWindows=2',
];

const rotated = [
  'quad:rank=4,keyValueBits=4',
  'gptq:bits=4,groupSize=-1,symmetric=true',
  'compensate',
  'tune:learningRate=1e-4,maxTokens=256,batchWindows=2,keepBest=false',
  'qat:maxTokens=256,batchWindows=2,keepBest=false',
];

interface RunSettings {
  readonly recipe: readonly string[];
  readonly seed: number;
  readonly windows: number;
  readonly window: number;
}

/** Quantizes the embedded model in a process of its own; digests by file name. */
async function quantize(out: string, { recipe, seed, windows, window }: RunSettings): Promise<Record<string, string>> {
  const text = ['--text', 'sotu', '--windows', String(windows), '--window', String(window), '--seed', String(seed)];
  const arguments_ = [
    'packages/cli/src/bin.ts',
    'quantize',
    'tiny',
    '--recipe',
    recipe.join('+'),
    '--out',
    out,
    '--threads',
    '2',
    '--quiet',
    ...text,
  ];
  await promisify(execFile)(join(root, 'node_modules/.bin/tsx'), arguments_, { cwd: root });
  const files = (await readdir(out)).sort();
  expect(files).toContain(TABLE);
  const digest = (name: string): Promise<string> => (name === TABLE ? withoutSeconds(join(out, name)) : fileSha256(join(out, name)));
  return Object.fromEntries(await Promise.all(files.map(async (name) => [name, await digest(name)] as const)));
}

const TABLE = 'layers.csv';

/** The table as text, without the one column that no two runs share. */
async function withoutSeconds(path: string): Promise<string> {
  const lines = (await readFile(path, 'utf8')).split('\n').map((line) => line.split(','));
  const column = lines[0].indexOf('seconds');
  expect(column).toBeGreaterThan(0);
  return lines.map((cells) => cells.filter((_, i) => i !== column).join(',')).join('\n');
}

it('equal seeds give equal files in two processes, another seed others', async () => {
  const settings = { recipe: corrected, windows: 8, window: 64 };
  const [first, second, other] = [
    await quantize(join(folder, 'a'), { ...settings, seed: 0 }),
    await quantize(join(folder, 'b'), { ...settings, seed: 0 }),
    await quantize(join(folder, 'c'), { ...settings, seed: 1 }),
  ];
  expect(Object.keys(first)).toContain('model.safetensors');
  expect(second).toEqual(first);
  expect(other['model.safetensors']).not.toBe(first['model.safetensors']);
});

it('so do rotations, directions, fitted columns, tuning and QAT', async () => {
  const settings = { recipe: rotated, seed: 0, windows: 4, window: 64 };
  const [first, second] = [await quantize(join(folder, 'd'), settings), await quantize(join(folder, 'e'), settings)];
  expect(Object.keys(first)).toContain('model.safetensors');
  expect(second).toEqual(first);
});
