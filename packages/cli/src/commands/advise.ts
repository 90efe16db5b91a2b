// lowbit advise: finds a recipe that stays within a threshold, quantizing first and training what hurts where that is not enough.
import { realpath } from 'node:fs/promises';
import { join, relative, resolve } from 'node:path';
import {
  ADVICE_RECIPE,
  type Advice,
  type AdvicePlan,
  adviceMetrics,
  adviceReport,
  advise,
  checkAdvice,
  openAdviceFolder,
  openWorkbench,
  type PartKind,
  parseThreshold,
  provenanceOf,
  type ResolvedModel,
  resolveModel,
  type Trial,
  verdict,
} from '@lowbit/bench';
import { type Backend, LowbitError, type Model, type StepReference } from '@lowbit/core';
import { saveCheckpoint } from '@lowbit/formats';
import { isHubReference } from '@lowbit/hub';
import { type Command, InvalidArgumentError, Option } from 'commander';
import { adviceCandidates, adviceTuner } from '../advice-recipes.js';
import {
  addEngineOptions,
  addOutputOptions,
  addTextOptions,
  collect,
  type EngineArguments,
  integer,
  MODELS,
  modelName,
  type OutputArguments,
  openBackend,
  type TextArguments,
  textParts,
} from '../arguments.js';
import { type CommandContext, claimDirectory } from '../context.js';
import { buildSteps } from '../recipe.js';
import { createReporter, type Reporter } from '../reporter.js';

interface AdviseArguments extends EngineArguments, OutputArguments, TextArguments {
  readonly threshold: string;
  readonly bits: readonly number[];
  readonly groupSize: number;
  readonly ptq?: readonly string[];
  readonly qat: string;
  readonly parts: PartKind;
  readonly calibrationWindows: number;
  readonly windows: number;
  readonly window?: number;
  readonly seed: number;
  readonly report?: string;
  readonly out?: string;
  readonly force?: boolean;
}

const DEFAULT_PTQ = ['rtn', 'gptq', 'decoupleq'];

export function addAdviseCommand(program: Command, context: CommandContext): void {
  const command = program
    .command('advise')
    .description('find a recipe that stays within a threshold: quantize by several methods, then train what hurts most until it does')
    .argument('<model>', MODELS)
    .requiredOption('--threshold <metric=value>', `what is good enough: ${adviceMetrics.join(' or ')} of at most a value, 'kl=0.05'`)
    .option(
      '--bits <widths>',
      'bits of a code: one width, or several as in 2,3; the fewest first, and training only where none is enough',
      widths,
      [2],
    )
    .option('--group-size <inputs>', 'consecutive inputs that share a scale; -1: all inputs of an output channel', integer(-1), 32)
    .option('--ptq <recipe>', `what to quantize by, inline; may be repeated (${DEFAULT_PTQ.join(', ')})`, collect(String))
    .option('--qat <recipe>', 'what to train by, inline, without targets', 'qat')
    .addOption(new Option('--parts <kind>', 'what is looked at and trained one by one').choices(['linear', 'block']).default('linear'))
    .option('--calibration-windows <count>', 'windows to calibrate and train on', integer(1), 128)
    .option('--windows <count>', 'windows to judge on, and as many to judge again what is good enough', integer(2), 64)
    .option('--window <tokens>', 'tokens in each window', integer(2))
    .option('--seed <number>', 'of calibration text and of every random choice', integer(0), 0)
    .option('--report <directory>', 'where the report, the recipe and the trials go (runs/advise/<model>)')
    .option('--out <directory>', 'where the model goes, if one meets the threshold')
    .option('--force', 'overwrite what is there');
  addTextOptions(command, 'text to calibrate on and, in another part, to judge on');
  addEngineOptions(command);
  addOutputOptions(command, 'trials and advice on stdout, one JSON object each, instead of the report');
  command.action((reference: string, options: AdviseArguments) => runAdvise(reference, options, context));
}

/** '2' or '2,3,4'. */
function widths(text: string): readonly number[] {
  const found = text.split(',').map(integer(1));
  if (new Set(found).size < found.length) throw new InvalidArgumentError('expected widths that differ, as in 2,3.');
  return found;
}

async function runAdvise(reference: string, options: AdviseArguments, context: CommandContext): Promise<void> {
  const { directory } = context;
  const { bits, groupSize, ptq = DEFAULT_PTQ } = options;
  const plan: AdvicePlan = {
    threshold: parseThreshold(options.threshold),
    candidates: await adviceCandidates(ptq, { bits, groupSize }, directory),
    tuner: adviceTuner(options.qat),
  };
  const resolved = await resolveModel(reference, directory, context.hub);
  await checkAdvice(plan, resolved.model, (steps) => build(steps, directory));
  const report = resolve(directory, options.report ?? join('runs', 'advise', modelName(reference, directory)));
  const out = options.out === undefined ? undefined : resolve(directory, options.out);
  const claimed = [];
  try {
    for (const path of [report, ...(out === undefined ? [] : [out])]) claimed.push(await claimDirectory(path, options.force === true));
    if (out !== undefined) await checkOutput(out, report, resolved);
    await adviseInto({ report, out }, resolved, plan, { ...options, reference }, context);
  } finally {
    for (const one of claimed) await one.release();
  }
}

/** A checkpoint takes the place of what was in its directory. @throws OUTPUT_IS_SOURCE, OUTPUT_IS_REPORT */
async function checkOutput(out: string, report: string, { checkpoint }: ResolvedModel): Promise<void> {
  const [model, ...others] = await Promise.all([out, checkpoint.path, report].map((path) => realpath(path)));
  const [isSource, isReport] = others.map((other) => other === model);
  if (isSource) throw new LowbitError('OUTPUT_IS_SOURCE', `${out}: is the model that is to be quantized; choose another output directory`);
  if (isReport)
    throw new LowbitError('OUTPUT_IS_REPORT', `${out}: is where the report goes; give --out and --report different directories`);
}

function build(steps: readonly StepReference[], directory: string): ReturnType<typeof buildSteps> {
  return buildSteps(
    steps.map(({ method, options = {} }) => ({ method, options })),
    directory,
  );
}

interface Places {
  readonly report: string;
  readonly out: string | undefined;
}

async function adviseInto(
  { report, out }: Places,
  resolved: ResolvedModel,
  plan: AdvicePlan,
  options: AdviseArguments & { readonly reference: string },
  context: CommandContext,
): Promise<void> {
  const { terminal, directory, signal } = context;
  const backend = await openBackend(options);
  const reporter = createReporter(terminal, { isQuiet: options.quiet === true });
  const files = openAdviceFolder(report);
  try {
    const sources = textParts(options, directory);
    const workbench = await openWorkbench({
      ...{ resolved, backend, signal, threshold: plan.threshold, parts: options.parts, seed: options.seed },
      calibration: { source: sources.calibration, windows: options.calibrationWindows, window: options.window },
      heldOut: { source: sources.heldOut, windows: options.windows, window: options.window },
      buildRecipe: (steps) => build(steps, directory),
      onProgress: (progress) => {
        if (progress.type === 'note') reporter.note(progress.text);
        else if (progress.type === 'run') reporter.event(progress.event, progress.recipe);
        else reporter.progress(progress.stage, progress.path, progress.done, progress.total);
      },
    });
    // Model, recipes and text have been accepted.
    context.startWork();
    const advice = await advise(plan, workbench, {
      signal,
      onTrial: (trial) => {
        files.trial(trial);
        if (options.json) terminal.out(`${JSON.stringify(trial)}\n`);
        noteTrial(trial, plan, reporter);
      },
      onDamages: (damages) => {
        files.damages(damages);
        reporter.note(`${damages.parts.length} parts quantized one by one; ${damages.parts[0].path} hurts most`);
      },
    });
    reporter.end();
    const repeat = repeatCommand(join(report, ADVICE_RECIPE), options, directory);
    const summary = adviceReport(
      advice,
      repeat,
      isInParts(options) ? `to other weights: quantize reads all of ${options.text}` : undefined,
    );
    files.finish(`# Advice on ${resolved.name}\n\n${summary}\n`, advice.best?.steps);
    if (!options.json) terminal.out(`${summary}\n`);
    let saved: string | undefined;
    try {
      checkMet(advice);
      if (out !== undefined) {
        await save(out, resolved, advice, backend, options, context, reporter);
        saved = out;
      }
    } finally {
      if (options.json) terminal.out(`${JSON.stringify({ advice: recordOf(advice), report, out: saved })}\n`);
    }
  } finally {
    reporter.end();
    await backend.dispose();
  }
}

/** Advice of which there is a model that meets the threshold. */
interface MetAdvice extends Advice<Model> {
  readonly best: NonNullable<Advice<Model>['best']>;
  readonly made: Model;
}

/** @throws ADVISE_FAILED, THRESHOLD_UNMET */
function checkMet(advice: Advice<Model>): asserts advice is MetAdvice {
  const { best, trials } = advice;
  if (!best) {
    const reasons = trials.flatMap((trial) => ('error' in trial ? [`${trial.name}: ${trial.error.message}`] : []));
    throw new LowbitError(
      'ADVISE_FAILED',
      `no recipe could be tried: ${reasons.join('; ')}; correct what they name, or try others with --ptq`,
    );
  }
  if (best.isMet) return;
  const remedies = 'Allow more with --threshold, more bits with --bits, or smaller groups with --group-size';
  throw new LowbitError('THRESHOLD_UNMET', `${verdict(advice)} ${remedies}`);
}

function noteTrial(trial: Trial, { threshold }: AdvicePlan, reporter: Reporter): void {
  if ('error' in trial) {
    reporter.warn(`${trial.name}: ${trial.error.message}`);
    return;
  }
  const { name, value, bitsPerWeight, seconds, isMet } = trial;
  const again = trial.confirmed ? ` (${trial.confirmed.value.toPrecision(4)} on fresh text)` : '';
  const numbers = `${threshold.metric} ${value.toPrecision(4)}${again} at ${bitsPerWeight.toFixed(2)} bits/weight`;
  reporter.note(`${name}: ${numbers}, ${isMet ? 'good enough' : 'not good enough'}; made in ${seconds.toFixed(1)} s`);
}

async function save(
  out: string,
  { checkpoint, versions }: ResolvedModel,
  { best, made }: MetAdvice,
  backend: Backend,
  { seed, force }: AdviseArguments,
  { directory, signal }: CommandContext,
  reporter: Reporter,
): Promise<void> {
  await saveCheckpoint(out, made, {
    recipe: await build(best.steps, directory),
    versions: { ...provenanceOf(backend).versions, ...versions },
    seed,
    sideFiles: checkpoint.sideFiles,
    overwrite: force === true,
    signal,
    progress: (done, total) => reporter.progress('writing', out, done, total),
  });
  reporter.note(`the model is in ${out}`);
}

function recordOf({ threshold, best, damages }: Advice<unknown>): object {
  if (!best) return { threshold, isMet: false, damages };
  const { name, steps, bits, bitsPerWeight, value, stderr, confirmed, isMet } = best;
  return { threshold, isMet, recipe: name, steps, bits, bitsPerWeight, value, stderr, confirmed, damages };
}

/** What makes the advised model again: equal text, seed, steps and engine give equal weights. */
function repeatCommand(recipe: string, options: AdviseArguments & { readonly reference: string }, directory: string): string {
  const { reference, calibrationWindows, window, seed, text, documents, field, split, backend, threads } = options;
  const words = [
    ...[reference, '--recipe', relative(directory, recipe), '--windows', calibrationWindows, '--seed', seed],
    ...(window === undefined ? [] : ['--window', window]),
    ...(text === undefined ? [] : ['--text', text]),
    ...(documents === 'whole' ? [] : ['--documents', documents]),
    ...(field === 'text' ? [] : ['--field', field]),
    ...(split === undefined ? [] : ['--split', split]),
    ...(backend === 'onnxruntime:cpu' ? [] : ['--backend', backend]),
    ...(threads === undefined ? [] : ['--threads', threads]),
  ];
  return ['lowbit quantize', ...words.map(shellWord), '--out <directory>'].join(' ');
}

/** Whether advise keeps a part of the text to judge by, and `lowbit quantize` calibrates on that part too: on what is named, it reads all. */
function isInParts({ text, split }: TextArguments): boolean {
  if (text === undefined || text === 'self' || text === 'sotu') return false;
  return !isHubReference(text) || split !== undefined || /\.(txt|jsonl|parquet)$/.test(text);
}

function shellWord(word: string | number): string {
  return /^[\w./:=@%+,-]+$/.test(`${word}`) ? `${word}` : `'${`${word}`.replaceAll("'", "'\\''")}'`;
}
