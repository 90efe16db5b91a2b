// The directional derivatives of a step.
import type { Backend } from '@lowbit/core';
import type { TaskBatch } from '@lowbit/train';
import type { QueryLosses } from './hooks.js';
import { centerLoss, perturbedLosses } from './perturbation/perturbed-losses.js';
import type { Run } from './run.js';

export interface Derivatives {
  /** Mean of the losses that were evaluated. */
  readonly loss: number;
  /** μ of each query, cut to ± the clip; undefined when a loss was not finite, or a slope that no clip cuts is beyond float32. */
  readonly mu: readonly number[] | undefined;
  /** Queries whose losses differ by little more than float32 can tell. */
  readonly noisy: number;
}

/** Losses from float32 logits are exact to about this share of them; 1 / 2ε amplifies it in μ. */
const LOSS_NOISE = 1e-7;

/** A difference of losses of which more than this share is such noise says little. */
const NOISE_SHARE = 0.1;

/** Evaluates the losses of all queries of a step on one batch. */
export async function derivativesOf(backend: Backend, run: Run, step: number, batch: TaskBatch): Promise<Derivatives> {
  const { hooks, options, trained, scratch } = run;
  const { estimator } = hooks;
  const center = estimator.needsCenter ? await centerLoss({ backend, trained, batch }) : undefined;
  const queries: QueryLosses[] = [];
  for (let query = 0; query < options.queries; query++) {
    const draws = run.draws.at(step, query);
    const radii = estimator.radii(draws);
    queries.push({ radii, losses: await perturbedLosses({ backend, trained, batch, hooks, draws, radii, scratch }) });
  }
  const losses = [...queries.flatMap((query) => query.losses), ...(center === undefined ? [] : [center])];
  const loss = losses.reduce((sum, x) => sum + x, 0) / losses.length;
  const slopes = Number.isFinite(loss) ? estimator.slopes(queries, options.epsilon, center) : [Number.NaN];
  const limit = options.clip > 0 ? options.clip : Number.POSITIVE_INFINITY;
  const mu = slopes.map((slope) => Math.min(limit, Math.max(-limit, slope)));
  const noisy = queries.filter((query) => isNoisy(center === undefined ? query.losses : [...query.losses, center])).length;
  return { loss, mu: mu.every(isFloat32) ? mu : undefined, noisy };
}

/** What is beyond float32 has no step: ±∞ times an element that is 0 is not a number. */
function isFloat32(slope: number): boolean {
  return Number.isFinite(Math.fround(slope));
}

function isNoisy(losses: readonly number[]): boolean {
  const largest = Math.max(...losses);
  return LOSS_NOISE * largest > NOISE_SHARE * (largest - Math.min(...losses));
}
