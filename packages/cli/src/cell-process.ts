// Run as a process by lowbit bench --workers and lowbit bench-worker: runs cells of plans, one at a time, in its working directory.
import { type Benchmark, type CellResult, openPlan, planDigest, serveTasks } from '@lowbit/bench';
import { LowbitError } from '@lowbit/core';
import { type EngineArguments, openBackend } from './arguments.js';
import type { CellWork } from './bench-cells.js';
import { buildRecipe } from './recipe.js';

const directory = process.cwd();
const engine = openBackend(JSON.parse(process.argv[2]) as EngineArguments);
/** Cells of one plan come together: its model and texts stay prepared. */
let last: { readonly digest: string; readonly bench: Benchmark } | undefined;

serveTasks<CellWork, CellResult>(async ({ plan, cell }) => {
  const digest = planDigest(plan);
  if (last?.digest !== digest) {
    const bench = await openPlan(plan, { backend: await engine, directory, buildRecipe: (recipe) => buildRecipe(recipe, directory) });
    last = { digest, bench };
  }
  const results: CellResult[] = [];
  await last.bench.run([cell], { onCell: ({ model, recipe, seed, rows, logs }) => void results.push({ model, recipe, seed, rows, logs }) });
  const [result] = results;
  if (!result) throw new LowbitError('CELL_UNKNOWN', `${cell.model} ${cell.recipe}, seed ${cell.seed}: is not in the plan it came with`);
  return result;
});
