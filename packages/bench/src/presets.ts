// Benchmarks that have a name: what they run, fixed here so that their numbers can be compared over time.
import type { Step } from '@lowbit/core';
import { LowbitError } from '@lowbit/core';
import { decoupleq } from '@lowbit/decoupleq';
import { gptq } from '@lowbit/gptq';
import { lrec } from '@lowbit/int2-lrec';
import { rtn } from '@lowbit/rtn';
import type { NamedRecipe } from './recipe.js';
import type { BenchOptions } from './run.js';
import { didYouMean } from './suggestion.js';

export type Preset = Pick<BenchOptions, 'models' | 'recipes' | 'evaluators' | 'seeds' | 'calibration' | 'heldOut' | 'task'>;

const methods = { rtn, gptq } as const;

/** 'gptq-2' with groups of 32. */
function baseline(method: keyof typeof methods, bits: number): NamedRecipe {
  const step: Step = methods[method]({ bits, groupSize: 32 });
  return { name: `${method}-${bits}`, recipe: [step] };
}

/** Layer by layer alone: training the blocks as well takes several times as long. */
function alternation(bits: number): NamedRecipe {
  return { name: `decoupleq-${bits}`, recipe: [decoupleq({ bits, groupSize: 32, blockEpochs: 0 })] };
}

/** GPTQ with adapters of 5 % of the checkpoint. */
function correction(bits: number): NamedRecipe {
  return { name: `gptq-${bits}+lrec`, recipe: [gptq({ bits, groupSize: 32 }), lrec()] };
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
} satisfies Record<string, Preset>;

export const presetNames: readonly string[] = Object.keys(presets);

/** @throws PRESET_UNKNOWN naming the known ones. */
export function presetOf(name: string): Preset {
  if (!Object.hasOwn(presets, name)) throw new LowbitError('PRESET_UNKNOWN', `no preset '${name}'; ${didYouMean(name, presetNames)}`);
  return presets[name as keyof typeof presets];
}
