// The course of the learning rate, as the methods' options say it.
import { cosineRate, type LearningRate } from '@lowbit/train';

interface RateOptions {
  readonly learningRate: number;
  readonly schedule: 'constant' | 'cosine' | 'linear';
  /** Share of the steps over which the rate rises; above 1, how many steps. */
  readonly warmup: number;
}

/** The rate of each step of a training of `steps` steps. */
export function learningRateOf({ learningRate: peak, schedule, warmup }: RateOptions, steps: number): LearningRate {
  const warmupSteps = warmup <= 1 ? Math.round(warmup * steps) : warmup;
  if (schedule !== 'linear') return cosineRate({ peak, warmupSteps, ...(schedule === 'constant' && { decaySteps: 0 }) });
  return (step) => (step <= warmupSteps ? (peak * step) / warmupSteps : (peak * (steps - step + 1)) / (steps - warmupSteps));
}
