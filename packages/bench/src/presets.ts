// Benchmarks that have a name: what they run, fixed here so that their numbers can be compared over time.
import { LowbitError, type StepReference } from '@lowbit/core';
import type { PlanDraft } from './plan.js';
import { didYouMean } from './suggestion.js';

type DraftRecipe = PlanDraft['recipes'][number];

const GROUP = 32;

function step(method: string, options: Readonly<Record<string, unknown>> = {}): StepReference {
  return { method, options };
}

/** 'gptq-2' with groups of 32. */
function baseline(method: 'rtn' | 'gptq', bits: number): DraftRecipe {
  return { name: `${method}-${bits}`, steps: [step(method, { bits, groupSize: GROUP })] };
}

/** Layer by layer alone: training the blocks as well takes several times as long. */
function alternation(bits: number): DraftRecipe {
  return { name: `decoupleq-${bits}`, steps: [step('decoupleq', { bits, groupSize: GROUP, blockEpochs: 0 })] };
}

/** GPTQ with adapters of 5 % of the checkpoint. */
function correction(bits: number): DraftRecipe {
  return { name: `gptq-${bits}+lrec`, steps: [step('gptq', { bits, groupSize: GROUP }), step('lrec')] };
}

const widths = [8, 4, 3, 2];
const baselines = widths.flatMap((bits) => [baseline('rtn', bits), baseline('gptq', bits)]);

const presets = {
  /** A few seconds: is everything in place? */
  quick: {
    models: ['tiny'],
    recipes: [baseline('rtn', 3), baseline('gptq', 3)],
    evaluators: ['text'],
    seeds: [0],
    calibration: { windows: 32 },
    heldOut: { windows: 16 },
  },
  /** Round-to-nearest and GPTQ at four widths on a pretrained model, on text that the model writes itself. */
  demo: {
    models: ['stories15M'],
    recipes: baselines,
    evaluators: ['text'],
    seeds: [0],
    calibration: { windows: 64 },
    heldOut: { windows: 40 },
  },
  /** The same on the embedded model, calibrated and judged on speeches, with decoupleQ and LREC where they matter. */
  tiny: {
    models: ['tiny'],
    recipes: [...baselines, alternation(3), alternation(2), correction(2)],
    evaluators: ['text'],
    seeds: [0],
    calibration: { windows: 64 },
    heldOut: { windows: 40 },
  },
} satisfies Record<string, PlanDraft>;

export const presetNames: readonly string[] = Object.keys(presets);

/** @throws PRESET_UNKNOWN naming the known ones. */
export function presetOf(name: string): PlanDraft {
  if (!Object.hasOwn(presets, name)) throw new LowbitError('PRESET_UNKNOWN', `no preset '${name}'; ${didYouMean(name, presetNames)}`);
  return presets[name as keyof typeof presets];
}
