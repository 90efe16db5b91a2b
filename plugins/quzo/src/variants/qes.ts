// Quantized evolution strategies: slopes from how a population's members compare.
import type { Estimator } from '../hooks.js';
import { deviation } from './deviation.js';

/**
 * A direction q_i and its mirror image −q_i are two members of a population of 2n; the advantage of a member is its loss, standardized over
 * the population, A = (L − mean) / deviation, and μ_i = (A(q_i) − A(−q_i)) / 2, so that ĝ is the mean of A·(±q) over members (quantized
 * evolution strategies, as their code at github.com/dibbla/Quantized-Evolution-Strategies has it). Free of units: neither the scale of
 * the loss nor ε counts. Losses that are all equal give slopes of 0.
 */
export function populationEstimator(base: Estimator): Estimator {
  return {
    ...base,
    radii: () => [1, -1],
    needsCenter: false,
    slopes(queries) {
      const losses = queries.flatMap((query) => query.losses);
      const spread = deviation(losses, losses.length);
      return queries.map(({ losses: [above, below] }) => (spread > 0 ? (above - below) / (2 * spread) : 0));
    },
  };
}
