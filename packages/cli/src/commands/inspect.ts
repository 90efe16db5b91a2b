// lowbit inspect: what a model consists of, and for a quantized one how it was made.
import { type ResolvedModel, resolveModel } from '@lowbit/bench';
import type { Linear, Model } from '@lowbit/core';
import type { Command } from 'commander';
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
function summarize(model: Model): LinearSummary[] {
  const found = new Map<string, LinearSummary>();
  const add = (name: string, { kind, inFeatures, outFeatures, storageBits }: Linear): void => {
    const shape = `${outFeatures} × ${inFeatures}`;
    const bitsPerWeight = storageBits / (inFeatures * outFeatures);
    const key = JSON.stringify([name, kind, shape, bitsPerWeight]);
    found.set(key, { name, kind, shape, bitsPerWeight, count: (found.get(key)?.count ?? 0) + 1 });
  };
  for (const block of model.blocks) for (const group of block.groups) for (const name of group.linears) add(name, block.linears[name]);
  add('lm_head', model.head);
  return [...found.values()];
}

/** Bits per weight over the Linears of all blocks. */
function blockBitsPerWeight(model: Model): number {
  const linears = model.blocks.flatMap((block) => Object.values(block.linears));
  const weights = linears.reduce((sum, { inFeatures, outFeatures }) => sum + inFeatures * outFeatures, 0);
  return linears.reduce((sum, { storageBits }) => sum + storageBits, 0) / weights;
}

export function addInspectCommand(program: Command, context: CommandContext): void {
  const command = program
    .command('inspect')
    .description('show what a model consists of, reading no weights; with --spectrum, what its activations look like')
    .argument('<model>', 'tiny, tiny-outliers, stories15M, or the directory of a checkpoint')
    .option('--json', 'one JSON object on stdout')
    .option('--spectrum', 'energy of the residual stream by rank, and inputs of Linears raw, rotated and decomposed');
  addSpectrumOptions(command);
  command.action(async (reference: string, options: InspectArguments) => {
    if (!options.spectrum) refuseSpectrumOptions(command);
    const resolved = await resolveModel(reference, context.directory);
    if (options.spectrum) await inspectSpectrum(resolved, options, context);
    else inspectParts(resolved, options.json === true, context);
  });
}

/** What the model consists of. */
function inspectParts({ name, model, checkpoint }: ResolvedModel, json: boolean, { terminal }: CommandContext): void {
  const { source: _, ...config } = model.config;
  const { recipe, versions, seed } = checkpoint.provenance;
  const linears = summarize(model);
  const bitsPerWeight = blockBitsPerWeight(model);
  if (json) {
    terminal.out(`${JSON.stringify({ model: name, path: checkpoint.path, config, bitsPerWeight, linears, recipe, versions, seed })}\n`);
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
  terminal.out(['', `made with seed ${seed ?? 'unknown'} by`, ...steps, ''].join('\n'));
}
