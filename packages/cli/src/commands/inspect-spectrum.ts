// lowbit inspect --spectrum: the energy that few directions of the residual stream hold, and what rotations leave of outliers.
import { writeFile } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { calibrationText, drawFigure, provenanceOf, type ResolvedModel } from '@lowbit/bench';
import { createRng, LowbitError } from '@lowbit/core';
import {
  type ActivationSpectrum,
  activationSpectrum,
  bandNames,
  bandRows,
  bandsFigure,
  bandsOver,
  checkSpectrumRank,
  defaultRank,
  energyFigure,
  energyRows,
} from '@lowbit/quad';
import type { Command } from 'commander';
import {
  addEngineOptions,
  addTextOptions,
  addWindowOptions,
  type EngineArguments,
  integer,
  type OutputArguments,
  openBackend,
  type TextArguments,
  textSource,
  type WindowArguments,
} from '../arguments.js';
import { type CommandContext, claimDirectory } from '../context.js';
import { createReporter } from '../reporter.js';

export interface SpectrumArguments extends EngineArguments, OutputArguments, TextArguments, WindowArguments {
  readonly rank?: number;
  readonly out?: string;
  readonly force?: boolean;
}

/** Every option that means something with --spectrum alone. */
export function addSpectrumOptions(command: Command): void {
  command.option('--rank <count>', 'directions taken out (64, or a sixteenth of the width if that is less)', integer(1));
  addWindowOptions(command, { use: 'windows of text', count: 16, seed: 'of the choice of windows and of the rotation' });
  command.option('--out <directory>', 'where figures and values of all channels go').option('--force', 'overwrite what is there');
  addTextOptions(command, 'text that goes through the model');
  addEngineOptions(command);
  command.option('--quiet', 'no progress, only results, warnings and errors');
}

/** @throws INSPECT_OPTIONS naming an option that was given and means nothing without --spectrum. */
export function refuseSpectrumOptions(command: Command): void {
  const free = ['json', 'spectrum'];
  const given = command.options.find((option) => {
    const name = option.attributeName();
    return !free.includes(name) && command.getOptionValueSource(name) === 'cli';
  });
  if (given) throw new LowbitError('INSPECT_OPTIONS', `${given.long} is about activations; add --spectrum, or leave it out`);
}

export async function inspectSpectrum(
  resolved: ResolvedModel,
  options: SpectrumArguments,
  { terminal, directory, signal, startWork }: CommandContext,
): Promise<void> {
  const { name, model, checkpoint } = resolved;
  const { seed, rank = defaultRank(model.width) } = options;
  // Text may take minutes to write.
  checkSpectrumRank(model, rank);
  const out = options.out === undefined ? undefined : resolve(directory, options.out);
  const claimed = out === undefined ? undefined : await claimDirectory(out, options.force === true);
  const reporter = createReporter(terminal, { isQuiet: options.quiet === true });
  try {
    const backend = await openBackend(options);
    try {
      const progress = (stage: string) => (done: number, total: number) => reporter.progress(stage, name, done, total);
      const source = textSource(options, directory) ?? resolved.text;
      const { batches, report } = await calibrationText(source, options, {
        ...resolved,
        backend,
        seed,
        signal,
        progress: progress('text'),
      });
      reporter.note(`activations on ${report}`);
      const advance = progress('spectrum');
      const spectrum = await activationSpectrum(model, backend, batches, {
        rank,
        rng: createRng(seed).at('spectrum'),
        signal,
        progress: (done, total) => {
          // Model and text have been accepted.
          startWork();
          advance(done, total);
        },
      });
      reporter.end();
      const { width, tokens, energy } = spectrum;
      const record = { model: name, path: checkpoint.path, text: batches.description, seed, width, tokens, rank, energy };
      if (out !== undefined) await writeSpectrum(out, spectrum, { ...record, ...provenanceOf(backend) });
      terminal.out(options.json ? `${JSON.stringify({ ...record, inputs: summaries(spectrum) })}\n` : describeSpectrum(name, spectrum));
      if (out !== undefined) reporter.note(`figures and values of all channels are in ${out}`);
    } finally {
      await backend.dispose();
    }
  } finally {
    reporter.end();
    await claimed?.release();
  }
}

async function writeSpectrum(out: string, spectrum: ActivationSpectrum, record: object): Promise<void> {
  const inputs = spectrum.inputs.map((input) => ({
    ...input,
    bands: Object.fromEntries(bandNames.map((name) => [name, Array.from(input.bands[name], rounded)])),
  }));
  const energy = await drawFigure(energyFigure, 'Energy of the residual stream in its strongest directions', energyRows(spectrum));
  const title = `Inputs behind norms: raw, rotated, and with ${spectrum.rank} directions apart (left of 0)`;
  const bands = await drawFigure(bandsFigure, title, bandRows(spectrum));
  await writeFile(join(out, 'energy.svg'), energy.svg);
  await writeFile(join(out, 'inputs.svg'), bands.svg);
  await writeFile(join(out, 'spectrum.json'), `${JSON.stringify({ ...record, inputs })}\n`);
}

/** What is left of a float32 in six digits. */
function rounded(value: number): number {
  return Number(value.toPrecision(6));
}

/** Each input and basis over all channels that would be rounded. */
function summaries({ inputs }: ActivationSpectrum) {
  return inputs.map(({ block, input, basis, outliers, channels, bands }) => {
    const over = bandsOver(bands, outliers, channels);
    return { block, input, basis, outliers, ...Object.fromEntries(bandNames.map((name) => [name, rounded(over[name])])) };
  });
}

function describeSpectrum(name: string, spectrum: ActivationSpectrum): string {
  const { width, tokens, rank, energy, inputs } = spectrum;
  const percent = (share: number): string => `${(100 * share).toFixed(1)} %`.padStart(12);
  const number = (value: number): string => value.toFixed(2).padStart(8);
  const lines = [
    `${name}: residual stream of width ${width}, ${tokens} tokens`,
    '',
    'energy in the strongest directions, of what norms read and of what they give',
    ...energy.map((at) => `  ${String(at.rank).padStart(5)}${percent(at.pre)}${percent(at.post)}`),
    '',
    `inputs: raw, with the weight of the norm; rotated; decomposed, without ${rank} directions that stay in full precision`,
    'least and largest value of all channels, and means over channels of percentiles',
  ];
  for (const [i, { block, input, basis, outliers, channels, bands }] of inputs.entries()) {
    if (i === 0 || inputs[i - 1].block !== block || inputs[i - 1].input !== input) {
      lines.push(`  ${`${block} ${input}`.padEnd(40)}${[...bandNames].map((band) => band.padStart(8)).join('')}`);
    }
    const over = bandsOver(bands, outliers, channels);
    lines.push(`    ${basis.padEnd(38)}${bandNames.map((band) => number(over[band])).join('')}`);
  }
  return `${lines.join('\n')}\n`;
}
