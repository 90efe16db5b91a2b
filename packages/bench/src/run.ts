// The benchmark: models × recipes × seeds, each judged by every evaluator on the same held-out text.
import { type Backend, LowbitError, type Recipe, type SampleRequest } from '@lowbit/core';
import type { HubOptions } from '@lowbit/hub';
import { describeError, rethrowAbort } from './failure.js';
import { modelName, resolveModel } from './model-reference.js';
import { type BenchCell, cellName, DENSE, type RunHooks } from './outcome.js';
import { type BenchPlan, type BenchRecipe, cellsOf } from './plan.js';
import { type PreparedModel, type Protocol, prepareModel } from './prepared-model.js';
import { provenanceOf } from './provenance.js';
import { lostCellRows } from './queue/lost-cell.js';
import type { NamedRecipe } from './recipe.js';
import type { BenchRow } from './row.js';
import { runCell } from './run-cell.js';

/** What decides the numbers, ready to run. */
interface BenchSetup extends Protocol {
  readonly backend: Backend;
  /** References as `resolveModel` takes them. */
  readonly models: readonly string[];
  /** The dense model is judged as well, without being named. */
  readonly recipes: readonly NamedRecipe[];
  readonly seeds: readonly number[];
  /** Text that every model writes once it has been judged. */
  readonly samples?: SampleRequest | undefined;
  /** Relative model directories are resolved from here. */
  readonly directory: string;
  /** How models, texts and tasks of the hub are opened. */
  readonly hub?: HubOptions | undefined;
}

export interface BenchOptions extends BenchSetup, RunHooks {
  /** Cells that need not run, because what they give is known. */
  readonly isDone?: ((cell: BenchCell) => boolean) | undefined;
}

/** A benchmark that can be asked for cells again and again; the model that was asked for last stays prepared. */
export interface Benchmark {
  /**
   * Runs cells by model, recipe and seed in the order of the setup, and returns their rows. A cell that fails becomes a row with its error,
   * and the others go on; so do all cells of a model whose text or tasks cannot be prepared, once others have been judged.
   * @throws ABORTED when the signal is; MODEL_REFERENCE and other errors of models, text and tasks, before the first cell.
   */
  run(cells: readonly BenchCell[], hooks?: RunHooks): Promise<BenchRow[]>;
}

function openBenchmark(setup: BenchSetup): Benchmark {
  const { backend, samples, evaluators, directory, hub } = setup;
  const provenance = provenanceOf(backend);
  const recipes: readonly NamedRecipe[] = [{ name: DENSE, recipe: [] }, ...setup.recipes];
  let last: PreparedModel | undefined;

  return {
    async run(cells, hooks = {}) {
      const wanted = new Set(cells.map(cellName));
      const all = cellsOf(setup).filter((cell) => wanted.has(cellName(cell)));
      const names = new Set(all.map(({ model }) => model));
      const references = setup.models.filter((reference) => names.has(modelName(reference)));
      // A model that cannot be opened is found out before any other has run.
      const opened = new Map<string, PreparedModel['resolved']>();
      for (const reference of references) {
        const name = modelName(reference);
        opened.set(name, last?.resolved.name === name ? last.resolved : await resolveModel(reference, directory, hub));
      }
      const rows: BenchRow[] = [];
      const unprepared = new Map<string, unknown>();
      const prepare = async (resolved: PreparedModel['resolved']): Promise<PreparedModel | undefined> => {
        if (last?.resolved === resolved) return last;
        if (unprepared.has(resolved.name)) return undefined;
        try {
          return await prepareModel(resolved, backend, setup, hooks);
        } catch (error) {
          rethrowAbort(error, hooks.signal);
          // Nothing is lost yet, and whoever asked can put it right.
          if (rows.length === 0) throw error;
          unprepared.set(resolved.name, error);
          return undefined;
        }
      };
      let left = all.length;
      for (const { model, recipe: name, seed } of all) {
        const resolved = opened.get(model);
        const recipe = recipes.find((one) => one.name === name);
        if (!resolved || !recipe) continue;
        const made = { ...provenance, versions: { ...provenance.versions, ...resolved.versions } };
        const prepared = await prepare(resolved);
        left--;
        if (!prepared) {
          const failure = describeError(unprepared.get(model));
          const lost = lostCellRows(setup, { model, recipe: name, seed }, { recipe: recipe.recipe, failure, provenance: made });
          rows.push(...lost);
          for (const row of lost) hooks.onRow?.(row);
          await hooks.onCell?.({ ...{ model, recipe: name, seed }, rows: lost, logs: [], texts: [], subject: undefined, left });
          continue;
        }
        last = prepared;
        const outcome = await runCell({ prepared, recipe, seed, backend, evaluators, samples, provenance: made }, hooks);
        rows.push(...outcome.rows);
        await hooks.onCell?.({ ...outcome, left });
      }
      return rows;
    },
  };
}

/** Runs every cell in turn and returns all rows. Throws as `Benchmark.run` does. */
export async function runBenchmark({ isDone, ...options }: BenchOptions): Promise<BenchRow[]> {
  const cells = cellsOf(options);
  return openBenchmark(options).run(isDone ? cells.filter((cell) => !isDone(cell)) : cells, options);
}

export interface PlanContext {
  readonly backend: Backend;
  /** Relative directories are resolved from here. */
  readonly directory: string;
  /** How models, texts and tasks of the hub are opened. */
  readonly hub?: HubOptions | undefined;
  /** Finds methods by name. */
  readonly buildRecipe: (recipe: BenchRecipe) => Promise<Recipe>;
}

/**
 * A plan as a benchmark, whose cells can be asked for in any number of runs.
 * @throws METHOD_VERSION for a method that is another than the plan was made with, and what `buildRecipe` throws.
 */
export async function openPlan(plan: BenchPlan, { buildRecipe, ...context }: PlanContext): Promise<Benchmark> {
  const recipes: NamedRecipe[] = [];
  for (const planned of plan.recipes) {
    const recipe = await buildRecipe(planned);
    for (const [i, { method }] of recipe.entries()) {
      const { version } = planned.steps[i] ?? {};
      if (version === method.version) continue;
      const where = `${planned.name}: step ${i + 1}`;
      throw new LowbitError(
        'METHOD_VERSION',
        `${where}: the plan was made with version ${version} of ${method.name}, and this is ${method.version}; make the plan anew, or install that version`,
      );
    }
    recipes.push({ name: planned.name, recipe, calibrationWindows: planned.calibrationWindows });
  }
  return openBenchmark({ ...plan, ...context, recipes });
}

/** Runs some cells of a plan. Throws as `openPlan` and `Benchmark.run` do. */
export async function runCells(
  plan: BenchPlan,
  cells: readonly BenchCell[],
  { signal, onRow, onCell, onProgress, ...context }: PlanContext & RunHooks,
): Promise<BenchRow[]> {
  const bench = await openPlan(plan, context);
  return bench.run(cells, { signal, onRow, onCell, onProgress });
}
