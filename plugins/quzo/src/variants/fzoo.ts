// FZOO: one loss a direction, and steps in units of how much the losses of a step differ.
import type { Estimator } from '../hooks.js';
import { deviation } from './deviation.js';

/**
 * μ_i = (L(θ + εq_i) − L(θ)) / (ε·σ), σ the standard deviation of the step's n losses, n − 1 in the denominator (FZOO, arXiv 2506.09034):
 * n + 1 losses a step, and steps that do not depend on the scale of the loss. As σ ≈ ε‖∇L‖, a learning rate here is ε times one for a
 * normalized gradient. Losses that are all equal give slopes of 0.
 */
export function oneSidedEstimator(base: Estimator): Estimator {
  return {
    ...base,
    radii: () => [1],
    needsCenter: true,
    slopes(queries, epsilon, center = Number.NaN) {
      const losses = queries.map(({ losses: [loss] }) => loss);
      const spread = deviation(losses, losses.length - 1);
      return losses.map((loss) => (spread > 0 ? (loss - center) / (epsilon * spread) : 0));
    },
  };
}
