// lowbit bench: compares recipes on models; one JSON line a number, and a table.
import { appendFileSync, rmSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import {
  type BenchRow,
  closedGaps,
  evaluatorName,
  isScore,
  markdownTable,
  modelEvaluatorNames,
  type NamedRecipe,
  type Preset,
  presetNames,
  presetOf,
  runBenchmark,
} from '@lowbit/bench';
import { LowbitError } from '@lowbit/core';
import type { Command } from 'commander';
import {
  addEngineOptions,
  addOutputOptions,
  addTextOptions,
  collect,
  type EngineArguments,
  integer,
  modelName,
  type OutputArguments,
  openBackend,
  requireDistinct,
  type TextArguments,
  textParts,
} from '../arguments.js';
import { type CommandContext, claimDirectory } from '../context.js';
import { readRecipe } from '../recipe.js';
import { createReporter, type Reporter } from '../reporter.js';
import { addTaskOptions, type TaskArguments, taskSource } from '../task-arguments.js';

interface BenchArguments extends EngineArguments, OutputArguments, TaskArguments, TextArguments {
  readonly preset?: string;
  readonly model?: readonly string[];
  readonly recipe?: readonly string[];
  readonly evaluators?: readonly string[];
  readonly seeds?: readonly number[];
  readonly calibrationWindows?: number;
  readonly windows?: number;
  readonly window?: number;
  readonly out?: string;
  readonly force?: boolean;
}

export function addBenchCommand(program: Command, context: CommandContext): void {
  const command = program
    .command('bench')
    .description('compare recipes on models')
    .option('--preset <name>', `${presetNames.join(', ')}; other options replace parts of it`)
    .option('--model <model>', 'tiny, tiny-outliers, stories15M, or a directory; may be repeated', collect(String))
    .option('--recipe <recipe>', "a file, or inline: 'gptq:bits=2', steps joined by +; may be repeated", collect(String))
    .option('--evaluators <names...>', modelEvaluatorNames.join(', '))
    .option('--seeds <number>', 'a seed; may be repeated', collect(integer(0)))
    .option('--calibration-windows <count>', 'windows to calibrate on', integer(1))
    .option('--windows <count>', 'windows to judge on', integer(1))
    .option('--window <tokens>', 'tokens in each window', integer(2))
    .option('--out <directory>', 'write results.jsonl and results.md there')
    .option('--force', 'overwrite results that are there');
  addTextOptions(command, 'text to calibrate on and, in another part, to judge on');
  addTaskOptions(command, 'what recipes with a step for tasks are tuned for, and what all are judged by as well');
  addEngineOptions(command);
  addOutputOptions(command, 'rows on stdout, one JSON object each, instead of the table');
  command.action((options: BenchArguments) => runBench(options, context));
}

async function runBench(options: BenchArguments, context: CommandContext): Promise<void> {
  const plan = await planOf(options, context.directory);
  const out = options.out === undefined ? undefined : resolve(context.directory, options.out);
  const claimed = out === undefined ? undefined : await claimDirectory(out, options.force === true);
  try {
    await benchInto(out, plan, options, context);
  } finally {
    await claimed?.release();
  }
}

async function benchInto(out: string | undefined, plan: Preset, options: BenchArguments, context: CommandContext): Promise<void> {
  const { terminal, directory, signal } = context;
  const backend = await openBackend(options);
  const reporter = createReporter(terminal, { isQuiet: options.quiet === true });
  const results = out === undefined ? undefined : resultFiles(out);
  try {
    const rows = await runBenchmark({
      ...plan,
      backend,
      directory,
      signal,
      onProgress: (progress) => {
        if (progress.type === 'note') reporter.note(progress.text);
        else if (progress.type === 'run') reporter.event(progress.event, progress.recipe);
        else reporter.progress(progress.stage, progress.path, progress.done, progress.total);
      },
      onRow: (row) => {
        // Models, text and evaluators were accepted when there is a first row.
        context.startWork();
        results?.add(row);
        if (options.json) terminal.out(`${JSON.stringify(row)}\n`);
        noteRow(row, reporter);
      },
    });
    reporter.end();
    // The loss gap is what the lines below the table are about.
    const summary = [markdownTable(rows.filter((row) => row.evaluator !== 'loss-gap')), ...gapLines(rows)].join('\n');
    results?.finish(summary);
    if (!options.json) terminal.out(`${summary}\n`);
    const failed = rows.filter((row) => !isScore(row));
    if (failed.length > 0)
      throw new LowbitError(
        'CELLS_FAILED',
        `${failed.length} of ${rows.length} rows have an error instead of a value; their messages are in the rows`,
      );
  } finally {
    reporter.end();
    await backend.dispose();
  }
}

/** The preset with the parts that options replace, or what the options say alone. */
async function planOf(options: BenchArguments, directory: string): Promise<Preset> {
  const base = options.preset === undefined ? undefined : presetOf(options.preset);
  const recipes: NamedRecipe[] = [];
  for (const text of options.recipe ?? []) recipes.push(await readRecipe(text, directory));
  const models = options.model ?? base?.models;
  if (!models || (recipes.length === 0 && !base)) {
    throw new LowbitError('BENCH_PLAN', `nothing to run; give --preset (${presetNames.join(', ')}), or --model and --recipe`);
  }
  requireDistinct(
    'model',
    models.map((reference) => modelName(reference, directory)),
  );
  requireDistinct(
    'recipe',
    recipes.map(({ name }) => name),
  );
  const { calibrationWindows, windows, window } = options;
  const { calibration, heldOut, ...rest } = base ?? presetOf('tiny');
  const sources = textParts(options, directory);
  const task = taskSource(options, directory);
  const evaluators = options.evaluators?.map((name) => evaluatorName(name, modelEvaluatorNames));
  return {
    ...rest,
    models,
    recipes: recipes.length > 0 ? recipes : rest.recipes,
    task,
    evaluators: evaluators ?? [...rest.evaluators, ...(task ? ['task' as const] : [])],
    seeds: options.seeds ?? rest.seeds,
    calibration: { ...calibration, source: sources.calibration, windows: calibrationWindows ?? calibration.windows, window },
    heldOut: { ...heldOut, source: sources.heldOut, windows: windows ?? heldOut.windows, window },
  };
}

function noteRow(row: BenchRow, reporter: Reporter): void {
  if (!isScore(row)) reporter.warn(`${row.model} ${row.recipe} ${row.evaluator}: ${row.error.message}`);
  else if (row.evaluator === 'perplexity')
    reporter.note(`${row.model} ${row.recipe}: perplexity ${row.value.toPrecision(5)}, quantized in ${row.seconds.toFixed(1)} s`);
}

/** What every method is held against. */
const BASELINE = 'rtn';

/** 'stories15M, 2 bits: gptq wins back 73 % of the loss that rtn adds (3.815 ± 0.035 nats a token)'; recipes where a method has several. */
function gapLines(rows: readonly BenchRow[]): string[] {
  const methods = new Set(rows.map(({ method }) => method).filter((method) => method !== BASELINE));
  const lines = [...methods].flatMap((one) => {
    const gaps = closedGaps(rows, one, BASELINE);
    return gaps.map((gap) => {
      const { model, bits, share } = gap;
      const { value, stderr } = gap.baselineAdded;
      const isOnly = gaps.filter((other) => other.model === model && other.bits === bits).length === 1;
      const [method, baseline] = isOnly ? [gap.method, gap.baseline] : [gap.recipe, gap.baselineRecipe];
      const nats = `${value.toPrecision(3)} ± ${stderr.toPrecision(2)} nats a token`;
      if (share === undefined) return `- ${model}, ${bits} bits: ${baseline} adds ${nats}, which is too little to compare`;
      return `- ${model}, ${bits} bits: ${method} wins back ${(100 * share).toFixed(0)} % of the loss that ${baseline} adds (${nats})`;
    });
  });
  return lines.length === 0 ? [] : ['', ...new Set(lines)];
}

/** The files of a run. What an earlier run left is there until this one has a row. */
function resultFiles(directory: string): { add(row: BenchRow): void; finish(summary: string): void } {
  const [rows, table] = [join(directory, 'results.jsonl'), join(directory, 'results.md')];
  let isFirst = true;
  const writing = (write: () => void): void => {
    try {
      write();
    } catch (error) {
      const reason = error instanceof Error ? error.message : String(error);
      throw new LowbitError('RESULTS_WRITE', `${directory}: ${reason}; rows so far are in results.jsonl`, { cause: error });
    }
  };
  return {
    add: (row) =>
      writing(() => {
        const line = `${JSON.stringify(row)}\n`;
        if (isFirst) rmSync(table, { force: true });
        if (isFirst) writeFileSync(rows, line);
        else appendFileSync(rows, line);
        isFirst = false;
      }),
    finish: (summary) => writing(() => writeFileSync(table, `${summary}\n`)),
  };
}
