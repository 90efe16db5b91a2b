// Blocks first, then the model: the two phases of EfficientQAT, alone and together.
import type { ExperimentRow, RecipeExperiment, StepReference } from '@lowbit/core';
import { claimOn } from '@lowbit/core/experiments';
import { arm, blocksStep, codesStep, decoupleqStep, inGroups, protocol, rtnStep, scalesStep } from './arms.js';
import { ascending } from './claims.js';
import { gapDots } from './figure.js';

const NONE = 'none';
const BLOCKS = 'blocks';
const SCALES = 'scales of the model';
const BOTH = 'blocks, then scales of the model';
const ALL = 'the whole model';
const BLOCKS_ALL = 'blocks, then the whole model';

const format = inGroups(2);
const blocks = blocksStep(format.bits);
const scales = scalesStep(format.bits);
const whole = codesStep(format.bits);

/** By the name of the arm, in the order of the figure. */
const trainings: Readonly<Record<string, readonly StepReference[]>> = {
  [NONE]: [],
  [BLOCKS]: [blocks],
  [SCALES]: [scales],
  [BOTH]: [blocks, scales],
  [ALL]: [whole],
  [BLOCKS_ALL]: [blocks, whole],
};

const starts = { RTN: rtnStep(format), decoupleQ: decoupleqStep(format) };

function at(start: string, ...trained: readonly string[]): Record<string, ExperimentRow> {
  return Object.fromEntries(trained.map((one) => [one, { start, trained: one }]));
}

const names = Object.keys(starts);

export const stages: RecipeExperiment = {
  name: 'stages',
  title: 'Training block by block, the scales of the whole model, or both; 2 bits',
  description:
    'Codes of 2 bits in groups of 32, rounded to nearest as in EfficientQAT, or by decoupleQ. Then weights, scales and offsets of each block are trained towards the output of the dense block, or scales and offsets of the whole model towards its answers with the codes as they are, or one after the other; ' +
    'for comparison weights, scales and offsets of the whole model at once. Blocks need the memory of one block, scales next to none; the whole model needs weights, gradients and moments of all weights in float32. Look for how much of the gain of training everything the two cheap phases reach together.',
  source: 'arXiv 2407.11062, ablation of the two phases',
  ...protocol,
  models: ['tiny'],
  arms: Object.entries(starts).flatMap(([start, step]) =>
    Object.entries(trainings).map(([trained, steps]) => arm([step, ...steps], { start, trained })),
  ),
  table: { rows: ['model', 'start', 'trained'], values: ['loss-gap', 'kl', 'perplexity', 'seconds'] },
  figure: gapDots('trained', Object.keys(trainings), { color: { field: 'start', title: 'start', sort: names } }),
  claims: [
    claimOn(
      'phases',
      'Blocks and then scales add less loss than either alone, and either less than the start, in every seed',
      names.flatMap((start) => [BLOCKS, SCALES].map((one) => ascending(`2 bits, ${start}`, at(start, BOTH, one, NONE)))),
    ),
  ],
};
