// The course of a training: optimizer, learning rates and rounds, as options have them.
import {
  adam,
  cosineRate,
  type GradientOptions,
  type LearningRate,
  type Optimizer,
  planRounds,
  type Rounds,
  sgd,
  warmupRate,
} from '@lowbit/train';
import type { QatOptions } from './options.js';
import type { ParameterRole, Prepared } from './prepare.js';

export type CourseOptions = Pick<
  QatOptions,
  | 'optimizer'
  | 'gradientScale'
  | 'learningRate'
  | 'scaleLearningRate'
  | 'schedule'
  | 'warmup'
  | 'clipNorm'
  | 'weightDecay'
  | 'epochs'
  | 'maxTokens'
  | 'judgeEvery'
>;

/** Learning rates of weights that are to be tried. */
export function ratesOf({ learningRate }: Pick<CourseOptions, 'learningRate'>): readonly number[] {
  return [learningRate].flat();
}

/** Elements that are trained, by what they are to an optimizer. */
export type Counts = Readonly<Record<ParameterRole, number>>;

/** Peak rates that are read where one of weights is tried, by the names of their options: none of what is not trained. */
export function ratesRead(options: CourseOptions, { latent, grid, norm }: Counts, rate: number): Readonly<Record<string, number>> {
  const scaleLearningRate = (options.scaleLearningRate * rate) / ratesOf(options)[0];
  return { ...(latent > 0 && { learningRate: rate }), ...(grid + norm > 0 && { scaleLearningRate }) };
}

const MOMENTUM = 0.9;

/** The optimizer, whose learning rate is that of weights; grids and norms have theirs in proportion. */
export function optimizerOf(
  options: CourseOptions,
  { roleOf, gradientScale }: Pick<Prepared<unknown>, 'roleOf' | 'gradientScale'>,
): Optimizer {
  const { scaleLearningRate, clipNorm, weightDecay } = options;
  const gridRate = scaleLearningRate / ratesOf(options)[0];
  const shared: GradientOptions = {
    rateFactor: (name) => (roleOf(name) === 'latent' ? 1 : gridRate * (options.gradientScale ? gradientScale(name) : 1)),
    weightDecay: (name) => (roleOf(name) === 'latent' ? weightDecay : 0),
    ...(clipNorm > 0 && { clipNorm }),
  };
  return options.optimizer === 'sgd' ? sgd({ ...shared, momentum: MOMENTUM }) : adam(shared);
}

/** The rate of weights at each step. */
export function scheduleOf({ schedule, warmup }: CourseOptions, peak: number, steps: number): LearningRate {
  const warmupSteps = Math.round(warmup * steps);
  return schedule === 'cosine' ? cosineRate({ peak, warmupSteps }) : warmupRate(peak, warmupSteps);
}

/** Rounds between judgements; a few steps at the end may be left out. */
export function roundsOf({ epochs, maxTokens, judgeEvery }: CourseOptions, batches: number, tokensPerStep: number): Rounds {
  const mostSteps = Math.floor((maxTokens ?? Infinity) / tokensPerStep);
  if (judgeEvery === undefined) return planRounds(batches, epochs, mostSteps);
  const steps = Math.max(1, Math.min(epochs * batches, mostSteps));
  const stepsPerRound = Math.min(judgeEvery, steps);
  return { rounds: Math.floor(steps / stepsPerRound), stepsPerRound };
}
