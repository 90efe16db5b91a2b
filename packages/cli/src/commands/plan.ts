// lowbit plan: checks a run of quantize and says what it will take, without reading a weight or writing anything.
import { existsSync } from 'node:fs';
import { realpath } from 'node:fs/promises';
import { resolve } from 'node:path';
import { calibrationText, checkWindow, defaultWindow, needsData, openTask, type ResolvedModel, resolveModel } from '@lowbit/bench';
import { type Backend, type FinetuneTask, LowbitError, type Recipe } from '@lowbit/core';
import { checkRecipe } from '@lowbit/pipeline';
import type { Command } from 'commander';
import { openBackend, textSource } from '../arguments.js';
import { type CommandContext, claimDirectory } from '../context.js';
import { activationMemory, findKeptRun, wasBeingWritten } from '../kept-run.js';
import { formatDuration } from '../progress.js';
import { readRecipes } from '../recipe.js';
import { createReporter } from '../reporter.js';
import { addRunOptions, type RunArguments } from '../run-arguments.js';
import { formatBytes, type PlanRequest, planRun, type RunPlan } from '../run-plan.js';
import { taskSource } from '../task-arguments.js';

export function addPlanCommand(program: Command, context: CommandContext): void {
  const command = program
    .command('plan')
    .description('check what quantize would be told, and estimate time, memory and disk; takes the same options and writes nothing');
  addRunOptions(command, { json: 'one JSON object on stdout: estimates in seconds and bytes', isOutRequired: false });
  command.action((reference: string, options: RunArguments) => runPlan(reference, options, context));
}

async function runPlan(reference: string, options: RunArguments, context: CommandContext): Promise<void> {
  const { directory, terminal } = context;
  const recipe = await readRecipes(options.recipe, directory);
  const out = options.out === undefined ? undefined : resolve(directory, options.out);
  // Whether it can be made and written to is known when it has been.
  if (out !== undefined) {
    const overwrites = options.force === true || (await wasBeingWritten(out, options, directory));
    await (await claimDirectory(out, overwrites)).release();
  }
  const resolved = await resolveModel(reference, directory, context.hub, { headers: true });
  const model = resolved.checkpoint.path;
  if (out !== undefined) await requireOtherThan(model, out);
  const kept = await findKeptRun(out, options, { directory, force: options.force === true, apart: [model] });
  await (await kept?.claim())?.release();
  checkRecipe(recipe, resolved.model);
  const source = taskSource(options, directory);
  const opened = source && (await openTask(source, resolved));
  const reporter = createReporter(terminal, { isQuiet: options.quiet === true });
  const backend = await openBackend(options);
  try {
    if (opened) reporter.note(`task: ${opened.report}`);
    const text = needsData(recipe) ? await checkText(resolved, options, backend, context) : undefined;
    if (text !== undefined) reporter.note(`calibration: ${text}`);
    const request = planRequest({ resolved, recipe, task: opened?.task, backend }, options);
    const plan = await planRun({ ...request, out, store: kept?.path });
    for (const warning of plan.warnings) reporter.warn(warning);
    terminal.out(options.json ? `${JSON.stringify(jsonOf(resolved, plan))}\n` : `${describePlan(resolved, plan)}\n`);
  } finally {
    await backend.dispose();
  }
}

/** @throws OUTPUT_IS_SOURCE: weights are read while the result is written, and a save that is cut off would leave neither. */
export async function requireOtherThan(model: string, out: string): Promise<void> {
  if (!existsSync(out) || (await realpath(out)) !== (await realpath(model))) return;
  throw new LowbitError('OUTPUT_IS_SOURCE', `${out}: is the model that is to be quantized; choose another output directory`);
}

/** What of a plan follows from the options that plan and quantize share. */
export function planRequest(
  { resolved, recipe, task, backend }: { resolved: ResolvedModel; recipe: Recipe; task: FinetuneTask | undefined; backend: Backend },
  options: RunArguments,
): Omit<PlanRequest, 'out' | 'store'> {
  const { model, absent } = resolved;
  const tokens = checkWindow(options.window ?? defaultWindow(model), model);
  return {
    model,
    absent,
    recipe,
    backend,
    calibration: needsData(recipe) ? { windows: options.windows, tokens } : undefined,
    task: task && { windows: task.train.count, tokens: task.train.length },
    propagate: options.propagate,
    hasStore: options.store !== false,
    memory: activationMemory(options),
  };
}

/** Text is read and cut as for a run. What the model itself would write is not written. @throws what reading and cutting throws. */
async function checkText(
  resolved: ResolvedModel,
  options: RunArguments,
  backend: Backend,
  { directory, signal }: CommandContext,
): Promise<string> {
  const source = textSource(options, directory) ?? resolved.text;
  const { windows, seed } = options;
  if (source.kind === 'self') return `${windows} windows that the model is to write, which takes time that is not in the plan`;
  return (await calibrationText(source, options, { ...resolved, backend, seed, signal })).report;
}

function jsonOf({ name, absent }: ResolvedModel, { steps, seconds, rates, memory, disk, warnings }: RunPlan): unknown {
  const ofSteps = steps.map(({ method, targets, seconds, cost }) => ({ method, targets, seconds, ...cost }));
  return { model: name, fetchBytes: absent?.bytes ?? 0, seconds, memory, disk, steps: ofSteps, rates, warnings };
}

function describePlan({ name, model, absent }: ResolvedModel, { steps, seconds, rates, memory, disk }: RunPlan): string {
  const rows = [['step', 'method', 'Linears', 'time', 'memory']];
  for (const { index, method, targets, seconds, cost } of steps) {
    rows.push([String(index), method, String(targets), duration(seconds), formatBytes(cost.bytes)]);
  }
  const widths = rows[0].map((_, column) => Math.max(...rows.map((row) => row[column].length)));
  const table = rows.map((row) =>
    row
      .map((cell, column) => cell.padEnd(widths[column]))
      .join('  ')
      .trimEnd(),
  );
  const place = disk.freeBytes === undefined ? '' : `, ${formatBytes(disk.freeBytes)} free`;
  return [
    `${name}: ${model.blocks.length} blocks`,
    ...table,
    `time    about ${duration(seconds)}, at ${(rates.flops / 1e9).toFixed(0)} GFLOP/s in matrix products, measured just now`,
    `memory  about ${formatBytes(memory.peakBytes)} at the peak, ${formatBytes(memory.availableBytes)} available`,
    `disk    about ${formatBytes(disk.outputBytes)} for the checkpoint and ${formatBytes(disk.storeBytes)} for the store until it is written${place}`,
    ...(absent ? [`weights ${formatBytes(absent.bytes)} are not in ${absent.cache} yet, and are fetched by quantize`] : []),
  ].join('\n');
}

function duration(seconds: number): string {
  return formatDuration(Math.max(1, seconds));
}
