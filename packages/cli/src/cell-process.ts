// Run as a process by lowbit bench --workers and lowbit bench-worker: runs cells of plans, one at a time, in its working directory.
import { isDeepStrictEqual } from 'node:util';
import {
  type Benchmark,
  type BenchPlan,
  type CellResult,
  checkPlanFiles,
  openPlan,
  type PlanEngine,
  planDigest,
  serveTasks,
} from '@lowbit/bench';
import { type Backend, LowbitError } from '@lowbit/core';
import { type HubOptions, hubSettings } from '@lowbit/hub';
import { openBackend } from './arguments.js';
import type { CellProcessOptions, CellWork } from './bench-cells.js';
import { buildRecipe } from './recipe.js';

const directory = process.cwd();
const options = JSON.parse(process.argv[2]) as CellProcessOptions;
const hub: HubOptions = {
  get settings() {
    const settings = hubSettings();
    return { ...settings, isOffline: settings.isOffline || options.isOffline };
  },
};

let open: { readonly engine: PlanEngine; readonly backend: Backend } | undefined;
/** Cells of one plan come together: its model and texts stay prepared. */
let last: { readonly digest: string; readonly bench: Benchmark; readonly checked: Set<string> } | undefined;

async function backendOf(engine: PlanEngine): Promise<Backend> {
  if (!open || !isDeepStrictEqual(open.engine, engine)) {
    await open?.backend.dispose();
    open = undefined;
    open = { engine, backend: await openBackend(engine) };
  }
  return open.backend;
}

async function opened(plan: BenchPlan): Promise<NonNullable<typeof last>> {
  const digest = planDigest(plan);
  if (last?.digest === digest) return last;
  last = undefined;
  const backend = await backendOf(plan.engine ?? options.engine);
  const bench = await openPlan(plan, { backend, directory, hub, buildRecipe: (recipe) => buildRecipe(recipe, directory) });
  last = { digest, bench, checked: new Set() };
  return last;
}

serveTasks<CellWork, CellResult>({
  open: () => backendOf(options.engine),
  async run({ plan, cell }) {
    const { bench, checked } = await opened(plan);
    if (options.isElsewhere && !checked.has(cell.model)) await checkPlanFiles(plan, cell.model, directory);
    checked.add(cell.model);
    const results: CellResult[] = [];
    await bench.run([cell], { onCell: ({ model, recipe, seed, rows, logs }) => void results.push({ model, recipe, seed, rows, logs }) });
    const [result] = results;
    if (!result) throw new LowbitError('CELL_UNKNOWN', `${cell.model} ${cell.recipe}, seed ${cell.seed}: is not in the plan it came with`);
    return result;
  },
});
