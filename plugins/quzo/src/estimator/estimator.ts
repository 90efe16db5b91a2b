// From two losses to a directional derivative.
import type { Estimator } from '../hooks.js';
import type { QuzoOptions } from '../options.js';

const central: Pick<Estimator, 'radii' | 'needsCenter' | 'slopes'> = {
  radii: () => [1, -1],
  needsCenter: false,
  // SPSA: μ = (L(θ + εq) − L(θ − εq)) / 2ε
  slopes: (queries, epsilon) => queries.map(({ losses: [above, below] }) => (above - below) / (2 * epsilon)),
};

/**
 * Central differences along random directions. With one rounding q of u for losses and update E ĝ = s·∇L, where s·I is the second moment of
 * q: a factor that 'rge1-debiased' divides by. With two independent ones (QuZO, arXiv 2502.12346) E ĝ = ∇L, with a signal-to-noise ratio
 * s² times worse.
 */
export const estimators: Readonly<Record<QuzoOptions['estimator'], Estimator>> = {
  mezo: { ...central, isRounded: false, updateRounding: 'round1', isDebiased: false },
  rge1: { ...central, isRounded: true, updateRounding: 'round1', isDebiased: false },
  'rge1-debiased': { ...central, isRounded: true, updateRounding: 'round1', isDebiased: true },
  rge2: { ...central, isRounded: true, updateRounding: 'round2', isDebiased: false },
};
