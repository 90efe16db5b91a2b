// lowbit bench: compares recipes on models; one JSON line a number, and a table.
import { resolve } from 'node:path';
import {
  type BenchPlan,
  type BenchRecipe,
  type BenchRow,
  cellsOf,
  dropLostLock,
  engineIn,
  hasFailed,
  holdsRun,
  isScore,
  modelEvaluatorNames,
  openRunFolder,
  type PlanEngine,
  presetNames,
  type RunFolder,
  recordOf,
  summarizeRows,
} from '@lowbit/bench';
import { type Backend, LowbitError } from '@lowbit/core';
import type { Command } from 'commander';
import {
  addEngineOptions,
  addOutputOptions,
  addTextOptions,
  collect,
  integer,
  MODELS,
  type OutputArguments,
  openBackend,
} from '../arguments.js';
import { addPlaceOptions, engineFor, type PlaceArguments, runCellsAt } from '../bench-cells.js';
import { type PlanArguments, planOf } from '../bench-plan.js';
import { type CommandContext, claimDirectory } from '../context.js';
import { buildRecipe } from '../recipe.js';
import { createReporter, type Reporter } from '../reporter.js';
import { addSuiteOptions } from '../suite-arguments.js';
import { addTaskOptions } from '../task-arguments.js';
import { addBenchDiffCommand } from './bench-diff.js';

interface BenchArguments extends PlaceArguments, OutputArguments, PlanArguments {
  readonly out?: string;
  readonly force?: boolean;
  readonly resume?: boolean;
}

export function addBenchCommand(program: Command, context: CommandContext): void {
  const command = program
    .command('bench')
    .description('compare recipes on models')
    .option('--preset <name>', `${presetNames.join(', ')}; other options replace parts of it`)
    .option('--model <model>', `${MODELS}; may be repeated`, collect(String))
    .option('--recipe <recipe>', "a file, or inline: 'gptq:bits=2', steps joined by +; may be repeated", collect(String))
    .option('--evaluators <names...>', modelEvaluatorNames.join(', '))
    .option('--seeds <number>', 'a seed; may be repeated', collect(integer(0)))
    .option('--calibration-windows <count>', 'windows to calibrate on', integer(1))
    .option('--windows <count>', 'windows to judge on', integer(1))
    .option('--window <tokens>', 'tokens in each window', integer(2))
    .option('--out <directory>', 'write plan.json, results.jsonl, logs.jsonl and results.md there')
    .option('--force', 'overwrite results that are there')
    .option('--resume', 'go on with the results that are there: only cells that are missing or failed run');
  addTextOptions(command, 'text to calibrate on and, in another part, to judge on');
  addTaskOptions(command, 'what recipes with a step for tasks are tuned for, and what all are judged by as well');
  addSuiteOptions(command);
  addPlaceOptions(command);
  addEngineOptions(command, 'all cores; with --workers or --queue 1');
  addOutputOptions(command, 'rows on stdout, one JSON object each, instead of the table');
  command.action((options: BenchArguments) => runBench(options, context));
  addBenchDiffCommand(command, context);
}

async function runBench(options: BenchArguments, context: CommandContext): Promise<void> {
  const { directory } = context;
  if (options.force && options.resume) {
    throw new LowbitError('BENCH_OPTIONS', '--force starts again and --resume goes on; give one of them');
  }
  if (options.resume && options.out === undefined) {
    throw new LowbitError('BENCH_OPTIONS', '--resume goes on with the rows of a directory; name it with --out');
  }
  const out = options.out === undefined ? undefined : resolve(directory, options.out);
  const goesOn = out !== undefined && options.resume === true && holdsRun(out);
  const engine = engineFor(options, goesOn ? engineIn(out) : undefined);
  const plan = await planOf(options, engine, directory, context.hub);
  if (out !== undefined) dropLostLock(out);
  const claimed =
    out === undefined ? undefined : await claimDirectory(out, options.force === true || goesOn, 'go on with its rows with --resume');
  try {
    const backend = await openBackend(engine);
    let folder: RunFolder | undefined;
    try {
      folder = out === undefined ? undefined : openRunFolder(out, recordOf(plan, backend), options.resume === true);
      await benchInto(folder, plan, { engine, backend }, options, context);
    } finally {
      folder?.close();
      await backend.dispose();
    }
  } finally {
    await claimed?.release();
  }
}

async function benchInto(
  folder: RunFolder | undefined,
  plan: BenchPlan,
  { engine, backend }: { readonly engine: PlanEngine; readonly backend: Backend },
  options: BenchArguments,
  context: CommandContext,
): Promise<void> {
  const { terminal, directory, hub, signal } = context;
  const reporter = createReporter(terminal, { isQuiet: options.quiet === true });
  if (options.threads === undefined && (options.workers ?? options.queue) !== undefined) {
    const count = `${engine.threads} thread${engine.threads === 1 ? '' : 's'}`;
    reporter.note(`each cell runs on ${count}; on another number, the last digits are others (--threads)`);
  }
  try {
    if (options.json) for (const row of folder?.kept ?? []) terminal.out(`${JSON.stringify(row)}\n`);
    const isResumed = options.resume === true;
    const place = { backend, directory, hub, signal, isResumed, buildRecipe: (recipe: BenchRecipe) => buildRecipe(recipe, directory) };
    const made = await runCellsAt(options, engine, plan, folder?.missing ?? cellsOf(plan), place, {
      onProgress: (progress) => {
        if (progress.type === 'note') reporter.note(progress.text);
        else if (progress.type === 'run') reporter.event(progress.event, progress.recipe);
        else reporter.progress(progress.stage, progress.path, progress.done, progress.total);
      },
      onRow: (row) => {
        // Models, text and evaluators were accepted when there is a first row.
        context.startWork();
        if (options.json) terminal.out(`${JSON.stringify(row)}\n`);
        noteRow(row, reporter);
      },
      onCell: (result) => folder?.add(result),
    });
    reporter.end();
    context.startWork();
    const rows = folder?.finish(summarizeRows) ?? made;
    const commits = new Set(rows.map(({ commit }) => commit));
    if (commits.size > 1) reporter.warn(`the rows come from different commits: ${[...commits].join(', ')}`);
    if (!options.json) terminal.out(`${summarizeRows(rows)}\n`);
    const failed = rows.filter(hasFailed);
    if (failed.length > 0)
      throw new LowbitError(
        'CELLS_FAILED',
        `${failed.length} of ${rows.length} rows have an error instead of a value; their messages are in the rows${folder ? ', and --resume tries them again' : ''}`,
      );
  } catch (error) {
    if (signal.aborted && folder) reporter.note('the cells that were finished are kept; --resume goes on from there');
    throw error;
  } finally {
    reporter.end();
  }
}

function noteRow(row: BenchRow, reporter: Reporter): void {
  if (hasFailed(row)) reporter.warn(`${row.model} ${row.recipe} ${row.evaluator}: ${row.error.message}`);
  else if (isScore(row) && row.evaluator === 'perplexity')
    reporter.note(`${row.model} ${row.recipe}: perplexity ${row.value.toPrecision(5)}, quantized in ${row.seconds.toFixed(1)} s`);
}
