// Gradient estimates of functions whose gradients are known: what they are on average, and how they vary.
import { describe, expect, it } from 'vitest';
import { createDraws } from '../src/direction/keys.js';
import type { Draws, Hooks } from '../src/hooks.js';
import type { QuzoInput } from '../src/options.js';
import { elementsOf, estimator, hooksFor, momentsOf, type Problem, parameterOf, quadratic, squareNorm, wide } from './statistics-oracle.js';

describe('slopes of a quadratic', () => {
  it.each([1e-3, 1, 16])('equal qᵀ∇L for ε = %d, as central differences have no second-order term', (epsilon) => {
    const problem = quadratic(12);
    const parameter = parameterOf({ kind: 'weights', size: 12, epsilon });
    const hooks = hooksFor({ preset: 'mezo' });
    const estimate = estimator({ hooks, problem, parameter, queries: 1 });
    for (let step = 1; step <= 20; step++) {
      const draws = createDraws(3).at(step, 0);
      const u = elementsOf(hooks, parameter, draws).elements;
      const slope = u.reduce((sum, value, i) => sum + value * problem.gradient[i], 0);
      const found = estimate(draws);
      // Float64 losses of about 500: 1e-13 of them over 2ε.
      for (let i = 0; i < 12; i++) expect(Math.abs(found[i] - slope * u[i])).toBeLessThan(1e-6 * Math.abs(slope * u[i]) + 1e-9 / epsilon);
    }
  });
});

describe('estimates of a gradient', () => {
  const size = 12;
  const problem = quadratic(size);
  const { gradient } = problem;
  const largest = gradient.reduce((most, g) => Math.max(most, Math.abs(g)), 0);
  const samples = 20_000;
  // On the grid of codes with σ = 0.25: s = 3.19 for normal directions, 4 for signs.
  const lattice = parameterOf({ kind: 'codes', size, epsilon: 0.25 });
  const exact = parameterOf({ kind: 'weights', size, epsilon: 0.25 });

  it.each([
    ['mezo', 'gaussian', 1],
    ['mezo', 'rademacher', 1],
    ['rge1', 'gaussian', 3.19],
    ['rge1', 'rademacher', 4],
    ['rge1-debiased', 'gaussian', 1],
    ['rge1-debiased', 'rademacher', 1],
    ['rge2', 'gaussian', 1],
    ['rge2', 'rademacher', 1],
  ] as const)('%s, %s: %d times the gradient on average', (name, distribution, multiple) => {
    const hooks = hooksFor({ estimator: name, distribution });
    const parameter = name === 'mezo' ? exact : lattice;
    const { mean, error } = momentsOf({ hooks, problem, parameter, queries: 1 }, samples, 8);
    for (const [i, g] of gradient.entries()) expect(Math.abs(mean[i] - multiple * g), `element ${i}`).toBeLessThan(5 * error[i]);
    // Power: an s that is missing, or one too many, moves the largest element by 2.19 times itself and more.
    const at = gradient.findIndex((g) => Math.abs(g) === largest);
    expect(((name === 'mezo' ? 0.5 : 2.19) * largest) / error[at]).toBeGreaterThan(15);
  });

  it.each([
    ['rge1', 's times the gradient'],
    ['rge1-debiased', 'the gradient'],
    ['rge2', 'the gradient'],
  ] as const)('%s of float elements at 2 bits: %s, along it', (name, _mean) => {
    const many = wide(512);
    const parameter = parameterOf({ kind: 'adapters', size: 512, epsilon: 2e-3, perturbBits: 2 });
    const hooks = hooksFor({ preset: 'quzo-paper', estimator: name });
    const estimate = estimator({ hooks, problem: many, parameter, queries: 1 });
    const draws = createDraws(12);
    let [sum, squares] = [0, 0];
    const steps = 2000;
    for (let step = 1; step <= steps; step++) {
      const own = draws.at(step, 0);
      const stated = name === 'rge1' ? elementsOf(hooks, parameter, own).secondMoment : 1;
      const along = estimate(own).reduce((total, value, i) => total + value * many.gradient[i], 0) / squareNorm(many.gradient) / stated;
      sum += along;
      squares += along ** 2;
    }
    const mean = sum / steps;
    const error = Math.sqrt((squares / steps - mean ** 2) / steps);
    expect(Math.abs(mean - 1)).toBeLessThan(5 * error);
    expect(error).toBeLessThan(name === 'rge2' ? 0.09 : 0.05); // without the division it would be off by 1.8
  });
});

describe('variance of estimates', () => {
  const size = 12;
  const problem = quadratic(size);
  const { gradient } = problem;
  const g2 = squareNorm(gradient);
  const samples = 20_000;
  const parameter = parameterOf({ kind: 'weights', size, epsilon: 1e-2 });

  it.each([
    ['gaussian', 1],
    ['gaussian', 4],
    ['gaussian', 16],
    ['rademacher', 1],
    ['rademacher', 4],
  ] as const)('%s, n = %d: (‖g‖² ± g_j²) / n in every element, (d ± 1)‖g‖² / n as a whole', (distribution, queries) => {
    const hooks = hooksFor({ preset: 'mezo', distribution });
    const sign = distribution === 'gaussian' ? 1 : -1;
    // Standard errors of at most 2 %: a power of n other than −1, and the g_j² of the largest element, are off by more than 10 %.
    const { variance, energy } = momentsOf({ hooks, problem, parameter, queries }, samples / Math.sqrt(queries), 41, gradient);
    for (const [j, g] of gradient.entries()) {
      expect(Math.abs((variance[j] * queries) / (g2 + sign * g ** 2) - 1), `element ${j}`).toBeLessThan(0.1);
    }
    expect(Math.abs((energy * queries) / ((size + sign) * g2) - 1)).toBeLessThan(0.05);
  });

  it.each([8, 64, 512])('grows with the number of elements, %d: (d + 1)‖g‖² and for signs (d − 1)‖g‖²', (d) => {
    const many = wide(d);
    for (const [distribution, sign] of [
      ['gaussian', 1],
      ['rademacher', -1],
    ] as const) {
      const request = {
        hooks: hooksFor({ preset: 'mezo', distribution }),
        problem: many,
        parameter: parameterOf({ kind: 'weights', size: d, epsilon: 1e-2 }),
        queries: 1,
      };
      const { energy } = momentsOf(request, 8000, 17, many.gradient);
      expect(Math.abs(energy / ((d + sign) * squareNorm(many.gradient)) - 1), distribution).toBeLessThan(0.08); // 5 standard errors
    }
  });

  it('of two independent roundings is s² times that of one that is divided by s', () => {
    const d = 512;
    const many = wide(d);
    const codes = parameterOf({ kind: 'codes', size: d, epsilon: 0.25 });
    const of = (name: 'rge1-debiased' | 'rge2') =>
      momentsOf({ hooks: hooksFor({ estimator: name, distribution: 'gaussian' }), problem: many, parameter: codes, queries: 1 }, 8000, 23);
    const ratio = of('rge2').energy / of('rge1-debiased').energy;
    expect(Math.abs(ratio / 3.19 ** 2 - 1)).toBeLessThan(0.12);
  });
});

describe('bias of estimates of functions of higher degree', () => {
  const start = Float64Array.of(0.6, -0.4);
  const power = (degree: number): Problem => ({ start, loss: (x) => x[0] ** degree + x[1] ** degree });
  const samples = 60_000;

  it.each([
    [3, 'gaussian', 0.5, (x: number, e: number) => 3 * x ** 2 + 3 * e ** 2],
    [3, 'gaussian', 0.25, (x: number, e: number) => 3 * x ** 2 + 3 * e ** 2],
    [3, 'rademacher', 0.5, (x: number, e: number) => 3 * x ** 2 + e ** 2],
    [4, 'gaussian', 0.5, (x: number, e: number) => 4 * x ** 3 + 12 * e ** 2 * x],
    [4, 'gaussian', 0.25, (x: number, e: number) => 4 * x ** 3 + 12 * e ** 2 * x],
    [4, 'rademacher', 0.5, (x: number, e: number) => 4 * x ** 3 + 4 * e ** 2 * x],
  ] as const)('x^%d, %s, ε = %d: the gradient of the smoothed function', (degree, distribution, epsilon, smoothed) => {
    const request = {
      hooks: hooksFor({ preset: 'mezo', distribution }),
      problem: power(degree),
      parameter: parameterOf({ kind: 'weights', size: 2, epsilon }),
      queries: 1,
    };
    const { mean, error } = momentsOf(request, samples, 6);
    for (const [i, x] of start.entries()) {
      expect(Math.abs(mean[i] - smoothed(x, epsilon))).toBeLessThan(5 * error[i] + 1e-6);
      const bias = smoothed(x, epsilon) - smoothed(x, 0);
      expect(Math.abs(bias)).toBeGreaterThan(10 * error[i]); // power: without its bias the mean would be told apart
    }
  });
});

describe('queries', () => {
  const problem = quadratic(9);
  const setting = (options: QuzoInput) => ({
    problem,
    hooks: hooksFor(options),
    parameter: parameterOf({ kind: 'codes', size: 9, epsilon: 0.5 }),
  });

  it.each(['mezo', 'rge1', 'rge1-debiased', 'rge2'] as const)('%s: many with equal draws are one', (name) => {
    const one = setting({ estimator: name, distribution: 'gaussian' });
    const draws = createDraws(15).at(4, 0);
    const same: Draws = { ...draws, at: () => same };
    const single = estimator({ ...one, queries: 1 })(draws).slice();
    const many = estimator({ ...one, queries: 8 })(same).slice();
    for (const [i, value] of single.entries()) expect(Math.abs(many[i] - value)).toBeLessThanOrEqual(1e-6 * Math.abs(value));
    const different = estimator({ ...one, queries: 8 })(draws);
    expect(different).not.toEqual(single);
  });

  it.each(['mezo', 'rge1', 'rge1-debiased', 'rge2'] as const)('%s: the opposite direction gives the same estimate', (name) => {
    const { hooks, ...rest } = setting({ estimator: name, distribution: 'gaussian' });
    const mirrored: Hooks = {
      ...hooks,
      direction(...asked) {
        const found = hooks.direction(...asked);
        return { ...found, factor: -found.factor };
      },
    };
    const draws = createDraws(16).at(2, 0);
    const given = estimator({ ...rest, hooks, queries: 2 })(draws).slice();
    expect(estimator({ ...rest, hooks: mirrored, queries: 2 })(draws)).toEqual(given);
  });
});
