// A model with a widened stream through the commands: quantized in one, inspected, judged and generated from in the next.
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { runIn, toyFolder } from './toy-folder.js';

const folder = toyFolder();

async function lowbit(...words: readonly string[]): Promise<string> {
  const { code, output, errors } = await runIn(folder, words);
  expect(code, errors).toBe(0);
  return output;
}

const small = ['--threads', '1', '--text', 'text.txt', '--window', '32', '--windows', '8'];

describe('a model of quad', () => {
  it('is saved, inspected, judged against the dense model and generated from', async () => {
    const recipe = 'quad:rank=4,keyValueBits=8+rtn:bits=4,groupSize=-1';
    const made = JSON.parse(await lowbit('quantize', 'toy', '--recipe', recipe, '--out', 'quad', ...small, '--json')) as {
      bitsPerWeight: number;
    };
    const { lowbit: section } = JSON.parse(await readFile(join(folder, 'quad', 'config.json'), 'utf8')) as { lowbit: object };
    expect(section).toMatchObject({ formatVersion: 2, residualWidth: 36, keyValues: { 'model.layers.1': { bits: 8 } } });

    const inspected = JSON.parse(await lowbit('inspect', 'quad', '--json')) as { config: object; bitsPerWeight: number };
    expect(inspected.config).toMatchObject({ hiddenSize: 32, residualWidth: 36, tiedEmbeddings: false });
    // Of the weights before the stream was widened, whether or not the dense model is at hand.
    expect(inspected.bitsPerWeight).toBeCloseTo(made.bitsPerWeight, 9);
    expect(await lowbit('inspect', 'quad')).toMatch(/keyValues +8 bits, clipRatio [\d.]+[\s\S]*self_attn\.q_proj +2 × split +32 × 36/);

    const judged = await lowbit('eval', 'quad', '--reference', 'toy', '--evaluators', 'text', 'size', ...small, '--json', '--quiet');
    const scores = judged.trim().split('\n');
    const value = (name: string): number =>
      scores.map((line) => JSON.parse(line) as { evaluator: string; value: number }).find(({ evaluator }) => evaluator === name)?.value ??
      NaN;
    expect(value('bits-per-weight')).toBeCloseTo(made.bitsPerWeight, 9);
    expect(value('kl')).toBeGreaterThan(0);
    expect(value('kl')).toBeLessThan(0.5);

    expect(await lowbit('generate', 'quad', '--prompt', 'Line', '--tokens', '4', '--threads', '1')).toMatch(/Line/);
  });
});
