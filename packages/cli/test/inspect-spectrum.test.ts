// lowbit inspect --spectrum: what it prints and writes, and that its options mean nothing elsewhere.
import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { commandIn, toyFolder } from './toy-folder.js';

const folder = toyFolder('All that glitters is not gold; often have you heard that told.\n'.repeat(20));
const inspect = commandIn(folder, 'inspect');

const small = ['--spectrum', '--text', 'text.txt', '--windows', '2', '--window', '16', '--threads', '1'];

interface Summary {
  readonly basis: string;
  readonly min: number;
  readonly max: number;
  readonly p1: number;
  readonly p99: number;
}

describe('inspect --spectrum', () => {
  it('finds the outliers of tiny-outliers gone after a rotation, and more after a decomposition; equally for equal seeds', async () => {
    const words = ['tiny-outliers', '--spectrum', '--windows', '2', '--window', '64', '--threads', '1', '--json', '--quiet'];
    const outcome = await inspect(...words);
    expect(outcome).toMatchObject({ code: 0, errors: '' });
    const { inputs, ...record } = JSON.parse(outcome.output) as { inputs: Summary[]; tokens: number; rank: number };
    expect(record).toMatchObject({ model: 'tiny-outliers', width: 192, tokens: 128, rank: 12, seed: 0 });
    expect(inputs).toHaveLength(18);
    for (let at = 0; at < inputs.length; at += 3) {
      const [raw, rotated, decomposed] = inputs.slice(at, at + 3);
      expect([raw.basis, rotated.basis, decomposed.basis]).toEqual(['raw', 'rotated', 'decomposed']);
      expect(rotated.max - rotated.min).toBeLessThan(raw.max - raw.min);
      expect(decomposed.max - decomposed.min).toBeLessThan(rotated.max - rotated.min);
      expect(decomposed.p99 - decomposed.p1).toBeLessThan(rotated.p99 - rotated.p1);
    }
    expect((await inspect(...words)).output).toBe(outcome.output);
  });

  it('prints tables, and writes figures and the values of every channel', async () => {
    const outcome = await inspect('toy', ...small, '--rank', '3', '--out', 'spectrum');
    expect(outcome.code).toBe(0);
    expect(outcome.output).toContain('residual stream of width 32, 32 tokens');
    expect(outcome.output).toMatch(/^ +3 +\d+\.\d % +\d+\.\d %$/m);
    expect(outcome.output).toMatch(/model\.layers\.1 gate_proj, up_proj +min +p1 +p25 +p75 +p99 +max\n +raw +-\d/);
    expect(outcome.errors).toContain('activations on text.txt');
    const out = join(folder, 'spectrum');
    expect((await readdir(out)).sort()).toEqual(['energy.svg', 'inputs.svg', 'spectrum.json']);
    expect(await readFile(join(out, 'inputs.svg'), 'utf8')).toContain('decomposed and rotated');
    expect(await readFile(join(out, 'energy.svg'), 'utf8')).toMatch(/^<svg[\s\S]*what norms give/);
    const { inputs, energy } = JSON.parse(await readFile(join(out, 'spectrum.json'), 'utf8')) as {
      inputs: { basis: string; bands: Record<string, number[]> }[];
      energy: { rank: number }[];
    };
    expect(energy.map(({ rank }) => rank)).toEqual([1, 2, 3, 4, 8, 16, 32]);
    expect(inputs.map(({ bands }) => bands.p75.length).slice(0, 3)).toEqual([32, 32, 35]);
    expect(await inspect('toy', ...small, '--out', 'spectrum')).toMatchObject({
      code: 2,
      errors: expect.stringContaining('OUTPUT_EXISTS') as string,
    });
  });

  it.each([
    [['toy', '--windows', '2'], 'INSPECT_OPTIONS: --windows is about activations; add --spectrum'],
    [['toy', '--json', '--out', 'x'], 'INSPECT_OPTIONS: --out'],
    [['toy', ...small, '--rank', '33', '--out', 'refused'], 'SPECTRUM_RANK'],
    [['toy', '--spectrum', '--text', 'absent.txt', '--rank', '33'], 'SPECTRUM_RANK'],
    [['toy', ...small, '--window', '65'], 'WINDOW_CONTEXT'],
  ])('%j is bad input', async (words, message) => {
    const outcome = await inspect(...words);
    expect(outcome.errors).toContain(message);
    expect(outcome).toMatchObject({ code: 2, output: '' });
    expect(await readdir(folder)).not.toContain('refused');
  });
});
