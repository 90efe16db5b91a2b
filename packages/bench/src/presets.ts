// Benchmarks that have a name: what they run, fixed here so that their numbers can be compared over time.
import { LowbitError } from '@lowbit/core';
import type { PlanDraft } from './plan.js';
import { alternation, baseline, brief, correction, full, mixtures, weightOnly, weightsAndInputs } from './preset-recipes.js';
import { didYouMean } from './suggestion.js';

const widths = [8, 4, 3, 2];

/** Three seeds say how much of a difference is noise; each Linear's error says where a recipe loses what it loses. */
const thorough = {
  models: ['tiny', 'stories15M'],
  evaluators: ['text', 'layer-error'],
  seeds: [0, 1, 2],
  calibration: { windows: 128 },
  heldOut: { windows: 40 },
} satisfies Partial<PlanDraft>;

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
  /** Every method at 2 and 4 bits on the embedded model, trained for seconds: minutes in all. */
  demo: {
    models: ['tiny'],
    recipes: [...weightOnly(2, brief), ...weightOnly(4, brief), ...weightsAndInputs],
    evaluators: ['text', 'layer-error'],
    seeds: [0],
    calibration: { windows: 96, window: 128 },
    heldOut: { windows: 32, window: 128 },
  },
  /** Every method at 2, 3 and 4 bits, and with inputs of 4 bits: what to choose from. */
  methods: { ...thorough, recipes: [...[2, 3, 4].flatMap((bits) => weightOnly(bits, full)), ...weightsAndInputs] },
  /** What several plugins make together. */
  mix: { ...thorough, recipes: [baseline('rtn', 2), baseline('gptq', 2), alternation(2), ...mixtures(full)] },
  /** Round-to-nearest and GPTQ at four widths on the embedded model, with decoupleQ and LREC where they matter. */
  tiny: {
    models: ['tiny'],
    recipes: [...widths.flatMap((bits) => [baseline('rtn', bits), baseline('gptq', bits)]), alternation(3), alternation(2), correction(2)],
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
