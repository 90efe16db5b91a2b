// Whether methods rank as they must on the embedded model: the one test in which everything works together on a trained network.
import { createOnnxBackend } from '@lowbit/backend-onnxruntime';
import { type BenchRow, buildBuiltIn, cellsOf, closedGaps, isScore, makePlan, presetOf, runCells } from '@lowbit/bench';
import type { Backend } from '@lowbit/core';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { root } from './workspace.js';

let backend: Backend;
let rows: BenchRow[];
beforeAll(async () => {
  backend = await createOnnxBackend({ threads: 1 });
  const plan = await makePlan(presetOf('tiny'), buildBuiltIn);
  const cells = cellsOf(plan).filter(({ recipe }) => !['rtn-8', 'gptq-8', 'decoupleq-3'].includes(recipe));
  rows = await runCells(plan, cells, { backend, directory: root, buildRecipe: buildBuiltIn });
}, 600_000);
afterAll(() => backend.dispose());

function perplexity(recipe: string): number {
  const row = rows.find((one) => one.recipe === recipe && one.evaluator === 'perplexity');
  if (!row || !isScore(row)) throw new Error(`no perplexity of ${recipe}`);
  return row.value;
}

describe('ranking on tiny', () => {
  it('every cell gave its scores', () => expect(rows.filter((row) => !isScore(row))).toEqual([]));

  it('dense is no worse than gptq at 4 bits, and that better than rtn', () => {
    expect(perplexity('dense')).toBeLessThanOrEqual(perplexity('gptq-4'));
    expect(perplexity('gptq-4')).toBeLessThan(perplexity('rtn-4'));
  });

  it('gptq wins back a good part of the loss that rtn adds', () => {
    const share = (bits: number): number => closedGaps(rows, 'gptq', 'rtn').find((gap) => gap.bits === bits)?.share ?? Number.NaN;
    expect(share(3)).toBeGreaterThanOrEqual(0.3);
    expect(share(2)).toBeGreaterThanOrEqual(0.4);
  });

  it('at 2 bits decoupleQ is better than gptq with adapters, and that better than gptq alone', () => {
    expect(perplexity('decoupleq-2')).toBeLessThan(perplexity('gptq-2+lrec'));
    expect(perplexity('gptq-2+lrec')).toBeLessThan(perplexity('gptq-2'));
  });
});
