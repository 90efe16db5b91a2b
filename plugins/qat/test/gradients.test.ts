// Gradients of the fake quantizers: hand-computed cases, and finite differences of the surrogate in float64.
import { createReferenceBackend } from '@lowbit/backend-reference';
import { grad, mul, readFloats, sum, type Tensor, tensor } from '@lowbit/core';
import { AffineWeight } from '@lowbit/quant';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { type FakeQuantizer, weightOf } from '../src/quantizer/fake-quantizer.js';
import { frozenCodes, learnedQuantizer } from '../src/quantizer/learned.js';
import { lwcQuantizer } from '../src/quantizer/lwc.js';
import { minmaxQuantizer } from '../src/quantizer/minmax.js';
import { seqQuantizer } from '../src/quantizer/seq.js';
import { dequantized, type GridOf, recording, type Values } from './surrogate.js';

const backend = createReferenceBackend();

interface Differentiated {
  readonly weight: number[];
  /** By role. */
  readonly gradients: Readonly<Record<string, number[]>>;
}

/** ŵ and the gradients of Σ ŵ · upstream, with some parameters elsewhere than at their start. */
async function differentiate(quantizer: FakeQuantizer, upstream: readonly number[], at: Partial<Values> = {}): Promise<Differentiated> {
  const placed = (role: string, start: Tensor): Tensor => {
    const elements = at[role];
    return elements === undefined ? start : tensor([elements].flat() as number[], start.shape);
  };
  const values = new Map([...quantizer.start].map(([role, start]) => [role, placed(role, start)]));
  const roles = [...values.keys()];
  const weight = weightOf(await quantizer.quantized(values));
  const loss = sum(mul(weight, tensor(upstream, weight.shape)));
  const [made, ...gradients] = await backend.evaluate([weight, ...grad(loss, [...values.values()])]);
  const numbers = async (t: Tensor): Promise<number[]> => [...(await readFloats(t))];
  const entries = await Promise.all(roles.map(async (role, i) => [role, await numbers(gradients[i])] as const));
  return { weight: await numbers(made), gradients: Object.fromEntries(entries) };
}

/** A group of weights on a grid with scale ½, codes at 0: what is learned of it starts there. */
function halfGrid(latent: readonly number[], bits: number, zero: { zeroPoint?: number; offset?: number }): Promise<FakeQuantizer> {
  const perGroup = (data: Float32Array | Uint8Array): Tensor => tensor(data, [1, 1]);
  const weight = new AffineWeight({
    bits,
    codes: tensor(new Uint8Array(latent.length), [1, latent.length]),
    scale: perGroup(Float32Array.of(0.5)),
    zeroPoint: zero.zeroPoint === undefined ? undefined : perGroup(Uint8Array.of(zero.zeroPoint)),
    offset: zero.offset === undefined ? undefined : perGroup(Float32Array.of(zero.offset)),
    scaleDtype: 'float16',
  });
  return learnedQuantizer({ weight, latent: tensor(latent, [1, latent.length]) });
}

const only = (index: number, count: number): number[] => Array.from({ length: count }, (_, i) => (i === index ? 1 : 0));

/** Each case alone in the loss: the gradient of a parameter that all share is then its own. */
async function cases(quantizer: FakeQuantizer, count: number): Promise<{ weight: number; latent: number; scale: number; zero: number }[]> {
  return Promise.all(
    Array.from({ length: count }, async (_, i) => {
      const { weight, gradients } = await differentiate(quantizer, only(i, count));
      // Scales are trained relative to ½.
      return { weight: weight[i], latent: gradients.latent[i], scale: gradients.scale[0] / 0.5, zero: gradients.zero?.[0] ?? 0 };
    }),
  );
}

describe('by hand', () => {
  it('LSQ: three bits, levels −4 … 3', async () => {
    // w/s: 1.3 rounds to 1; −3.6 to −4; 3.2 and 5 lie beyond 3; −4.4 lies beyond −4.
    const found = await cases(await halfGrid([0.65, -1.8, 1.6, 2.5, -2.2], 3, {}), 5);
    const expected = [
      { weight: 0.5, latent: 1, scale: 1 - 1.3 },
      { weight: -2, latent: 1, scale: -4 + 3.6 },
      { weight: 1.5, latent: 0, scale: 3 },
      { weight: 1.5, latent: 0, scale: 3 },
      { weight: -2, latent: 0, scale: -4 },
    ];
    for (const [i, { weight, latent, scale }] of expected.entries()) {
      expect(found[i].weight).toBe(weight);
      expect(found[i].latent).toBeCloseTo(latent, 6);
      expect(found[i].scale).toBeCloseTo(scale, 5);
    }
  });

  it('LSQ+: two bits, levels 0 … 3 from −0.75', async () => {
    // u = (w + 0.75) / 0.5: 1.3 rounds to 1; −0.4 and 3.4 lie beyond.
    const found = await cases(await halfGrid([-0.1, -0.95, 0.95], 2, { offset: -0.75 }), 3);
    const expected = [
      { weight: -0.25, latent: 1, scale: 1 - 1.3, zero: 0 },
      { weight: -0.75, latent: 0, scale: 0, zero: 1 },
      { weight: 0.75, latent: 0, scale: 3, zero: 1 },
    ];
    for (const [i, { weight, latent, scale, zero }] of expected.entries()) {
      expect(found[i].weight).toBe(weight);
      expect(found[i].latent).toBeCloseTo(latent, 6);
      expect(found[i].scale).toBeCloseTo(scale, 5);
      // Offsets are trained in units of the scale.
      expect(found[i].zero / 0.5).toBeCloseTo(zero, 6);
    }
  });

  it('an integer zero: two bits, zero point 1', async () => {
    // w/s: 0.8 rounds to 1, code 2; 2.3 rounds to code 3 from beyond it, which still counts; 2.8 and −1.8 do not.
    const found = await cases(await halfGrid([0.4, 1.15, 1.4, -0.9], 2, { zeroPoint: 1 }), 4);
    const expected = [
      { weight: 0.5, latent: 1, scale: 1 - 0.8, zero: 0 },
      { weight: 1, latent: 1, scale: 2 - 2.3, zero: 0 },
      { weight: 1, latent: 0, scale: 3 - 1, zero: -0.5 },
      { weight: -0.5, latent: 0, scale: 0 - 1, zero: -0.5 },
    ];
    for (const [i, { weight, latent, scale, zero }] of expected.entries()) {
      expect(found[i].weight).toBe(weight);
      expect(found[i].latent).toBeCloseTo(latent, 6);
      expect(found[i].scale).toBeCloseTo(scale, 5);
      expect(found[i].zero).toBeCloseTo(zero, 6);
    }
  });

  it('SEQ: levels ±¼ and ±¾ of α = 1', async () => {
    const latent = [1, 0.3, -0.6, -0.985];
    const quantizer = await seqQuantizer(tensor(latent, [1, 4]), { groupSize: 4, scaleDtype: 'float16' });
    const found = await cases(quantizer, 4);
    // The step is ½ α, and the parameter is relative to it: ∂/∂α = (∂/∂ step) / 2 = found · 1/2.
    const expected = [
      { weight: 0.75, latent: 0, alpha: 0.75 },
      { weight: 0.25, latent: 1, alpha: 0.25 - 0.3 },
      { weight: -0.75, latent: 1, alpha: -0.75 + 0.6 },
      { weight: -0.75, latent: 1, alpha: -0.75 + 0.985 },
    ];
    for (const [i, { weight, latent: own, alpha }] of expected.entries()) {
      expect(found[i].weight).toBe(weight);
      expect(found[i].latent).toBeCloseTo(own, 6);
      expect(found[i].scale / 2).toBeCloseTo(alpha, 5);
    }
  });

  it('recomputed ranges: the gradient passes as it is', async () => {
    const format = { bits: 2, groupSize: 4, zero: 'integer', clip: 'minmax', scaleDtype: 'float16' } as const;
    const { gradients } = await differentiate(minmaxQuantizer(tensor([0.9, -0.4, 0.13, 0.31], [1, 4]), format), [1, 2, 3, 4]);
    expect(gradients.latent.map((g) => Math.round(g * 1e6) / 1e6)).toEqual([1, 2, 3, 4]);
    expect(Object.keys(gradients)).toEqual(['latent']);
  });

  it('frozen codes: the true gradients of scale and offset', async () => {
    const weight = new AffineWeight({
      bits: 2,
      codes: tensor(Uint8Array.of(3, 0, 2), [1, 3]),
      scale: tensor([0.5], [1, 1]),
      offset: tensor([-0.75], [1, 1]),
      scaleDtype: 'float32',
    });
    const quantizer = await frozenCodes(weight);
    const { weight: made, gradients } = await differentiate(quantizer, [1, 10, 100], { scale: [1.5], zero: [0.5] });
    expect(made).toEqual([1.75, -0.5, 1]);
    expect(gradients).toEqual({ scale: [0.5 * (3 + 200)], zero: [0.5 * 111] });
  });
});

it('a scale that was driven to its smallest can come back', async () => {
  const quantizer = await halfGrid([0.9, -0.4], 2, { zeroPoint: 1 });
  const { gradients } = await differentiate(quantizer, [1, 10], { scale: [-0.25] });
  // Next to such a scale both weights lie beyond their last codes, two above 0 and one below.
  expect(gradients.scale).toEqual([0.5 * (2 - 10)]);
});

const LATENTS = 6;

/** Parameters of a group, and the grid that they stand for. */
interface Family {
  readonly quantizer: (latent: readonly number[]) => Promise<FakeQuantizer> | FakeQuantizer;
  readonly roles: Readonly<Record<string, readonly [low: number, high: number]>>;
  readonly gridOf: GridOf;
}

const sigmoid = (x: number): number => 1 / (1 + Math.exp(-x));
const largest = 7;

function weightWith(latent: readonly number[], parts: { zeroPoint?: Tensor; offset?: Tensor }): AffineWeight {
  const codes = tensor(new Uint8Array(latent.length), [1, latent.length]);
  return new AffineWeight({ bits: 3, codes, scale: tensor([0.25], [1, 1]), scaleDtype: 'float32', ...parts });
}

const learned = (parts: { zeroPoint?: Tensor; offset?: Tensor }) => (latent: readonly number[]) =>
  learnedQuantizer({ weight: weightWith(latent, parts), latent: tensor(latent, [1, latent.length]) });

const lwc = (parts: { zeroPoint?: Tensor; offset?: Tensor }) => (latent: readonly number[]) =>
  lwcQuantizer({ weight: weightWith(latent, parts), latent: tensor(latent, [1, latent.length]) });

const seq = (latent: readonly number[]): Promise<FakeQuantizer> =>
  seqQuantizer(tensor(latent, [1, latent.length]), { groupSize: LATENTS, scaleDtype: 'float32' });

const minmax = (latent: readonly number[]): FakeQuantizer => {
  const format = { bits: 3, groupSize: LATENTS, zero: 'integer', clip: 'minmax', scaleDtype: 'float32' } as const;
  return minmaxQuantizer(tensor(latent, [1, latent.length]), format);
};

const zeroPoint = (value: number): Tensor => tensor(Uint8Array.of(value), [1, 1]);
const offset = (value: number): Tensor => tensor([value], [1, 1]);

/** Ends of the range at a fixed weight: gradients do not reach it through them. */
const shrunk = ({ low, high }: Values, fixed: readonly number[]): { low: number; high: number } => ({
  low: Math.min(0, ...fixed) * sigmoid(low as number),
  high: Math.max(0, ...fixed) * sigmoid(high as number),
});

const families = (fixed: readonly number[]): Readonly<Record<string, Family>> => ({
  symmetric: {
    quantizer: learned({}),
    roles: { scale: [0.5, 2] },
    gridOf: ({ scale: a }) => ({ scale: 0.25 * (a as number), offset: -4 * 0.25 * (a as number), margin: 2 ** -8, largest }),
  },
  integer: {
    quantizer: learned({ zeroPoint: zeroPoint(3) }),
    roles: { scale: [0.5, 2], zero: [-2, 3] },
    gridOf({ scale: a, zero: b }, round) {
      const scale = 0.25 * (a as number);
      return { scale, offset: -scale * round(3 + (b as number)), margin: 0.5, largest };
    },
  },
  free: {
    quantizer: learned({ offset: offset(-0.7) }),
    roles: { scale: [0.5, 2], zero: [-2, 2] },
    gridOf: ({ scale: a, zero: b }) => ({ scale: 0.25 * (a as number), offset: -0.7 + 0.25 * (b as number), margin: 2 ** -8, largest }),
  },
  'range, integer': {
    quantizer: lwc({ zeroPoint: zeroPoint(0) }),
    roles: { low: [-1, 4], high: [-1, 4] },
    gridOf(values, round) {
      const { low, high } = shrunk(values, fixed);
      const scale = (high - low) / largest;
      return { scale, offset: -scale * round(-low / scale), margin: 0.5, largest };
    },
  },
  'range, free': {
    quantizer: lwc({ offset: offset(0) }),
    roles: { low: [-1, 4], high: [-1, 4] },
    gridOf(values) {
      const { low, high } = shrunk(values, fixed);
      return { scale: (high - low) / largest, offset: low, margin: 0.5, largest };
    },
  },
  recomputed: {
    quantizer: minmax,
    roles: {},
    gridOf(_, round) {
      const [low, high] = [Math.min(0, ...fixed), Math.max(0, ...fixed)];
      const scale = (high - low) / largest;
      return { scale, offset: -scale * round(-low / scale), margin: 1, largest };
    },
  },
  seq: {
    quantizer: seq,
    roles: { scale: [0.5, 2] },
    gridOf({ scale: a }) {
      // Levels at ±¼ and ±¾ of α; α begins as the largest magnitude, and weights within 0.99 α have a gradient.
      const scale = (Math.max(...fixed.map(Math.abs)) * (a as number)) / 2;
      return { scale, offset: -1.5 * scale, margin: 0.48, largest: 3 };
    },
  },
});

describe('finite differences of the surrogate', () => {
  // Spread evenly: most doubles are next to 0, where `seq` changes from one code to the next.
  const weight = fc.integer({ min: -14000, max: 14000 }).map((x) => x / 10000);
  const weights = fc.array(weight, { minLength: LATENTS, maxLength: LATENTS });

  it.each(Object.keys(families([])))('%s', async (name) => {
    const roles = Object.entries(families([])[name].roles);
    const others = fc.tuple(...roles.map(([, [min, max]]) => fc.double({ min, max, noNaN: true })));
    const upstreams = fc.array(fc.double({ min: -2, max: 2, noNaN: true }), { minLength: LATENTS, maxLength: LATENTS });
    await fc.assert(
      fc.asyncProperty(weights, others, upstreams, async (drawn, drawnOthers, upstream) => {
        const latent = drawn.map(Math.fround);
        const at: Values = { latent, ...Object.fromEntries(roles.map(([role], i) => [role, Math.fround(drawnOthers[i])])) };
        const { gridOf, quantizer } = families(latent)[name];
        fc.pre(isFarFromSteps(gridOf, at));
        const { weight, gradients } = await differentiate(await quantizer(latent), upstream, at);

        const { round, replay } = recording();
        const exact = dequantized(gridOf, at, at, round, (x) => Math.round(x));
        for (const [i, w] of exact.entries()) expect(weight[i]).toBeCloseTo(w, 4);
        const lossAt = (values: Values): number =>
          dequantized(gridOf, values, at, replay(), Math.round).reduce((total, w, i) => total + w * upstream[i], 0);
        for (const role of ['latent', ...roles.map(([other]) => other)]) {
          const start = [at[role]].flat() as number[];
          const differences = start.map((_, i) => {
            const moved = (by: number): Values => ({
              ...at,
              [role]: role === 'latent' ? start.map((x, j) => (j === i ? x + by : x)) : start[0] + by,
            });
            return (lossAt(moved(1e-5)) - lossAt(moved(-1e-5))) / 2e-5;
          });
          for (const [i, difference] of differences.entries()) expect(gradients[role][i], role).toBeCloseTo(difference, 3);
        }
      }),
      { numRuns: 40 },
    );
  });
});

/** No weight or zero point within a rounding error of where its code changes, or of where it has no gradient any more. */
function isFarFromSteps(gridOf: GridOf, at: Values): boolean {
  const positions: number[] = [];
  const round = (x: number): number => {
    positions.push(x);
    return Math.round(x);
  };
  const { scale, offset: zero, margin, largest: last } = gridOf(at, round);
  const isClear = (x: number): boolean => Math.abs(x - Math.floor(x) - 0.5) > 1e-3;
  if (!(scale > 1e-3)) return false;
  return (
    positions.every(isClear) &&
    at.latent.every((w) => {
      const position = (w - zero) / scale;
      return isClear(position) && Math.abs(Math.abs(position - last / 2) - last / 2 - margin) > 1e-3;
    })
  );
}
