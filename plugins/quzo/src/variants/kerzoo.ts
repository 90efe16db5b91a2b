// KerZOO: radii drawn at random and weighted by a kernel, so that the third derivative does not bias the slope.
import { uniformAt } from '../direction/noise.js';
import type { Estimator } from '../hooks.js';

/**
 * K(r) = 15/4 · r · (5 − 7r²), for r uniform in [−1, 1]: E[rK] = 1 keeps the slope, E[r³K] = 0 removes what the third derivative adds to it.
 * E[r²K²] = 25/4: slopes vary 2.5 times as much as those of central differences.
 */
export const kernel = (r: number): number => 3.75 * r * (5 - 7 * r ** 2);

/** μ = K(r) · (L(θ + εrq) − L(θ − εrq)) / 2ε (KerZOO, arXiv 2505.18886), with the roundings of another estimator. */
export function kernelEstimator(base: Estimator): Estimator {
  return {
    ...base,
    radii: (draws) => {
      const r = 2 * uniformAt(draws.key('radius', ''), 0) - 1;
      return [r, -r];
    },
    needsCenter: false,
    slopes: (queries, epsilon) => queries.map(({ radii: [r], losses: [above, below] }) => (kernel(r) * (above - below)) / (2 * epsilon)),
  };
}
