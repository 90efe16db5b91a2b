// The course of the learning rate, as a share of its peak.
import { cosineRate, type LearningRate } from '@lowbit/train';
import type { QuzoOptions } from './options.js';

/** Rises linearly over the warm-up; then stays, or falls to 0 along a line or half a cosine, the last step above 0 on a line. */
export function rateShareOf({ schedule, warmup, steps }: Pick<QuzoOptions, 'schedule' | 'warmup' | 'steps'>): (step: number) => number {
  const warmupSteps = Math.round(warmup * steps);
  const cosine: LearningRate = cosineRate({ peak: 1, warmupSteps, ...(schedule === 'constant' && { decaySteps: 0 }) });
  if (schedule !== 'linear') return (step) => cosine(step, steps);
  return (step) => (step <= warmupSteps ? step / warmupSteps : (steps - step + 1) / (steps - warmupSteps));
}
