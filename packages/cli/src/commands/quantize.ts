// lowbit quantize: applies a recipe to a model and writes the result as a checkpoint.
import { resolve } from 'node:path';
import {
  calibrationText,
  lockRun,
  nearestRounding,
  needsData,
  openTask,
  provenanceOf,
  type ResolvedModel,
  type RunLock,
  resolveModel,
} from '@lowbit/bench';
import type { Model, Recipe } from '@lowbit/core';
import { directoryBytes, saveCheckpoint } from '@lowbit/formats';
import { checkRecipe, quantize } from '@lowbit/pipeline';
import { linearKinds } from '@lowbit/quant';
import type { Command } from 'commander';
import { openBackend, textSource } from '../arguments.js';
import { type CommandContext, claimDirectory } from '../context.js';
import { activationMemory, type ClaimedStore, findKeptRun, type KeptRun, locateRefusal, wasBeingWritten } from '../kept-run.js';
import { LAYER_TABLE } from '../layer-table.js';
import { builtInMethods } from '../methods.js';
import { methodHelp } from '../option-help.js';
import { readRecipes } from '../recipe.js';
import { createReporter, type Reporter } from '../reporter.js';
import { addRunOptions, type RunArguments } from '../run-arguments.js';
import { createRunFiles } from '../run-files.js';
import { planRun, summarizePlan } from '../run-plan.js';
import { taskSource } from '../task-arguments.js';
import { planRequest, requireOtherThan } from './plan.js';

type QuantizeArguments = RunArguments & { readonly out: string };

export function addQuantizeCommand(program: Command, context: CommandContext): void {
  const command = program.command('quantize').description('apply a recipe to a model and write the result as a checkpoint');
  addRunOptions(command, { json: 'one JSON object about the run on stdout', isOutRequired: true });
  command.addHelpText('after', () => `\nMethods:\n\n${builtInMethods.map(({ definition }) => methodHelp(definition)).join('\n\n')}`);
  command.action((reference: string, options: QuantizeArguments) => runQuantize(reference, options, context));
}

async function runQuantize(reference: string, options: QuantizeArguments, context: CommandContext): Promise<void> {
  const { directory } = context;
  const recipe = await readRecipes(options.recipe, directory);
  const out = resolve(directory, options.out);
  const overwrites = options.force === true || (await wasBeingWritten(out, options, directory));
  const claimed = await claimDirectory(out, overwrites, 'go on with a run that was stopped with --resume');
  try {
    const planned = await resolveModel(reference, directory, context.hub, { headers: true });
    await quantizeInto(out, overwrites, planned, recipe, options, context);
  } finally {
    await claimed.release();
  }
}

async function quantizeInto(
  out: string,
  overwrites: boolean,
  planned: ResolvedModel,
  recipe: Recipe,
  options: QuantizeArguments,
  context: CommandContext,
): Promise<void> {
  const { directory } = context;
  const source = planned.checkpoint.path;
  await requireOtherThan(source, out);
  const kept = await findKeptRun(out, options, { directory, force: options.force === true, apart: [source] });
  // Better found out now than when the first block is done.
  const store = await kept?.claim();
  try {
    await quantizeWith({ out, overwrites, kept, store, planned }, recipe, options, context);
  } finally {
    await store?.release();
  }
}

/** Where everything comes from and goes to. */
interface Places {
  readonly out: string;
  readonly overwrites: boolean;
  readonly kept: KeptRun | undefined;
  /** What is kept, claimed. */
  readonly store: ClaimedStore | undefined;
  readonly planned: ResolvedModel;
}

async function quantizeWith(
  { out, overwrites, kept, store, planned }: Places,
  recipe: Recipe,
  options: QuantizeArguments,
  context: CommandContext,
): Promise<void> {
  const { terminal, directory, signal } = context;
  // Calibration text may take minutes to write.
  checkRecipe(recipe, planned.model);
  const source = taskSource(options, directory);
  const opened = source && (await openTask(source, planned));
  const backend = await openBackend(options, widestInput(planned.model) < WIDE);
  const reporter = createReporter(terminal, { isQuiet: options.quiet === true });
  const runFiles = createRunFiles();
  let lock: RunLock | undefined;
  try {
    if (opened) reporter.note(`task: ${opened.report}`);
    const request = planRequest({ resolved: planned, recipe, task: opened?.task, backend }, options);
    const plan = await planRun({ ...request, out, store: kept?.path });
    reporter.note(`plan: ${summarizePlan(plan)}`);
    for (const warning of plan.warnings) reporter.warn(warning);
    const resolved = (await planned.absent?.fetch()) ?? planned;
    const calibration = needsData(recipe)
      ? await calibrationText(textSource(options, directory) ?? resolved.text, options, {
          ...resolved,
          backend,
          seed: options.seed,
          signal,
          progress: (done, total) => reporter.progress('calibration text', resolved.name, done, total),
        })
      : undefined;
    if (calibration) reporter.note(`calibration: ${calibration.report}`);
    lock = lockRun(out);
    if (kept && store) await beginKeptRun(kept, store, options.resume === true, reporter);
    const { versions } = provenanceOf(backend);
    const result = await quantize({
      model: resolved.model,
      backend,
      recipe,
      calibration: calibration?.batches,
      task: opened?.task,
      seed: options.seed,
      propagate: options.propagate,
      store: kept?.store,
      memory: activationMemory(options),
      versions,
      kinds: linearKinds,
      nearest: nearestRounding(backend),
      minTokens: options.minTokens,
      signal,
      onEvent: (event) => {
        // The runner has accepted recipe, model and data when it says that it starts.
        if (event.type === 'run-start') context.startWork();
        reporter.event(event);
        runFiles.event(event);
      },
    });
    await kept?.beginWriting(out);
    const { provenance } = resolved.checkpoint;
    await saveCheckpoint(out, result.model, {
      // Of a checkpoint that is quantized further, the earlier steps too.
      recipe: [...(provenance.recipe ?? []), ...recipe],
      versions: { ...versions, ...resolved.versions },
      seed: options.seed,
      task: opened?.task ?? provenance.task,
      // The table of layers of the source is of another run.
      sideFiles: new Map([...[...resolved.checkpoint.sideFiles].filter(([name]) => name !== LAYER_TABLE), ...runFiles.files()]),
      overwrite: overwrites,
      signal,
      progress: (done, total) => reporter.progress('writing', out, done, total),
    });
    // The checkpoint is whole: nothing will go on from what led to it.
    await store?.clear();
    lock.release();
    reporter.end();
    const bytes = await directoryBytes(out);
    const { bitsPerWeight } = result;
    const seconds = result.milliseconds / 1000;
    terminal.out(
      options.json
        ? `${JSON.stringify({ model: resolved.name, out, bitsPerWeight, bytes, seconds, warnings: result.warnings.length })}\n`
        : `${out}: ${bitsPerWeight.toFixed(3)} bits per weight, ${(bytes / 2 ** 20).toFixed(1)} MiB on disk, ${seconds.toFixed(1)} s${result.warnings.length > 0 ? `, ${result.warnings.length} warnings` : ''}\n`,
    );
  } catch (error) {
    reporter.end();
    // What is kept has what it takes to go on, into a directory that is still empty. What went wrong first is what is told.
    const isKept = kept !== undefined && (await kept.holdsRun().catch(() => false));
    const left = isKept ? [] : await runFiles.leave(out).catch(() => []);
    for (const path of left) reporter.note(`${path}: the run as far as it went`);
    const located = kept ? locateRefusal(error, kept) : error;
    if (isKept && located === error) terminal.err(`${kept.path}: the run as far as it went; the same command with --resume goes on\n`);
    throw located;
  } finally {
    reporter.end();
    lock?.release();
    await backend.dispose();
  }
}

/** Inputs of a Linear from which on programs give their working memory back after each run: beside such matrices it is too much to keep. */
const WIDE = 4096;

function widestInput({ blocks }: Model): number {
  return Math.max(0, ...blocks.flatMap(({ linears }) => Object.values(linears).map(({ inFeatures }) => inFeatures)));
}

/** Drops what is kept when it is not to be gone on with, and says what happens. */
async function beginKeptRun(kept: KeptRun, store: ClaimedStore, isResumed: boolean, reporter: Reporter): Promise<void> {
  if (!isResumed) {
    if (await kept.store.holdsEntries()) await store.clear();
    return;
  }
  reporter.note(`${kept.path}: ${(await kept.holdsRun()) ? 'going on with what is there' : 'nothing to go on with; beginning'}`);
}
