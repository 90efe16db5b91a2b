// Invariants of the fake quantizers: idempotence, the grid, scale equivariance, many bits, and the grids that they begin with.
import { createReferenceBackend } from '@lowbit/backend-reference';
import { createRng, grad, mul, read, readFloats, roundToFloat16, sum, type Tensor, tensor } from '@lowbit/core';
import { AffineWeight, fitGrid, roundToGrid } from '@lowbit/quant';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { codesOf, type FakeQuantizer, storedWeight, weightOf } from '../src/quantizer/fake-quantizer.js';
import { learnedQuantizer } from '../src/quantizer/learned.js';
import { lwcQuantizer } from '../src/quantizer/lwc.js';
import { minmaxQuantizer } from '../src/quantizer/minmax.js';
import { seqQuantizer } from '../src/quantizer/seq.js';
import { denseStart, type GridFormat } from '../src/quantizer/start.js';

const backend = createReferenceBackend();
const SHAPE = [3, 16];

const random = (seed: number): Float32Array => createRng(seed).normal(48);

const format = fc.record({
  bits: fc.integer({ min: 1, max: 8 }),
  groupSize: fc.constantFrom(4, 8, 16, -1),
  zero: fc.constantFrom('symmetric', 'integer', 'free'),
  clip: fc.constantFrom('minmax', 'mse'),
  scaleDtype: fc.constantFrom('float16', 'float32'),
}) satisfies fc.Arbitrary<GridFormat>;

async function evaluated(quantizer: FakeQuantizer, values = quantizer.start): Promise<{ weight: Float32Array; stored: AffineWeight }> {
  const fake = await quantizer.quantized(values);
  const stored = storedWeight(fake);
  const { scale, codes, zeroPoint, offset } = stored;
  const [weight, again, s, c, z, o] = await backend.evaluate([
    weightOf(fake),
    stored.dequantized(),
    scale,
    codes,
    zeroPoint ?? scale,
    offset ?? scale,
  ]);
  expect(await readFloats(again)).toEqual(await readFloats(weight));
  return { weight: await readFloats(weight), stored: stored.with({ codes: c, scale: s, zeroPoint: zeroPoint && z, offset: offset && o }) };
}

const kinds = {
  learned: async (values: Float32Array, chosen: GridFormat) => learnedQuantizer(await denseStart(values, SHAPE, chosen, 'weight')),
  minmax: async (values: Float32Array, chosen: GridFormat) =>
    minmaxQuantizer((await denseStart(values, SHAPE, chosen, 'weight')).latent, chosen),
} as const;

describe.each(Object.keys(kinds) as (keyof typeof kinds)[])('%s', (kind) => {
  it('begins where rounding to nearest ends, code by code', async () => {
    await fc.assert(
      fc.asyncProperty(format, fc.integer({ min: 0, max: 1e6 }), async (chosen, seed) => {
        const quantizer = await kinds[kind](random(seed), chosen);
        const { stored } = await evaluated(quantizer);
        // The end of a range may have moved to the code of its zero point, which a free offset is near to: 'minmax' finds ranges anew.
        const hasMoved = kind === 'minmax' && chosen.zero === 'free';
        const values = hasMoved ? await readFloats(quantizer.start.get('latent') as Tensor) : random(seed);
        const grid = fitGrid(values, SHAPE, { ...chosen, symmetric: chosen.zero === 'symmetric' });
        expect(await readFloats(stored.scale)).toEqual(grid.scale);
        if (chosen.zero === 'free') {
          const offset = grid.offset.map((o) => (chosen.scaleDtype === 'float16' ? roundToFloat16(o) : o));
          expect((await readFloats(stored.offset as Tensor)).map((o) => o || 0)).toEqual(offset.map((o) => o || 0));
          return;
        }
        expect(await read(stored.codes)).toEqual(roundToGrid(values, grid));
        if (chosen.zero === 'integer') expect(await read(stored.zeroPoint as Tensor)).toEqual(grid.zeroPoint);
      }),
      { numRuns: 60 },
    );
  });

  it('gives at most 2^bits values to a group, and gives them to themselves', async () => {
    await fc.assert(
      fc.asyncProperty(format, fc.integer({ min: 0, max: 1e6 }), async (chosen, seed) => {
        const quantizer = await kinds[kind](random(seed), { ...chosen, clip: 'minmax' });
        const { weight, stored } = await evaluated(quantizer);
        for (let g = 0; g < stored.scale.size; g++) {
          const group = weight.subarray(g * stored.groupSize, (g + 1) * stored.groupSize);
          expect(new Set(group).size).toBeLessThanOrEqual(2 ** chosen.bits);
        }
        if (kind === 'minmax') return;
        const { weight: again } = await evaluated(quantizer, new Map([...quantizer.start, ['latent', tensor(weight, SHAPE)]]));
        expect(again).toEqual(weight);
      }),
      { numRuns: 40 },
    );
  });
});

/** Of some sum of the weight's elements, by role. */
async function gradientsOf(quantizer: FakeQuantizer): Promise<ReadonlyMap<string, Float32Array>> {
  const along = tensor(random(6), SHAPE);
  const found = await backend.evaluate(
    grad(sum(mul(weightOf(await quantizer.quantized(quantizer.start)), along)), [...quantizer.start.values()]),
  );
  const values = await Promise.all(found.map(readFloats));
  return new Map([...quantizer.start.keys()].map((role, i) => [role, values[i]]));
}

it('scales with its weight: twice the weight and the grid, the same codes and gradients', async () => {
  for (const zero of ['symmetric', 'integer', 'free'] as const) {
    const chosen = { bits: 3, groupSize: 8, zero, clip: 'minmax', scaleDtype: 'float16' } as const;
    const { weight, latent } = await denseStart(random(5), SHAPE, chosen, 'weight');
    const double = async (t: Tensor): Promise<Tensor> =>
      tensor(
        (await readFloats(t)).map((x) => 2 * x),
        t.shape,
      );
    const twice = weight.with({ scale: await double(weight.scale), offset: weight.offset && (await double(weight.offset)) });
    const [one, two] = [
      await learnedQuantizer({ weight, latent }),
      await learnedQuantizer({ weight: twice, latent: await double(latent) }),
    ];
    const [single, doubled] = [await evaluated(one), await evaluated(two)];
    expect(await read(doubled.stored.codes)).toEqual(await read(single.stored.codes));
    expect(doubled.weight).toEqual(single.weight.map((w) => 2 * w));
    // Scales and zeros are trained in units of the scale that they begin with, a zero point in codes.
    const [alone, both] = [await gradientsOf(one), await gradientsOf(two)];
    for (const [role, values] of alone) expect(both.get(role), role).toEqual(role === 'latent' ? values : values.map((x) => 2 * x));
  }
});

it('is the identity at 16 bits, to half a step', async () => {
  const values = random(9);
  const [low, high] = [Math.min(...values), Math.max(...values)];
  const step = (high - low) / (2 ** 16 - 1);
  const [scale, offset] = [step, low].map((x) => tensor(new Float32Array(3).fill(x), [3, 1]));
  const [codes] = await backend.evaluate([codesOf({ latent: tensor(values, SHAPE), scale, offset, bits: 16, margin: 0.5 })]);
  for (const [i, code] of (await readFloats(codes)).entries()) expect(Math.abs(step * code + low - values[i])).toBeLessThan(step * 0.51);
});

it('LWC begins just within the range, and follows the weight', async () => {
  for (const zero of ['integer', 'free'] as const) {
    const start = await denseStart(random(3), SHAPE, { bits: 4, groupSize: 16, zero, clip: 'minmax', scaleDtype: 'float32' }, 'weight');
    const quantizer = lwcQuantizer(start);
    const { stored } = await evaluated(quantizer);
    const values = await readFloats(start.latent);
    const ratio = (await readFloats(stored.scale)).map((s, g) => {
      const group = values.subarray(16 * g, 16 * (g + 1));
      return (s * 15) / (Math.max(0, ...group) - Math.min(0, ...group));
    });
    for (const r of ratio) expect(r).toBeCloseTo(1 / (1 + Math.exp(-4)), 5);
    const { stored: wide } = await evaluated(
      quantizer,
      new Map([
        ...quantizer.start,
        [
          'latent',
          tensor(
            values.map((w) => 4 * w),
            SHAPE,
          ),
        ],
      ]),
    );
    expect(await readFloats(wide.scale)).toEqual((await readFloats(stored.scale)).map((s) => 4 * s));
  }
});

it('SEQ has no level at zero, and its last levels are at three quarters of the largest weight', async () => {
  const values = random(4);
  const { weight } = await evaluated(await seqQuantizer(tensor(values, SHAPE), { groupSize: 16, scaleDtype: 'float32' }));
  for (const [i, w] of weight.entries()) {
    const alpha = Math.max(...values.subarray(16 * Math.floor(i / 16), 16 * Math.floor(i / 16) + 16).map(Math.abs));
    expect([0.25, 0.75]).toContain(Math.round((Math.abs(w) / alpha) * 1e5) / 1e5);
  }
});

it('keeps the sign of a scale, and never lets it vanish', async () => {
  const weight = new AffineWeight({
    bits: 2,
    codes: tensor(Uint8Array.of(0, 1, 2, 3), [2, 2]),
    scale: tensor([-0.5, 2 ** -24], [2, 1]),
    scaleDtype: 'float16',
  });
  const quantizer = await learnedQuantizer({ weight, latent: tensor([0.1, 0.2, 0, 0], [2, 2]) });
  const at = async (factor: number): Promise<number[]> => {
    const { stored } = await evaluated(quantizer, new Map([...quantizer.start, ['scale', tensor([factor, factor], [2, 1])]]));
    return [...(await readFloats(stored.scale))];
  };
  expect(await at(1)).toEqual([-0.5, 2 ** -24]);
  expect(await at(-3)).toEqual([-(2 ** -24), 2 ** -24]);
  expect(await at(1e9)).toEqual([-65504, roundToFloat16(1e9 * 2 ** -24)]);
});

describe('more bits', () => {
  it('are never farther from a weight, on one and the same grid: so neither is the best of all grids', async () => {
    await fc.assert(
      fc.asyncProperty(format, fc.integer({ min: 0, max: 1e6 }), async (chosen, seed) => {
        const bits = Math.min(chosen.bits, 7);
        const values = random(seed);
        const { weight } = await denseStart(values, SHAPE, { ...chosen, bits, zero: 'free' }, 'weight');
        const errorsAt = async (width: number): Promise<number[]> => {
          // Every level of fewer bits is one of more bits: the same scale and offset, codes beyond.
          const { codes, scale, offset, scaleDtype } = weight;
          const start = { weight: new AffineWeight({ bits: width, codes, scale, offset, scaleDtype }), latent: tensor(values, SHAPE) };
          const { weight: rounded } = await evaluated(await learnedQuantizer(start));
          return Array.from(rounded, (w, i) => Math.abs(w - values[i]));
        };
        const [fewer, more] = [await errorsAt(bits), await errorsAt(bits + 1)];
        for (const [i, error] of more.entries()) expect(error).toBeLessThanOrEqual(fewer[i]);
      }),
      { numRuns: 60 },
    );
  });

  it.each(['learned', 'minmax'] as const)(
    'halve what the error is bounded by: half a step of a range that covers it (%s)',
    async (kind) => {
      await fc.assert(
        fc.asyncProperty(format, fc.integer({ min: 0, max: 1e6 }), async (chosen, seed) => {
          const values = random(seed);
          const { weight, stored } = await evaluated(
            await kinds[kind](values, { ...chosen, clip: 'minmax', zero: 'integer', scaleDtype: 'float32' }),
          );
          const scale = await readFloats(stored.scale);
          for (let g = 0; g < scale.length; g++) {
            const group = values.subarray(g * stored.groupSize, (g + 1) * stored.groupSize);
            const range = Math.max(0, ...group) - Math.min(0, ...group);
            const step = range / (2 ** chosen.bits - 1);
            expect(scale[g]).toBeCloseTo(step, 5);
            // A zero point that is rounded shifts the range by up to half a step.
            for (const [i, w] of group.entries()) expect(Math.abs(weight[g * stored.groupSize + i] - w)).toBeLessThanOrEqual(step * 1.0001);
          }
        }),
        { numRuns: 40 },
      );
    },
  );
});
