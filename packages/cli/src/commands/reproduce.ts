// lowbit reproduce: runs an experiment that a plugin brings, and writes its rows, table, figure and verdicts.
import { join, resolve } from 'node:path';
import {
  didYouMean,
  drawFigure,
  type ExperimentChanges,
  type ExperimentFolder,
  type ExperimentPlan,
  FIGURE,
  holds,
  holdsRows,
  inOrder,
  isFailed,
  openExperimentFolder,
  planExperiment,
  reportExperiment,
  runExperiment,
  settingsOf,
} from '@lowbit/bench';
import { type Backend, type ExperimentRow, LowbitError } from '@lowbit/core';
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
import { describeCell, listExperiments } from '../experiment-text.js';
import { builtInPlugins, findPlugin, type Plugin } from '../methods.js';
import { buildSteps } from '../recipe.js';
import { createReporter, type Reporter } from '../reporter.js';

interface ReproduceArguments extends EngineArguments, OutputArguments, TextArguments {
  readonly model?: readonly string[];
  readonly arms?: readonly string[];
  readonly seeds?: readonly number[];
  readonly calibrationWindows?: number;
  readonly windows?: number;
  readonly window?: number;
  readonly out?: string;
  readonly force?: boolean;
  readonly resume?: boolean;
  readonly strict?: boolean;
}

export function addReproduceCommand(program: Command, context: CommandContext): void {
  const command = program
    .command('reproduce')
    .description("repeat a method's published figures: run an experiment that its plugin brings")
    .argument('[experiment]', "<plugin>/<name>; lists a plugin's experiments without the name, and all without either")
    .option('--model <model>', 'instead of the models it names; may be repeated', collect(String))
    .option('--arms <pattern>', 'only arms of this name, in which * is any text; may be repeated', collect(String))
    .option('--seeds <number>', 'instead of its seeds; may be repeated', collect(integer(0)))
    .option('--calibration-windows <count>', 'windows to calibrate on, unless they are what an arm varies', integer(1))
    .option('--windows <count>', 'windows to judge on', integer(1))
    .option('--window <tokens>', 'tokens in each window', integer(2))
    .option('--out <directory>', 'where the files go (runs/reproduce/<plugin>/<name>)')
    .option('--force', 'overwrite what is there')
    .option('--resume', 'go on with what is there: only cells that are missing or failed run')
    .option('--strict', 'exit with 1 unless every claim holds');
  addTextOptions(command, 'text to calibrate on and, in another part, to judge on');
  addEngineOptions(command);
  addOutputOptions(command, 'rows and verdicts on stdout, one JSON object each, instead of the table');
  command.action((name: string | undefined, options: ReproduceArguments) => reproduce(name, options, context));
}

async function reproduce(name: string | undefined, options: ReproduceArguments, context: CommandContext): Promise<void> {
  const { terminal, directory } = context;
  const [pluginName, ...rest] = name?.split('/') ?? [];
  if (pluginName === undefined || rest.length === 0) {
    const plugins = pluginName === undefined ? builtInPlugins : [await findPlugin(pluginName, directory)];
    terminal.out(listExperiments(plugins, options.json === true));
    return;
  }
  const plan = await planOf(await findPlugin(pluginName, directory), rest.join('/'), options, directory);
  const out = resolve(directory, options.out ?? join('runs', 'reproduce', plan.name));
  const goesOn = options.resume === true && holdsRows(out);
  const claimed = await claimDirectory(out, options.force === true || goesOn, 'go on with its rows with --resume');
  try {
    const backend = await openBackend(options);
    try {
      await reproduceInto(out, plan, backend, options, context);
    } finally {
      await backend.dispose();
    }
  } finally {
    await claimed.release();
  }
}

async function planOf(plugin: Plugin, name: string, options: ReproduceArguments, directory: string): Promise<ExperimentPlan> {
  if (options.force && options.resume) {
    throw new LowbitError('REPRODUCE_OPTIONS', '--force starts again and --resume goes on; give one of them');
  }
  const experiment = plugin.experiments.find((one) => one.name === name);
  if (!experiment) {
    const known = plugin.experiments.map((one) => one.name);
    const choices = known.length === 0 ? 'it brings none' : didYouMean(name, known);
    throw new LowbitError('EXPERIMENT_UNKNOWN', `no experiment '${name}' in ${plugin.name}; ${choices}`);
  }
  const { model: models, arms, seeds, calibrationWindows, windows: heldOutWindows, window } = options;
  const { calibration: calibrationSource, heldOut: heldOutSource } = textParts(options, directory);
  requireDistinct(
    'model',
    (models ?? []).map((reference) => modelName(reference, directory)),
  );
  const changes: ExperimentChanges = { models, arms, seeds, calibrationWindows, heldOutWindows, window, calibrationSource, heldOutSource };
  return planExperiment(`${plugin.name}/${name}`, experiment, (steps) => buildSteps(steps, directory), changes);
}

async function reproduceInto(
  out: string,
  plan: ExperimentPlan,
  backend: Backend,
  options: ReproduceArguments,
  context: CommandContext,
): Promise<void> {
  const { terminal } = context;
  const { title, figure } = plan.experiment;
  // A specification that cannot be drawn is found out now rather than when the work is done.
  await drawFigure(figure, title, []);
  const folder = openExperimentFolder(out, settingsOf(plan, backend), options.resume === true);
  const reporter = createReporter(terminal, { isQuiet: options.quiet === true });
  try {
    if (options.json) for (const row of folder.kept) terminal.out(`${JSON.stringify(row)}\n`);
    const rows = inOrder(plan, [...folder.kept, ...(await runInto(folder, plan, backend, options, context, reporter))]);
    reporter.end();
    context.startWork();
    const report = reportExperiment(plan, rows, FIGURE);
    folder.finish(report, await drawFigure(figure, title, rows));
    if (options.json) for (const claim of report.claims) terminal.out(`${JSON.stringify(claim)}\n`);
    else terminal.out(`${report.summary}\n`);
    reporter.note(`table, figure and rows are in ${out}`);
    const failed = rows.filter(isFailed).length;
    if (failed > 0)
      throw new LowbitError(
        'CELLS_FAILED',
        `${failed} of ${rows.length} rows are about cells that failed; their messages are in the rows, and --resume tries them again`,
      );
    const unmet = report.claims.filter((claim) => !holds(claim)).map((claim) => claim.name);
    if (options.strict && unmet.length > 0) throw new LowbitError('CLAIMS_UNMET', `${unmet.join(', ')}: does not hold, or has no verdict`);
  } finally {
    reporter.end();
  }
}

/** Runs what the folder does not hold; each cell's rows are on disk before the next begins. */
async function runInto(
  folder: ExperimentFolder,
  plan: ExperimentPlan,
  backend: Backend,
  options: ReproduceArguments,
  context: CommandContext,
  reporter: Reporter,
): Promise<ExperimentRow[]> {
  const { terminal, directory, hub, signal } = context;
  const { commits } = folder.settings;
  if (commits.length > 1) reporter.warn(`the rows come from different commits: ${commits.join(', ')}`);
  const startedAt = performance.now();
  let finished = 0;
  try {
    return await runExperiment(plan, {
      ...{ backend, directory, hub, signal, known: folder.kept },
      onRows: (rows, left) => {
        // Models and text have been accepted.
        context.startWork();
        folder.add(rows);
        if (options.json) for (const row of rows) terminal.out(`${JSON.stringify(row)}\n`);
        for (const row of rows.filter(isFailed)) reporter.warn(row.failure);
        const secondsPerCell = (performance.now() - startedAt) / 1000 / ++finished;
        reporter.note(describeCell(plan.experiment, rows, left, left * secondsPerCell));
      },
      onProgress: (progress) => {
        if (progress.type === 'note') reporter.note(progress.text);
        else if (progress.type === 'run') reporter.event(progress.event, progress.recipe);
        else reporter.progress(progress.stage, progress.path, progress.done, progress.total);
      },
    });
  } catch (error) {
    if (signal.aborted && finished + folder.kept.length > 0)
      reporter.note('the cells that were finished are kept; --resume goes on from there');
    throw error;
  }
}
