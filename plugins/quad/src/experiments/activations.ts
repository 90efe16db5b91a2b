// How large the inputs of layers are, channel by channel: as they are, rotated, and decomposed and rotated.
import type { ArmOutcome, ClaimVerdict, ExperimentClaim, ExperimentRow, RecipeExperiment, StepReference } from '@lowbit/core';
import { ascends, logarithmic, means, panels, type Sample, samplesOf, show, valuesOf } from '@lowbit/core/experiments';
import { z } from 'zod';
import { channelShares } from '../magnitudes.js';
import { arm, protocol, quadStep, RANK, rotateStep } from './arms.js';

/** What the transforms themselves round: nothing. */
const unrounded = { weights: 16, activations: 16, outputs: 16 };

/** Layers that stand for all that read the same, and what is called what they read. */
const inputs: Readonly<Record<string, string>> = { q_proj: 'q, k, v', o_proj: 'o', gate_proj: 'gate, up', down_proj: 'down' };

/** 15 bits and nothing clipped: what blocks hand on is as good as not rounded. */
const look: StepReference = {
  method: 'activations',
  options: { bits: 15, clipRatio: 1, magnitudes: true, targets: Object.keys(inputs).map((name) => `**.${name}`) },
};

/** In the order of the figure. */
const bases: Readonly<Record<string, readonly StepReference[]>> = {
  raw: [],
  rotated: [rotateStep(unrounded)],
  decomposed: [quadStep(unrounded)],
};

const magnitudesRecord = z.object({ rms: z.number(), largest: z.array(z.number()) });

const [loudestAt, medianAt] = [channelShares.indexOf(1), channelShares.indexOf(0.5)];

/** A row for each block and input, and at half the depth one for each share of the channels. */
function rowsOf({ arm: { parameters }, logs }: ArmOutcome): ExperimentRow[] {
  const found = logs.flatMap(({ path, record }) => {
    const [block, name] = [/\.(\d+)\./.exec(path)?.[1], path.slice(path.lastIndexOf('.') + 1)];
    if (block === undefined || !(name in inputs) || !('largest' in record)) return [];
    return [{ block: Number(block), input: inputs[name], ...magnitudesRecord.parse(record) }];
  });
  const middle = Math.floor((Math.max(...found.map(({ block }) => block)) + 1) / 2);
  return found.flatMap(({ block, input, rms, largest }) => {
    const [loudest, median] = [largest[loudestAt], largest[medianAt]];
    const summary = { block, loudest, median, 'channel-ratio': loudest / median, crest: loudest / rms };
    const profile = block === middle ? channelShares.map((channels, i) => ({ channels, magnitude: largest[i] })) : [];
    return [summary, ...profile].map((row) => ({ ...parameters, input, ...row }));
  });
}

/** Inputs in which a field is lower in one basis than in another, in every block and seed. */
interface Comparison {
  readonly field: string;
  readonly low: string;
  readonly high: string;
  readonly of: readonly string[];
}

/** One verdict for each model and input. */
function lower(name: string, statement: string, { field, low, high, of }: Comparison): ExperimentClaim {
  const verdictOf = (rows: readonly ExperimentRow[], subject: string): ClaimVerdict[] => {
    const blocks = valuesOf(rows, 'block');
    const pairs = blocks.flatMap((block) => {
      const settings = [low, high].map((basis) => ({ block, basis }));
      const pair = samplesOf(rows, settings, field);
      return pair ? [pair] : [];
    });
    if (pairs.length === 0) return [];
    const held = pairs.filter(ascends).length;
    const ranges = [low, high].map((basis, i) => `${basis} ${range(pairs.map((pair) => pair[i]))}`);
    const evidence = `${ranges.join(', ')}; in order in ${held} of ${blocks.length} blocks`;
    return [{ subject, holds: held === blocks.length, evidence }];
  };
  return {
    name,
    statement,
    check: (rows) =>
      valuesOf(rows, 'model').flatMap((model) =>
        of.flatMap((input) => {
          const own = rows.filter((row) => row['model'] === model && row['input'] === input);
          return verdictOf(own, `${model}, ${input}`);
        }),
      ),
  };
}

/** '1.42 to 1.64'. */
function range(samples: readonly Sample[]): string {
  const values = samples.flatMap(({ bySeed }) => [...bySeed.values()]);
  return `${show(Math.min(...values))} to ${show(Math.max(...values))}`;
}

const profiles = panels(
  means('y', 'line', {
    x: { field: 'channels', type: 'quantitative', title: 'channels, from the quietest to the loudest', axis: { format: '%' } },
    y: { field: 'magnitude', title: 'largest magnitude', scale: logarithmic },
    color: { field: 'basis', title: 'basis', sort: Object.keys(bases) },
  }),
  { row: { field: 'input', sort: Object.values(inputs) }, independent: ['y'], height: 150 },
);

export const activations: RecipeExperiment = {
  name: 'activations',
  title: 'Magnitudes of what layers read, raw, rotated and decomposed',
  description:
    `The largest magnitude of each input channel over the calibration text, for what q, k and v, o, gate and up, and down of every block read: as it is, rotated (QuaRot), and with ${RANK} directions in full precision and the rest rotated (QUAD; those ${RANK} are left out). ` +
    "The figure has the channels of the block at half the depth in the order of their magnitude. Table and claims are about all blocks: 'median' is the largest magnitude of the median channel, 'channel-ratio' that of the loudest channel over it, 'crest' over the root mean square. " +
    'Look for a rotation that makes channels alike where some are loud (inputs behind norms, and of down; heads have no loud channels in every model, and what o reads need not gain), and a decomposition that makes what is left smaller. It takes energy from the bulk: the largest magnitude of all falls with it in most blocks, not in every one. ' +
    'Bands over tokens, channel by channel, are what `lowbit inspect --spectrum` draws.',
  source: 'arXiv 2503.19353, figure of activations',
  ...protocol,
  models: [...protocol.models, 'stories15M'],
  calibrationWindows: 32,
  evaluators: ['size'],
  arms: Object.entries(bases).map(([basis, steps]) => arm([...steps, look], { basis })),
  rowsOf,
  table: { rows: ['model', 'input', 'basis'], values: ['channel-ratio', 'median', 'crest'] },
  figure: { transform: [{ filter: 'isValid(datum.channels)' }], ...profiles },
  claims: [
    lower('flat', 'Rotating brings the loudest channel closer to the median one, behind norms and before down, in every block and seed', {
      field: 'channel-ratio',
      low: 'rotated',
      high: 'raw',
      of: ['q, k, v', 'gate, up', 'down'],
    }),
    lower(
      'narrow',
      'Behind norms, what a decomposition leaves to be rounded is smaller in the median channel than a rotation alone leaves it, in every block and seed',
      { field: 'median', low: 'decomposed', high: 'rotated', of: ['q, k, v', 'gate, up'] },
    ),
  ],
};
