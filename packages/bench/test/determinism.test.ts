// Two runs of one plan give equal rows, whatever order their cells run in.
import { createOnnxBackend } from '@lowbit/backend-onnxruntime';
import type { Backend } from '@lowbit/core';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { buildBuiltIn } from '../src/built-in.js';
import { cellName } from '../src/outcome.js';
import { type BenchPlan, cellsOf, makePlan } from '../src/plan.js';
import { presetOf } from '../src/presets.js';
import type { BenchRow } from '../src/row.js';
import { openPlan, runCells } from '../src/run.js';

let backend: Backend;
let plan: BenchPlan;
beforeAll(async () => {
  backend = await createOnnxBackend({ threads: 1 });
  const { recipes, ...demo } = presetOf('demo');
  // Rounding, trained adapters, and a rotation that is drawn.
  const some = recipes.filter(({ name }) => ['rtn-2', 'gptq-2+lrec', 'rotate-w4a4'].includes(name));
  plan = await makePlan(
    { ...demo, recipes: some, calibration: { windows: 8, window: 64 }, heldOut: { windows: 2, window: 64 } },
    buildBuiltIn,
  );
}, 60_000);
afterAll(() => backend.dispose());

/** Without what the clock and the memory of the moment say. */
function lasting(row: BenchRow): object {
  const { seconds: _, peakRssMiB: __, ...rest } = row;
  return { ...rest, evaluateSeconds: undefined };
}

describe('runCells', () => {
  it('gives equal rows for equal plans, in one run or cell by cell, in any order', async () => {
    const context = { backend, directory: process.cwd(), buildRecipe: buildBuiltIn };
    const whole = await runCells(plan, cellsOf(plan), context);
    expect(whole.map(({ recipe }) => recipe)).toContain('gptq-2+lrec');
    expect(whole.filter(({ value }) => value === null)).toEqual([]);
    const bench = await openPlan(plan, context);
    const apart: BenchRow[] = [];
    for (const cell of cellsOf(plan).reverse()) apart.push(...(await bench.run([cell])));
    const of = (rows: readonly BenchRow[], name: string): object[] => rows.filter((row) => cellName(row) === name).map(lasting);
    for (const name of cellsOf(plan).map(cellName)) expect(of(apart, name)).toEqual(of(whole, name));
  }, 300_000);

  it('refuses methods of another version than the plan was made with', async () => {
    const [first, ...others] = plan.recipes;
    const recipes = [{ ...first, steps: first.steps.map((step) => ({ ...step, version: 99 })) }, ...others];
    const run = runCells({ ...plan, recipes }, cellsOf(plan), { backend, directory: '.', buildRecipe: buildBuiltIn });
    await expect(run).rejects.toMatchObject({ code: 'METHOD_VERSION', message: expect.stringContaining('rtn-2: step 1') as string });
  });
});
