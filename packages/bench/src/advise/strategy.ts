// The staged strategy: quantize by several methods, and where none is good enough, train what hurts most, then more of it.
import { LowbitError, type StepReference } from '@lowbit/core';
import { describeError, rethrowAbort } from '../failure.js';
import type { Threshold } from './threshold.js';

/** A recipe under the name that people read. */
export interface AdviceRecipe {
  readonly name: string;
  readonly steps: readonly StepReference[];
}

/** A recipe without training end to end. */
export interface Candidate extends AdviceRecipe {
  /** Bits of a code: fewer are tried first. */
  readonly bits: number;
}

export interface AdvicePlan {
  readonly threshold: Threshold;
  /** Of equal bits, the ones that take less work first. */
  readonly candidates: readonly Candidate[];
  /** Trains what a candidate gave; its steps are applied after the candidate's, to the parts that hurt. */
  readonly tuner: AdviceRecipe;
  /** Parts that are trained, of all that were quantized: a share a trial, ascending. A quarter, a half, all by default. */
  readonly shares?: readonly number[];
}

/** What quantizing a part of the model, and nothing else, does to the answers. */
export interface PartDamage {
  /** Path of a Linear or a block. */
  readonly path: string;
  /** Globs for the Linears in it. */
  readonly targets: readonly string[];
  /** Mean KL divergence from the dense model, nats a token. */
  readonly kl: number;
}

/** A model that a recipe gave, judged. */
interface Attempt<Made> {
  readonly made: Made;
  readonly bitsPerWeight: number;
  readonly value: number;
  readonly stderr: number;
  /** Wall time of making it. */
  readonly seconds: number;
}

/** Where the strategy gets its facts. */
export interface Workbench<Made> {
  attempt(recipe: AdviceRecipe): Promise<Attempt<Made>>;
  /** Every part that a recipe quantized. */
  damages(made: Made): Promise<readonly PartDamage[]>;
}

interface TrialBase extends Candidate {
  readonly stage: 'quantize' | 'train';
}

export interface MeasuredTrial extends TrialBase {
  readonly bitsPerWeight: number;
  readonly value: number;
  readonly stderr: number;
  readonly seconds: number;
  readonly isMet: boolean;
}

interface FailedTrial extends TrialBase {
  readonly error: { readonly code: string; readonly message: string };
}

export type Trial = MeasuredTrial | FailedTrial;

/** Where quantizing to some width hurts. */
export interface DamageReport {
  readonly bits: number;
  /** Name of the recipe that it was measured on. */
  readonly recipe: string;
  /** The worst first. */
  readonly parts: readonly PartDamage[];
}

export interface Advice<Made> {
  readonly threshold: Threshold;
  readonly trials: readonly Trial[];
  readonly damages: readonly DamageReport[];
  /** The first that meets the threshold, in the order that is tried: of one width the one of fewest bits a weight. If none does, the nearest to it. */
  readonly best: MeasuredTrial;
  readonly made: Made;
}

export interface AdviseOptions {
  readonly onTrial?: ((trial: Trial) => void) | undefined;
  readonly onDamages?: ((report: DamageReport) => void) | undefined;
  readonly signal?: AbortSignal | undefined;
}

const SHARES = [0.25, 0.5, 1];

interface Tried<Made> {
  readonly trial: MeasuredTrial;
  readonly made: Made;
}

/**
 * Tries the candidates, those of fewest bits first, all of a width before the next. If none meets the threshold, takes the nearest of
 * each width and trains growing shares of its parts, the worst first; each trial begins from the dense model, so that its recipe alone
 * repeats it. A trial that fails is one of the trials, and the others go on.
 * @throws ADVISE_FAILED when every candidate failed; ABORTED when the signal is.
 */
export async function advise<Made>(plan: AdvicePlan, workbench: Workbench<Made>, options: AdviseOptions = {}): Promise<Advice<Made>> {
  const { threshold, candidates, tuner, shares = SHARES } = plan;
  const trials: Trial[] = [];
  const damages: DamageReport[] = [];
  const nearest: Tried<Made>[] = [];
  const adviceOf = ({ trial, made }: Tried<Made>): Advice<Made> => ({ threshold, trials, damages, best: trial, made });

  const attempt = async (stage: TrialBase['stage'], candidate: Candidate): Promise<Tried<Made> | undefined> => {
    const { name, bits, steps } = candidate;
    const add = <One extends Trial>(trial: One): One => {
      trials.push(trial);
      options.onTrial?.(trial);
      return trial;
    };
    try {
      const { made, ...measured } = await workbench.attempt(candidate);
      if (!Number.isFinite(measured.value)) {
        throw new LowbitError(
          'NOT_FINITE',
          `${name}: ${threshold.metric} is ${measured.value}; the weights or activations of the model overflow`,
        );
      }
      const isMet = measured.value <= threshold.value;
      return { trial: add({ name, stage, bits, steps, ...measured, isMet }), made };
    } catch (error) {
      rethrowAbort(error, options.signal);
      add({ name, stage, bits, steps, error: describeError(error) });
      return undefined;
    }
  };

  for (const bits of [...new Set(candidates.map((one) => one.bits))].sort((a, b) => a - b)) {
    const tried: Tried<Made>[] = [];
    for (const candidate of candidates.filter((one) => one.bits === bits)) {
      const one = await attempt('quantize', candidate);
      if (one) tried.push(one);
    }
    const cheapest = leastOf(
      tried.filter(({ trial }) => trial.isMet),
      ({ bitsPerWeight }) => bitsPerWeight,
    );
    if (cheapest) return adviceOf(cheapest);
    const ofWidth = leastOf(tried, ({ value }) => value);
    if (ofWidth) nearest.push(ofWidth);
  }

  let best = leastOf(nearest, ({ value }) => value);
  for (const { trial: start, made } of nearest) {
    const parts = [...(await workbench.damages(made))].sort((a, b) => b.kl - a.kl);
    if (parts.length === 0) continue;
    const report = { bits: start.bits, recipe: start.name, parts };
    damages.push(report);
    options.onDamages?.(report);
    for (const count of new Set(shares.map((share) => Math.ceil(share * parts.length)))) {
      const one = await attempt('train', trained(start, tuner, parts, count));
      if (one?.trial.isMet) return adviceOf(one);
      // Models that are not the nearest are let go.
      if (one) best = leastOf(best ? [best, one] : [one], ({ value }) => value);
    }
  }
  if (best) return adviceOf(best);
  const reasons = trials.flatMap((trial) => ('error' in trial ? [`${trial.name}: ${trial.error.message}`] : []));
  throw new LowbitError('ADVISE_FAILED', `no recipe could be tried: ${reasons.join('; ')}`);
}

/** A candidate with the tuner on its worst parts. */
function trained(start: Candidate, tuner: AdviceRecipe, parts: readonly PartDamage[], count: number): Candidate {
  const isAll = count === parts.length;
  const targets = isAll ? {} : { targets: parts.slice(0, count).flatMap((part) => part.targets) };
  return {
    name: `${start.name} + ${tuner.name} on ${isAll ? `all ${count}` : `the worst ${count} of ${parts.length}`}`,
    bits: start.bits,
    steps: [...start.steps, ...tuner.steps.map((step) => ({ ...step, options: { ...step.options, ...targets } }))],
  };
}

/** The first of the least. */
function leastOf<Made>(tried: readonly Tried<Made>[], of: (trial: MeasuredTrial) => number): Tried<Made> | undefined {
  return tried.reduce<Tried<Made> | undefined>((best, one) => (best && !(of(one.trial) < of(best.trial)) ? best : one), undefined);
}
