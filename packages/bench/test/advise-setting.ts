// A workbench of made-up numbers, on which the staged strategy is tried.
import { LowbitError } from '@lowbit/core';
import type { AdvicePlan, AdviceRecipe, Beginning, Candidate, PartDamage, Workbench } from '../src/advise/strategy.js';
import type { Threshold } from '../src/advise/threshold.js';

export const kl = (value: number): Threshold => ({ metric: 'kl', value });

function candidate(method: string, bits: number): Candidate {
  return { name: `${method}-${bits}`, bits, steps: [{ method, options: { bits } }] };
}

export const tuner: AdviceRecipe = { name: 'tuned', steps: [{ method: 'tune', options: { epochs: 1 } }] };

/** Parts a to h; d hurts most, then b, then the others in order. */
export const damaged: readonly PartDamage[] = [...'abcdefgh'].map((path, i) => ({
  path,
  targets: [`${path}.**`],
  linears: [`${path}.q_proj`, `${path}.k_proj`],
  kl: { d: 9, b: 8 }[path] ?? 1 - i / 10,
}));

export interface Fake extends Workbench<string> {
  /** What was attempted, in order, and what it began with. */
  readonly attempted: readonly AdviceRecipe[];
  readonly beginnings: readonly (Beginning<string> | undefined)[];
  /** Models that were judged on fresh text. */
  readonly looked: readonly string[];
}

/** What a fake says besides values: bits a weight are 2.5 unless said, and fresh text a thousandth worse. */
interface FakeSettings {
  readonly bitsPerWeight?: Readonly<Record<string, number>>;
  /** Values on fresh text; a text is the message of a failure. */
  readonly fresh?: Readonly<Record<string, number | string>>;
  readonly damages?: Workbench<string>['damages'];
  readonly parts?: Workbench<string>['parts'];
}

/** Values by name; a text is the message of a failure. */
export function fake(values: Readonly<Record<string, number | string>>, settings: FakeSettings = {}): Fake {
  const { bitsPerWeight = {}, fresh = {}, damages = async () => damaged, parts = () => damaged } = settings;
  const attempted: AdviceRecipe[] = [];
  const beginnings: (Beginning<string> | undefined)[] = [];
  const looked: string[] = [];
  const numberOf = (value: number | string): number => {
    if (typeof value !== 'number') throw new LowbitError('NOT_FINITE', value);
    return value;
  };
  return {
    ...{ attempted, beginnings, looked, damages, parts },
    async attempt(recipe, beginning) {
      attempted.push(recipe);
      beginnings.push(beginning);
      const value = numberOf(values[recipe.name]);
      const seconds = 3 + (beginning?.seconds ?? 0);
      return { made: `model of ${recipe.name}`, bitsPerWeight: bitsPerWeight[recipe.name] ?? 2.5, value, stderr: 0.01, seconds };
    },
    async confirm(made) {
      const name = made.replace('model of ', '');
      looked.push(name);
      return { value: numberOf(fresh[name] ?? Number(values[name]) - 0.001), stderr: 0.02 };
    },
  };
}

export const plan: AdvicePlan = {
  threshold: kl(0.1),
  candidates: [candidate('rtn', 3), candidate('rtn', 2), candidate('gptq', 2)],
  tuner,
};
