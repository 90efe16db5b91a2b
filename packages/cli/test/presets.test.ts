// Every recipe of every preset on a toy model: methods take their options, and work together.
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { type BenchRow, buildBuiltIn, cellsOf, isScore, makePlan, presetNames, presetOf } from '@lowbit/bench';
import { describe, expect, it } from 'vitest';
import { commandIn, toyFolder } from './toy-folder.js';

const folder = toyFolder();
const lowbit = commandIn(folder);

describe.each(presetNames)('%s', (preset) => {
  it('is a plan without two recipes of one name', async () => {
    const plan = await makePlan(presetOf(preset), buildBuiltIn);
    expect(new Set(cellsOf(plan).map((cell) => JSON.stringify(cell))).size).toBe(cellsOf(plan).length);
  });
});

const small = ['--model', 'toy', '--text', 'sotu', '--window', '32', '--windows', '2', '--calibration-windows', '16', '--threads', '1'];

// The others have no recipes that are not in these.
describe.each(['methods', 'mix'])('%s', (preset) => {
  it('runs on a toy model', async () => {
    const { code, errors } = await lowbit('bench', '--preset', preset, ...small, '--seeds', '0', '--out', preset, '--quiet');
    // So little text teaches some methods nothing; and one that learns the text itself moves away from the dense model.
    const others = errors
      .split('\n')
      .filter((line) => line !== '' && !/^warning: ((QAT|QUZO|LREC|TUNE)_NO_GAIN|FINETUNE_DIVERGED): /.test(line));
    expect({ code, others }).toEqual({ code: 0, others: [] });
    const lines = (await readFile(join(folder, preset, 'results.jsonl'), 'utf8')).trim().split('\n');
    const rows = lines.map((line) => JSON.parse(line) as BenchRow);
    expect(rows.every(isScore)).toBe(true);
    expect(new Set(rows.map(({ recipe }) => recipe)).size).toBe(1 + presetOf(preset).recipes.length);
  }, 300_000);
});
