// Where the cells of a benchmark run: in this process, in others on this machine, or by workers on a queue.
import { availableParallelism } from 'node:os';
import {
  type BenchCell,
  type BenchPlan,
  type BenchRow,
  type CellResult,
  cellKey,
  cellsOf,
  DENSE,
  hasThreads,
  lostCellRows,
  type PlanContext,
  type PlanEngine,
  provenanceOf,
  queueName,
  type RunHooks,
  readRow,
  runCells,
  runInProcesses,
  runQueued,
  type Task,
  type TaskHooks,
  type TaskModule,
  taskError,
} from '@lowbit/bench';
import { LowbitError } from '@lowbit/core';
import type { Command } from 'commander';
import { type EngineArguments, integer } from './arguments.js';
import { taskModule } from './task-module.js';

export interface PlaceArguments extends EngineArguments {
  readonly workers?: number;
  readonly queue?: string;
}

export function addPlaceOptions(command: Command): Command {
  return command
    .option('--workers <count>', 'run cells in so many processes on this machine', integer(1))
    .option('--queue <url>', 'have cells run by lowbit bench-worker processes that are connected to this Redis server: redis://host:6379');
}

/**
 * The engine of a plan's cells. Results depend on its number of threads, so that it must not depend on how many processes there are: one
 * where cells run side by side, all cores where they run one after another, and in a run that goes on what it began with. A backend that
 * cannot be told has one.
 */
export function engineFor({ backend, threads, workers, queue }: PlaceArguments, earlier: PlanEngine | undefined): PlanEngine {
  const isAlone = workers === undefined && queue === undefined && hasThreads(backend);
  return { backend, threads: threads ?? earlier?.threads ?? (isAlone ? availableParallelism() : 1) };
}

/** What is sent to another process. */
export interface CellWork {
  readonly plan: BenchPlan;
  readonly cell: BenchCell;
}

/** How a process for cells is started. */
export interface CellProcessOptions {
  /** What is opened before the first cell; each plan says what its own cells run on. */
  readonly engine: PlanEngine;
  /** Whether nothing is fetched from the hub. */
  readonly isOffline: boolean;
  /** Whether plans are of other machines, whose files may be others. */
  readonly isElsewhere: boolean;
}

/** The module that runs cells in a process of its own. */
export function cellProcess(options: CellProcessOptions, directory: string): TaskModule {
  return taskModule('cell-process', [JSON.stringify(options)], directory);
}

export interface CellHooks extends Pick<RunHooks, 'onRow' | 'onProgress'> {
  /** Called when a cell has all its rows. */
  onCell(result: CellResult): void;
}

/**
 * Runs some cells of a plan where the options say and returns their rows; with several at a time, in the order in which they are done.
 * `isResumed` says that cells which are not among them are known, and that what workers did for the earlier run is wanted.
 * @throws BENCH_OPTIONS for two places; what `runCells`, `runInProcesses` and `runQueued` throw.
 */
export async function runCellsAt(
  { workers, queue }: Pick<PlaceArguments, 'workers' | 'queue'>,
  engine: PlanEngine,
  plan: BenchPlan,
  cells: readonly BenchCell[],
  { signal, isResumed, ...context }: PlanContext & Pick<RunHooks, 'signal'> & { readonly isResumed: boolean },
  hooks: CellHooks,
): Promise<BenchRow[]> {
  if (workers !== undefined && queue !== undefined) {
    throw new LowbitError('BENCH_OPTIONS', '--workers runs cells on this machine and --queue elsewhere; give one of them');
  }
  if (workers === undefined && queue === undefined) return runCells(plan, cells, { signal, ...context, ...hooks });

  const rows: BenchRow[] = [];
  const { commit } = provenanceOf(context.backend);
  const commits = new Set([commit]);
  const take = (result: CellResult): void => {
    for (const other of result.rows.map((row) => row.commit)) {
      if (!commits.has(other)) note(`rows come from commit ${other}; this is ${commit}`);
      commits.add(other);
    }
    for (const row of result.rows) hooks.onRow?.(row);
    hooks.onCell(result);
    rows.push(...result.rows);
    const left = tasks.length - ++finished;
    if (left > 0) note(`${left} cells left`);
  };
  const note = (text: string): void => hooks.onProgress?.({ type: 'note', text });
  const keyOf = (cell: BenchCell): string => cellKey(plan, cell);
  const tasks = cells.map((cell): Task<CellWork> => ({ key: keyOf(cell), label: labelOf(cell), work: { plan, cell } }));
  let finished = 0;
  const taskHooks: TaskHooks<CellWork, CellResult> = {
    // JSON has been in between.
    onResult: (_, result) => take({ ...result, rows: result.rows.map(readRow) }),
    async onFailure({ work: { cell } }, failure) {
      // Of a cell's own failures its process makes rows. What it throws is about models and text, and is as it would be here: an error before
      // the first row, and later a row.
      if (queue === undefined && finished === 0 && !failure.code.startsWith('PROCESS_')) throw taskError(failure);
      const planned = plan.recipes.find(({ name }) => name === cell.recipe);
      const recipe = cell.recipe === DENSE || !planned ? [] : await context.buildRecipe(planned);
      take({ ...cell, rows: lostCellRows(plan, cell, { recipe, failure, provenance: provenanceOf(context.backend) }), logs: [] });
    },
    onNote: note,
  };
  if (queue !== undefined) {
    const wanted = new Set(tasks.map(({ key }) => key));
    const stale = cellsOf(plan).map(keyOf);
    await runQueued(
      tasks,
      { url: queue, name: queueName(engine.backend), stale: isResumed ? stale.filter((key) => !wanted.has(key)) : stale, signal },
      taskHooks,
    );
  } else if (workers !== undefined) {
    const module = cellProcess({ engine, isOffline: context.hub?.settings?.isOffline === true, isElsewhere: false }, context.directory);
    await runInProcesses(tasks, { module, workers, signal }, taskHooks);
  }
  return rows;
}

function labelOf({ model, recipe, seed }: BenchCell): string {
  return `${model} ${recipe}, seed ${seed}`;
}
