// Layers in integers against the simulated ones, in float64, where both must agree to its last digits.
import { createReferenceBackend } from '@lowbit/backend-reference';
import { createRng, DenseLinear, grad, type Linear, mul, restoreLinear, sum, type Tensor, tensor, tensorsOf } from '@lowbit/core';
import { planHadamard } from '@lowbit/linalg';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  ActivationQuantizedLinear,
  AffineWeight,
  hadamardRotation,
  IntegerLinear,
  integerForm,
  LowRankLinear,
  linearKinds,
  PackedLinear,
  QuantizedLinear,
  quantizeWeight,
  RotatedLinear,
  SplitLinear,
  type ZeroKind,
} from '../src/index.js';

const backend = createReferenceBackend();
const rng = createRng(11);
const random = (name: string, shape: readonly number[]): Tensor => tensor(rng.at(name).normal(shape.reduce((a, b) => a * b, 1)), shape);

interface Layer {
  readonly bits: number;
  readonly zeroKind: ZeroKind;
  readonly out: number;
  readonly inFeatures: number;
  readonly bias?: boolean;
  readonly groupSize?: number;
}

/** A random quantized layer. */
function layerOf({ bits, zeroKind, out, inFeatures, bias = false, groupSize = -1 }: Layer): QuantizedLinear {
  const values = rng.at('weight').normal(out * inFeatures);
  const grid = { bits, groupSize, clip: 'minmax', scaleDtype: 'float32', symmetric: zeroKind === 'symmetric' } as const;
  const weight = quantizeWeight(values, [out, inFeatures], grid);
  const offset = random('offset', weight.scale.shape);
  const parts = zeroKind === 'free' ? weight.with({ zeroPoint: undefined, offset }) : weight;
  return new QuantizedLinear(parts, bias ? random('bias', [out]) : undefined);
}

const plain: Layer = { bits: 4, zeroKind: 'symmetric', out: 6, inFeatures: 8, bias: true };
const rounded = (base: Linear, bits = 8): ActivationQuantizedLinear => new ActivationQuantizedLinear(base, { bits, clipRatio: 0.9 });

async function expectSame(actual: Tensor, expected: Tensor): Promise<void> {
  expect(actual.shape).toEqual(expected.shape);
  const [a, b] = [await backend.float64(actual), await backend.float64(expected)];
  const scale = b.reduce((most, value) => Math.max(most, Math.abs(value)), 1);
  a.forEach((value, i) => {
    expect(Math.abs(value - b[i]), `[${i}]: ${value} against ${b[i]}`).toBeLessThan(1e-12 * scale);
  });
}

/** The layer in integers, which must be possible. */
function inIntegers(linear: Linear): Linear {
  const form = integerForm(linear);
  if ('obstacle' in form) throw new Error(form.obstacle);
  return form.linear;
}

describe('IntegerLinear', () => {
  it('computes what the simulated layer computes, whatever the bits, the zero and the sizes', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.record({
          bits: fc.integer({ min: 1, max: 8 }),
          activationBits: fc.integer({ min: 2, max: 8 }),
          zeroKind: fc.constantFrom<ZeroKind>('symmetric', 'integer', 'free'),
          out: fc.integer({ min: 1, max: 7 }),
          inFeatures: fc.integer({ min: 1, max: 19 }),
          tokens: fc.integer({ min: 1, max: 5 }),
          bias: fc.boolean(),
        }),
        async ({ activationBits, tokens, ...layer }) => {
          const simulated = rounded(layerOf(layer), activationBits);
          const x = random('x', [2, tokens, layer.inFeatures]);
          await expectSame(new IntegerLinear(simulated).forward(x), simulated.forward(x));
        },
      ),
      { numRuns: 150 },
    );
  });

  it('computes x̂ ŵᵀ of the codes, found by hand', async () => {
    const codes = tensor(Uint8Array.of(0, 15, 7, 9), [2, 2]);
    const weight = new AffineWeight({ bits: 4, codes, scale: tensor([0.5, 2], [2, 1]), scaleDtype: 'float32' });
    const linear = new IntegerLinear(new ActivationQuantizedLinear(new QuantizedLinear(weight, tensor([1, -1])), { bits: 8 }));
    // s = 1: codes 127 and −3 of the token, −8, 7 and −1, 1 of the weight.
    const y = await backend.float64(linear.forward(tensor([127, -3.4], [1, 2])));
    expect(Array.from(y)).toEqual([0.5 * (127 * -8 - 3 * 7) + 1, 2 * (-127 - 3) - 1]);
  });

  it('leaves tokens of zeros at the bias, and takes no tokens at all', async () => {
    const linear = new IntegerLinear(rounded(layerOf({ ...plain, zeroKind: 'free' })));
    const y = await backend.float64(linear.forward(tensor(new Float32Array(2 * 8), [2, 8])));
    const bias = await backend.float64(random('bias', [6]));
    expect(Array.from(y)).toEqual([...bias, ...bias]);
    expect(linear.forward(tensor(new Float32Array(0), [0, 8])).shape).toEqual([0, 6]);
  });

  it('has the gradients of the simulated layer', async () => {
    const simulated = rounded(layerOf({ ...plain, zeroKind: 'integer' }));
    const x = random('x', [3, 8]);
    const gradients = [simulated, new IntegerLinear(simulated)].map((linear) => {
      const { scale } = (simulated.base as QuantizedLinear).weight;
      return grad(sum(mul(linear.forward(x), random('direction', [3, 6]))), [x, scale]);
    });
    for (const i of [0, 1]) await expectSame(gradients[1][i], gradients[0][i]);
  });

  it('is the simulated layer to whoever stores, measures, maps or requantizes it', async () => {
    const simulated = rounded(layerOf(plain));
    const linear = new IntegerLinear(simulated);
    const x = random('x', [3, 8]);
    expect(linear.state()).toEqual(simulated.state());
    expect(linear.kind).toBe(simulated.kind);
    expect(linear.storageBits).toBe(simulated.storageBits);
    expect([...tensorsOf(linear).keys()]).toEqual([...tensorsOf(simulated).keys()]);
    await expectSame(linear.effectiveWeight(), simulated.effectiveWeight());
    await expectSame(linear.withWeight(linear.effectiveWeight()).forward(x), simulated.forward(x));
    await expectSame(restoreLinear(linear.state(), linearKinds).forward(x), linear.forward(x));
    expect(linear.map((t) => t)).toBeInstanceOf(IntegerLinear);
    expect(linear.quantizable.linear).toBe(simulated.base);
  });
});

describe('integerForm', () => {
  const x = random('x', [2, 3, 8]);
  const factors = { down: random('down', [2, 8]), up: random('up', [6, 2]), scaling: 0.5 };
  const base = layerOf(plain);
  const rotation = hadamardRotation(planHadamard(8));

  it.each<[string, Linear]>([
    ['a layer', rounded(base)],
    [
      'outlier columns',
      new SplitLinear({ outlier: random('outlier', [6, 3]), rest: rounded(layerOf({ ...plain, inFeatures: 5 })), outlierDtype: 'float32' }),
    ],
    ['a rotation', new RotatedLinear({ base: rounded(base), rotation })],
    ['a correction of the input as it is', new LowRankLinear({ base: rounded(base), ...factors })],
    ['a correction of the rounded input', rounded(new LowRankLinear({ base, ...factors }))],
    [
      'corrections within a rotation',
      new RotatedLinear({ base: rounded(new LowRankLinear({ base: new LowRankLinear({ base, ...factors }), ...factors })), rotation }),
    ],
  ])('keeps what surrounds %s', async (_, linear) => {
    const integer = inIntegers(linear);
    expect(integer.kind).toBe(linear.kind);
    expect(integer.state()).toEqual(linear.state());
    await expectSame(integer.forward(x), linear.forward(x));
    // All of it once more changes nothing.
    await expectSame(inIntegers(integer).forward(x), linear.forward(x));
  });

  it.each<[string, Linear, RegExp]>([
    ['a dense layer', new DenseLinear(random('weight', [6, 8])), /input is not quantized \(kind 'dense'\)/],
    ['a quantized weight alone', base, /input is not quantized \(kind 'affine'\)/],
    ['a dense weight', rounded(new DenseLinear(random('weight', [6, 8]))), /weight is not quantized .*'dense'/],
    ['16-bit activations', rounded(base, 16), /input has 16 bits/],
    ['groups of activations', new ActivationQuantizedLinear(base, { bits: 8, groupSize: 4 }), /input has a scale for every 4 features/],
    ['groups of weights', rounded(layerOf({ ...plain, groupSize: 4 })), /weight has a scale for every 4 inputs/],
    [
      'outlier columns beside a dense rest',
      new SplitLinear({
        outlier: random('outlier', [6, 3]),
        rest: rounded(new DenseLinear(random('rest', [6, 5]))),
        outlierDtype: 'float32',
      }),
      /weight is not quantized/,
    ],
  ])('says why not: %s', (_, linear, reason) => {
    expect(integerForm(linear)).toEqual({ obstacle: expect.stringMatching(reason) });
  });

  it('says why not: packed codes, and sums that leave 32 bits', async () => {
    expect(integerForm(rounded(await PackedLinear.of(base)))).toEqual({ obstacle: expect.stringMatching(/packed in memory/) });
    const long = layerOf({ ...plain, bits: 8, out: 1, inFeatures: 65_794, bias: false });
    expect(integerForm(rounded(long))).toEqual({ obstacle: expect.stringMatching(/65794 inputs can leave 32 bits/) });
    expect(() => new IntegerLinear(rounded(long))).toThrow(expect.objectContaining({ code: 'INTEGER_LAYER' }));
  });
});
