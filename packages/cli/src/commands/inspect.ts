// lowbit inspect: what a model consists of, and for a quantized one how it was made.
import { type ResolvedModel, resolveModel } from '@lowbit/bench';
import type { Linear, Model } from '@lowbit/core';
import { type ModelSize, measureSize } from '@lowbit/eval';
import type { Command } from 'commander';
import { MODELS } from '../arguments.js';
import type { CommandContext } from '../context.js';
import { addSpectrumOptions, inspectSpectrum, refuseSpectrumOptions, type SpectrumArguments } from './inspect-spectrum.js';

interface InspectArguments extends SpectrumArguments {
  readonly spectrum?: boolean;
}

/** Linears of one kind and shape in a model. */
interface LinearSummary {
  readonly name: string;
  readonly kind: string;
  readonly shape: string;
  readonly count: number;
  readonly bitsPerWeight: number;
}

/** Linears by name within their block, those of equal kind, shape and size together. */
function summarize(model: Model, { linears }: ModelSize): LinearSummary[] {
  const found = new Map<string, LinearSummary>();
  const sizes = new Map(linears.map(({ path, bitsPerWeight }) => [path, bitsPerWeight]));
  const add = (name: string, { kind, inFeatures, outFeatures, storageBits }: Linear, path = name): void => {
    const shape = `${outFeatures} × ${inFeatures}`;
    const bitsPerWeight = sizes.get(path) ?? storageBits / (model.config.hiddenSize * outFeatures);
    const key = JSON.stringify([name, kind, shape, bitsPerWeight]);
    found.set(key, { name, kind, shape, bitsPerWeight, count: (found.get(key)?.count ?? 0) + 1 });
  };
  for (const block of model.blocks)
    for (const group of block.groups) for (const name of group.linears) add(name, block.linears[name], `${block.path}.${name}`);
  add(model.layout.head, model.head);
  return [...found.values()];
}

/** What transforms have made of the model besides its Linears. */
function transformed({ width, config, blocks }: Model): { residualWidth?: number; keyValues?: string } {
  const roundings = new Set(
    blocks.map(({ keyValues }) =>
      keyValues ? `${keyValues.bits} bits, clipRatio ${keyValues.clipRatio}${keyValues.rotateKeys ? ', keys rotated' : ''}` : 'as they are',
    ),
  );
  return {
    ...(width !== config.hiddenSize && { residualWidth: width }),
    ...(blocks.some(({ keyValues }) => keyValues) && { keyValues: [...roundings].join('; ') }),
  };
}

export function addInspectCommand(program: Command, context: CommandContext): void {
  const command = program
    .command('inspect')
    .description('show what a model consists of, reading no weights; with --spectrum, what its activations look like')
    .argument('<model>', MODELS)
    .option('--json', 'one JSON object on stdout')
    .option('--spectrum', 'energy of the residual stream by rank, and inputs of Linears raw, rotated and decomposed');
  addSpectrumOptions(command);
  command.action(async (reference: string, options: InspectArguments) => {
    if (!options.spectrum) refuseSpectrumOptions(command);
    const resolved = await resolveModel(reference, context.directory, context.hub);
    if (options.spectrum) await inspectSpectrum(resolved, options, context);
    else inspectParts(resolved, options.json === true, context);
  });
}

/** What the model consists of. */
function inspectParts({ name, model, checkpoint }: ResolvedModel, json: boolean, { terminal }: CommandContext): void {
  const { source: _, ...original } = model.config;
  const config = { ...original, ...transformed(model) };
  const { recipe, versions, seed, task } = checkpoint.provenance;
  const size = measureSize(model);
  const linears = summarize(model, size);
  const { bitsPerWeight } = size;
  if (json) {
    terminal.out(
      `${JSON.stringify({ model: name, path: checkpoint.path, config, bitsPerWeight, linears, recipe, versions, seed, task })}\n`,
    );
    return;
  }
  const settings = Object.entries(config).map(([setting, value]) => `  ${setting.padEnd(18)} ${String(value)}`);
  const width = Math.max(...linears.map((linear) => linear.name.length));
  const rows = linears.map(
    (linear) =>
      `  ${linear.name.padEnd(width)}  ${linear.count} × ${linear.kind.padEnd(8)}  ${linear.shape.padStart(14)}  ${linear.bitsPerWeight.toFixed(2)} bits/weight`,
  );
  terminal.out(
    [
      `${name} (${checkpoint.path})`,
      ...settings,
      `  ${'bitsPerWeight'.padEnd(18)} ${bitsPerWeight.toFixed(3)} (Linears of the blocks)`,
      '',
      ...rows,
      '',
    ].join('\n'),
  );
  if (!recipe) return;
  const steps = recipe.map(
    (step) => `  ${step.method} (version ${step.version}) ${JSON.stringify(step.options)} on ${step.targets.join(', ')}`,
  );
  const tuned = task ? ['', `tuned for ${task.description}`] : [];
  terminal.out(['', `made with seed ${seed ?? 'unknown'} by`, ...steps, ...tuned, ''].join('\n'));
}
