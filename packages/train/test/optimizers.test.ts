// Adam, AdamW and SGD against plain float64 loops over the published equations.
import { createReferenceBackend } from '@lowbit/backend-reference';
import { createRng, readFloats, readNumber, type Tensor, tensor } from '@lowbit/core';
import { describe, expect, it } from 'vitest';
import { adam, type GradientOptions, type NamedTensors, type Optimizer, sgd } from '../src/index.js';

const backend = createReferenceBackend();
const rng = createRng(3);
const START = rng.at('start').normal(8);
const STEPS = 5;
const rateOf = (step: number): number => 0.01 * step;
const gradientOf = (step: number): Float32Array =>
  rng
    .at('gradient', step)
    .normal(8)
    .map((x) => x * (step === 2 ? 0.1 : 3));

/** Six elements are parameter 'a', two are 'b'. */
const named = (values: Float32Array): NamedTensors =>
  new Map([
    ['a', tensor(values.slice(0, 6), [2, 3])],
    ['b', tensor(values.slice(6), [2])],
  ]);

async function run(optimizer: Optimizer): Promise<{ values: number[]; norms: number[] }> {
  let state = optimizer.start(named(START));
  const norms: number[] = [];
  for (let step = 1; step <= STEPS; step++) {
    const update = optimizer.update(state, named(gradientOf(step)), step, rateOf(step));
    const maps = [update.state.parameters, ...Object.values(update.state.slots)];
    const leaves = await backend.evaluate([update.gradientNorm, ...maps.flatMap((map) => [...map.values()])]);
    const part = (i: number): NamedTensors => new Map([...'ab'].map((name, j) => [name, leaves[1 + 2 * i + j] as Tensor]));
    state = { parameters: part(0), slots: Object.fromEntries(Object.keys(update.state.slots).map((slot, i) => [slot, part(i + 1)])) };
    norms.push(await readNumber(leaves[0]));
  }
  const values = await Promise.all([...state.parameters.values()].map(readFloats));
  return { values: values.flatMap((part) => [...part]), norms };
}

type Direction = (gradient: number, index: number, step: number) => number;

/** The same in float64: everything that optimizers share, around the direction that each one takes. */
function expected({ weightDecay = 0, decay = 'decoupled', clipNorm, rateFactor = () => 1 }: GradientOptions, direction: Direction) {
  const values = Array.from(START);
  for (let step = 1; step <= STEPS; step++) {
    const gradient = gradientOf(step);
    const shrink = clipNorm === undefined ? 1 : Math.min(1, clipNorm / (Math.hypot(...gradient) + 1e-6));
    for (let i = 0; i < 8; i++) {
      const name = i < 6 ? 'a' : 'b';
      const strength = typeof weightDecay === 'number' ? weightDecay : weightDecay(name);
      const rate = rateOf(step) * rateFactor(name);
      const l2 = decay === 'l2' ? strength * values[i] : 0;
      const pull = decay === 'decoupled' ? rate * strength * values[i] : 0;
      values[i] -= pull + rate * direction(gradient[i] * shrink + l2, i, step);
    }
  }
  return values;
}

function adamDirection(beta1: number, beta2: number, epsilon: number): Direction {
  const [m, v] = [new Float64Array(8), new Float64Array(8)];
  return (g, i, step) => {
    m[i] = beta1 * m[i] + (1 - beta1) * g;
    v[i] = beta2 * v[i] + (1 - beta2) * g ** 2;
    return m[i] / (1 - beta1 ** step) / (Math.sqrt(v[i] / (1 - beta2 ** step)) + epsilon);
  };
}

function momentumDirection(momentum: number): Direction {
  const velocity = new Float64Array(8);
  return (g, i) => {
    velocity[i] = momentum * velocity[i] + g;
    return velocity[i];
  };
}

const shared: GradientOptions[] = [
  {},
  { clipNorm: 2 },
  { weightDecay: 0.3 },
  { weightDecay: (name) => (name === 'a' ? 0.2 : 0), decay: 'l2' },
  { weightDecay: 0.1, clipNorm: 1, rateFactor: (name) => (name === 'b' ? 0.5 : 1) },
];

describe('adam', () => {
  it.each(shared)('follows the equations over clipped and unclipped steps: %o', async (options) => {
    const { values } = await run(adam({ ...options, beta1: 0.8, beta2: 0.95, epsilon: 1e-3 }));
    for (const [i, x] of expected(options, adamDirection(0.8, 0.95, 1e-3)).entries()) expect(values[i]).toBeCloseTo(x, 5);
  });

  it('has the published defaults', async () => {
    const { values } = await run(adam());
    for (const [i, x] of expected({}, adamDirection(0.9, 0.999, 1e-8)).entries()) expect(values[i]).toBeCloseTo(x, 5);
  });

  it('reports the gradient norm before clipping', async () => {
    const { norms } = await run(adam({ clipNorm: 0.5 }));
    for (const [i, norm] of norms.entries()) expect(norm).toBeCloseTo(Math.hypot(...gradientOf(i + 1)), 4);
  });
});

describe('sgd', () => {
  it.each(shared.flatMap((options) => [0, 0.9].map((momentum) => ({ ...options, momentum }))))(
    'follows the equations: %o',
    async (options) => {
      const { values } = await run(sgd(options));
      for (const [i, x] of expected(options, momentumDirection(options.momentum)).entries()) expect(values[i]).toBeCloseTo(x, 4);
    },
  );

  it('keeps no state without momentum', () => {
    expect(sgd().start(named(START)).slots).toEqual({});
  });
});
