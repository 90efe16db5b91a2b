import { fileURLToPath } from 'node:url';
import { beforeAll, describe, expect, it } from 'vitest';
import { commandIn, toyFolder } from './toy-folder.js';

const folder = toyFolder();
const lowbit = commandIn(folder);
const text = ['--threads', '1', '--text', 'text.txt', '--window', '32', '--windows', '8'];

beforeAll(async () => {
  const recipe = fileURLToPath(new URL('recipes/rounded-inputs.ts', import.meta.url));
  const { code, errors } = await lowbit('quantize', 'toy', '--recipe', recipe, '--out', 'rounded', ...text);
  expect(code, errors).toBe(0);
});

describe('--execution integer', () => {
  it('scores a model as the simulated execution does, and says which layers run in integers', async () => {
    const words = ['eval', 'rounded', '--reference', 'toy', ...text, '--json'];
    const [simulated, integer] = [await lowbit(...words), await lowbit(...words, '--execution', 'integer')];
    expect(integer.errors).toContain(
      '12 of 15 layers run in integers; simulated: model.layers.0.mlp.down_proj and 1 more (its weight has a scale for every 16 inputs',
    );
    expect(integer.errors).toContain("lm_head (its input is not quantized (kind 'dense'))");
    expect(simulated.errors).not.toContain('in integers');
    const scoresOf = ({ output }: { output: string }): { evaluator: string; value: number; execution: string }[] =>
      output
        .trim()
        .split('\n')
        .map((line) => JSON.parse(line));
    const [before, after] = [scoresOf(simulated), scoresOf(integer)];
    expect(after.map(({ evaluator }) => evaluator)).toEqual(before.map(({ evaluator }) => evaluator));
    after.forEach(({ value, execution }, i) => {
      expect([before[i].execution, execution]).toEqual(['simulated', 'integer']);
      // A sum on the edge between two codes of a later layer may fall to the other side.
      expect(Math.abs(value - before[i].value)).toBeLessThan(1e-3 * (1 + Math.abs(before[i].value)));
    });
  });

  it('generates', async () => {
    const words = ['generate', 'rounded', '--prompt', 'The ', '--tokens', '6', '--json', '--threads', '1'];
    const { code, output, errors } = await lowbit(...words, '--execution', 'integer');
    expect(code).toBe(0);
    expect(errors).toContain('12 of 15 layers run in integers');
    expect(JSON.parse(output)).toMatchObject({ tokens: 6, execution: 'integer' });
  });

  it.each([
    ['eval', 'toy', ...text],
    ['generate', 'toy'],
  ])('refuses a model without a layer for it: %s', async (...words) => {
    const { code, output, errors } = await lowbit(...words, '--execution', 'integer');
    expect({ code, output }).toEqual({ code: 2, output: '' });
    expect(errors).toMatch(/EXECUTION_INTEGER: toy: no layer can run in integers: .*q_proj and 14 more \(its input is not quantized/);
    expect(errors).toContain('or use --execution simulated');
  });
});
