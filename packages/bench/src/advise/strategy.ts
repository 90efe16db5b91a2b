// The staged strategy: quantize by several methods, and where none is good enough, train what hurts most, then more of it.
import { LowbitError, type StepReference } from '@lowbit/core';
import { compileGlob } from '@lowbit/pipeline';
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

/** What a recipe has quantized: a Linear, or those of a block. */
export interface ModelPart {
  /** Path of a Linear or a block. */
  readonly path: string;
  /** Globs for the quantized Linears in it, and for no other: a tuner would quantize a dense one. */
  readonly targets: readonly string[];
  /** Paths of these. */
  readonly linears: readonly string[];
}

/** What quantizing a part of the model, and nothing else, does to the answers. */
export interface PartDamage extends ModelPart {
  /** Mean KL divergence from the dense model, nats a token. */
  readonly kl: number;
}

/** What the metric is for a model, on some text. */
interface Judgement {
  readonly value: number;
  readonly stderr: number;
}

/** A model that a recipe gave, judged. */
interface Attempt<Made> extends Judgement {
  readonly made: Made;
  readonly bitsPerWeight: number;
  /** Wall time of making it, that of its beginning counted. */
  readonly seconds: number;
}

/** A model that the first steps of a recipe gave. */
export interface Beginning<Made> {
  readonly made: Made;
  readonly steps: number;
  /** Wall time of making it. */
  readonly seconds: number;
}

/** Where the strategy gets its facts. */
export interface Workbench<Made> {
  /** Judged on the text that trials are chosen by. `beginning` saves the steps that made it; the outcome is the same without. */
  attempt(recipe: AdviceRecipe, beginning?: Beginning<Made>): Promise<Attempt<Made>>;
  /** On text that no trial is chosen by. */
  confirm(made: Made): Promise<Judgement>;
  /** Every part that a recipe quantized, in the order of computation. */
  parts(made: Made): readonly ModelPart[];
  /** The same, measured. */
  damages(made: Made): Promise<readonly PartDamage[]>;
}

interface TrialBase extends Candidate {
  /** 'damage': a quantized model was taken apart, and that failed, or it has no parts. */
  readonly stage: 'quantize' | 'damage' | 'train';
}

export interface MeasuredTrial extends TrialBase, Judgement {
  readonly bitsPerWeight: number;
  /** Of making it, from the dense model on. */
  readonly seconds: number;
  /** On fresh text: of a trial that meets the threshold on the text that trials are chosen by. */
  readonly confirmed?: Judgement;
  /** On both texts. */
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
  /**
   * The first that meets the threshold, in the order that is tried: of one width the one of fewest bits a weight. If none does, the nearest
   * to it. Undefined where every trial failed.
   */
  readonly best: MeasuredTrial | undefined;
  /** The model of `best`. */
  readonly made: Made | undefined;
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
 * each width and trains growing shares of its parts, the worst first, or all where they cannot be told apart. The least of many values on
 * one text is lower than it would be on another, so what meets the threshold must meet it on fresh text too. A trial that fails is one
 * of the trials, and the others go on.
 * @throws ABORTED when the signal is.
 */
export async function advise<Made>(plan: AdvicePlan, workbench: Workbench<Made>, options: AdviseOptions = {}): Promise<Advice<Made>> {
  const { threshold, candidates, tuner, shares = SHARES } = plan;
  const trials: Trial[] = [];
  const damages: DamageReport[] = [];
  const nearest: Tried<Made>[] = [];
  const adviceOf = (best: Tried<Made> | undefined): Advice<Made> => ({ threshold, trials, damages, best: best?.trial, made: best?.made });

  const add = <One extends Trial>(trial: One): One => {
    trials.push(trial);
    options.onTrial?.(trial);
    return trial;
  };
  const fail = (stage: TrialBase['stage'], { name, bits, steps }: Candidate, error: unknown): undefined => {
    rethrowAbort(error, options.signal);
    add({ name, stage, bits, steps, error: describeError(error) });
  };

  const attempt = async (stage: TrialBase['stage'], candidate: Candidate, start?: Tried<Made>): Promise<Tried<Made> | undefined> => {
    const { name, bits, steps } = candidate;
    const beginning = start && { made: start.made, steps: start.trial.steps.length, seconds: start.trial.seconds };
    let tried: Tried<Made>;
    try {
      const { made, ...measured } = await workbench.attempt(candidate, beginning);
      checkFinite(name, threshold, measured);
      const isEnough = measured.value <= threshold.value;
      const confirmed = isEnough ? await workbench.confirm(made) : undefined;
      if (confirmed) checkFinite(name, threshold, confirmed);
      const isMet = confirmed !== undefined && confirmed.value <= threshold.value;
      tried = { trial: { name, stage, bits, steps, ...measured, ...(confirmed && { confirmed }), isMet }, made };
    } catch (error) {
      return fail(stage, candidate, error);
    }
    add(tried.trial);
    return tried;
  };

  /** Recipes that train growing shares of a model's parts, the worst first; all at once where they cannot be told apart. */
  const trainingsOf = async ({ trial: start, made }: Tried<Made>): Promise<readonly Candidate[]> => {
    const apart: Candidate = { ...start, name: `${start.name}, one part at a time` };
    const all = workbench.parts(made);
    if (all.length === 0) {
      const reason = 'no Linear has codes of its own, so that there is nothing to train';
      fail('damage', apart, new LowbitError('ADVISE_NO_PARTS', `${start.name}: ${reason}; name a recipe that quantizes weights`));
      return [];
    }
    let parts: readonly PartDamage[];
    try {
      parts = [...(await workbench.damages(made))].sort((a, b) => b.kl - a.kl);
    } catch (error) {
      fail('damage', apart, error);
      return [trainedOn(start, tuner, all, all.length)];
    }
    const report = { bits: start.bits, recipe: start.name, parts };
    damages.push(report);
    options.onDamages?.(report);
    const counts = new Set(shares.map((share) => Math.ceil(share * parts.length)));
    return [...counts].filter((count) => count > 0).map((count) => trainedOn(start, tuner, parts, count));
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
    const ofWidth = leastOf(tried, farthest);
    if (ofWidth) nearest.push(ofWidth);
  }

  let best = leastOf(nearest, farthest);
  for (const start of nearest) {
    for (const recipe of await trainingsOf(start)) {
      const one = await attempt('train', recipe, start);
      if (one?.trial.isMet) return adviceOf(one);
      // Models that are not the nearest are let go.
      if (one) best = leastOf(best ? [best, one] : [one], farthest);
    }
  }
  return adviceOf(best);
}

/** @throws NOT_FINITE */
function checkFinite(name: string, { metric }: Threshold, { value }: Judgement): void {
  if (Number.isFinite(value)) return;
  throw new LowbitError('NOT_FINITE', `${name}: ${metric} is ${value}; the weights or activations of the model overflow`);
}

/** The worse of the values on both texts: what is held against the threshold. */
export function farthest({ value, confirmed }: MeasuredTrial): number {
  return Math.max(value, confirmed?.value ?? value);
}

/**
 * A candidate with the tuner on its first parts: always by name, since a Linear that is no part is to stay dense. Overrides that match none of
 * these parts are left out, since a step refuses them.
 */
function trainedOn(start: Candidate, tuner: AdviceRecipe, parts: readonly ModelPart[], count: number): Candidate {
  const chosen = parts.slice(0, count);
  const targets = chosen.flatMap((part) => part.targets);
  const linears = chosen.flatMap((part) => part.linears);
  const trainedBy = ({ options: { overrides, ...options } = {}, ...step }: StepReference): StepReference => ({
    ...step,
    options: { ...options, ...(overrides !== undefined && { overrides: matching(overrides as object, linears) }), targets },
  });
  const what = count === parts.length ? `all ${count}` : `the worst ${count} of ${parts.length}`;
  return {
    name: `${start.name} + ${tuner.name} on ${what}`,
    bits: start.bits,
    steps: [...start.steps, ...tuner.steps.map(trainedBy)],
  };
}

/** The overrides whose globs match one of the Linears. */
function matching(overrides: object, linears: readonly string[]): object {
  return Object.fromEntries(Object.entries(overrides).filter(([glob]) => linears.some(compileGlob(glob))));
}

/** The first of the least. */
function leastOf<Made>(tried: readonly Tried<Made>[], of: (trial: MeasuredTrial) => number): Tried<Made> | undefined {
  return tried.reduce<Tried<Made> | undefined>((best, one) => (best && !(of(one.trial) < of(best.trial)) ? best : one), undefined);
}
