// The Linears of this package: what they compute, what they cost, how they are rebuilt, and the gradients that reach their parts.
import { createReferenceBackend } from '@lowbit/backend-reference';
import {
  cast,
  createRng,
  DenseLinear,
  grad,
  type Linear,
  type LinearState,
  mul,
  readFloats,
  restoreLinear,
  sub,
  sum,
  type Tensor,
  tensor,
  tensorsOf,
} from '@lowbit/core';
import { describe, expect, it } from 'vitest';
import {
  ActivationQuantizedLinear,
  AffineWeight,
  bitsPerWeight,
  dequantizeCodes,
  fitGrid,
  LowRankLinear,
  linearKinds,
  QuantizedLinear,
  quantizeActivations,
  quantizeWeight,
  roundToGrid,
} from '../src/index.js';

const backend = createReferenceBackend();
const rng = createRng(7);
const random = (name: string, shape: readonly number[]): Tensor => tensor(rng.at(name).normal(shape.reduce((a, b) => a * b, 1)), shape);
const weight = rng.at('weight').normal(6 * 8);
const options = { bits: 3, groupSize: 4, clip: 'minmax', scaleDtype: 'float16' } as const;
const symmetric = quantizeWeight(weight, [6, 8], { ...options, symmetric: true });
const integer = quantizeWeight(weight, [6, 8], { ...options, symmetric: false });
const free = integer.with({ zeroPoint: undefined, offset: random('offset', [6, 2]), scaleDtype: 'float32' });
const x = random('x', [2, 3, 8]);
const bias = random('bias', [6]);
const down = random('down', [2, 8]);
const up = random('up', [6, 2]);

const values = async (t: Tensor): Promise<Float32Array> => readFloats((await backend.evaluate([t]))[0]);

/** x Wᵀ + b in float64. */
async function product(input: Tensor, matrix: Tensor, added?: Tensor): Promise<number[]> {
  const [a, w, b] = await Promise.all([values(input), values(matrix), added && values(added)]);
  const [out, inFeatures] = matrix.shape;
  return Array.from({ length: (a.length / inFeatures) * out }, (_, i) => {
    let total = b ? b[i % out] : 0;
    for (let k = 0; k < inFeatures; k++) total += a[Math.floor(i / out) * inFeatures + k] * w[(i % out) * inFeatures + k];
    return total;
  });
}

function expectClose(actual: Float32Array, expected: ArrayLike<number>, tolerance = 1e-5): void {
  expect(actual.length).toBe(expected.length);
  actual.forEach((value, i) => {
    expect(Math.abs(value - expected[i])).toBeLessThanOrEqual(tolerance * (1 + Math.abs(expected[i])));
  });
}

describe('AffineWeight', () => {
  it('stands for scale · (code − zero), bit for bit as the host computes it', async () => {
    for (const isSymmetric of [true, false]) {
      for (let bits = 1; bits <= 8; bits++) {
        const grid = fitGrid(weight, [6, 8], { ...options, bits, symmetric: isSymmetric });
        const codes = roundToGrid(weight, grid);
        expect(await values(AffineWeight.fromGrid(codes, grid).dequantized())).toEqual(dequantizeCodes(codes, grid));
      }
    }
  });

  it('counts codes, scales, zero points and offsets', () => {
    expect(symmetric.storageBits).toBe(48 * 3 + 12 * 16);
    expect(integer.storageBits).toBe(48 * 3 + 12 * 16 + 12 * 3);
    expect(free.storageBits).toBe(48 * 3 + 2 * 12 * 32);
    expect(free.with({ scaleDtype: 'float16' }).storageBits).toBe(48 * 3 + 2 * 12 * 16);
    expect([symmetric, integer, free].map((w) => w.zeroKind)).toEqual(['symmetric', 'integer', 'free']);
    expect(bitsPerWeight(new QuantizedLinear(integer))).toBe((48 * 3 + 12 * 19) / 48);
  });

  it('lets gradients reach scale and offset, as sums over the group', async () => {
    const upstream = random('upstream', [6, 8]);
    const g = await values(upstream);
    const loss = (w: AffineWeight): Tensor => sum(mul(w.dequantized(), upstream));
    const groupSums = (factor: (i: number) => number): number[] =>
      Array.from({ length: 12 }, (_, j) => [0, 1, 2, 3].reduce((total, k) => total + g[j * 4 + k] * factor(j * 4 + k), 0));
    const codes = roundToGrid(weight, fitGrid(weight, [6, 8], { ...options, symmetric: true }));
    const [dSymmetric] = grad(loss(symmetric), [symmetric.scale]);
    expectClose(
      await values(dSymmetric),
      groupSums((i) => codes[i] - 4),
    );

    const grid = fitGrid(weight, [6, 8], { ...options, symmetric: false });
    const asymmetricCodes = roundToGrid(weight, grid);
    const [dInteger] = grad(loss(integer), [integer.scale]);
    expectClose(
      await values(dInteger),
      groupSums((i) => asymmetricCodes[i] - (grid.zeroPoint?.[Math.floor(i / 4)] ?? 0)),
    );
    const [dScale, dOffset] = grad(loss(free), [free.scale, free.offset as Tensor]);
    expectClose(
      await values(dScale),
      groupSums((i) => asymmetricCodes[i]),
    );
    expectClose(
      await values(dOffset),
      groupSums(() => 1),
    );
  });

  it('computes with codes between and beyond the points of its grid, where they are an expression', async () => {
    const perturbed = integer.with({ codes: sub(cast(integer.codes, 'float32'), 9.5) });
    const { scale } = fitGrid(weight, [6, 8], { ...options, symmetric: false });
    const before = await values(integer.dequantized());
    expectClose(
      await values(perturbed.dequantized()),
      before.map((w, i) => w - 9.5 * scale[Math.floor(i / 4)]),
    );
  });

  it('refuses parts that do not fit', () => {
    const wrong = (parts: Partial<ConstructorParameters<typeof AffineWeight>[0]>) => () => integer.with(parts);
    expect(wrong({ bits: 0 })).toThrow(/^AFFINE_WEIGHT: .*bits must be an integer from 1 to 8/);
    expect(wrong({ codes: random('codes', [6, 8]) })).toThrow(/^AFFINE_WEIGHT: .*codes must be uint8 \[out, in\], got float32/);
    expect(wrong({ scale: random('scale', [6, 3]) })).toThrow(/^AFFINE_WEIGHT: .*scale must be float32 \[out, groups\]/);
    expect(wrong({ zeroPoint: random('zero', [6, 2]) })).toThrow(/^AFFINE_WEIGHT: .*zeroPoint must be uint8 \[6, 2\]/);
    expect(wrong({ offset: random('offset', [6, 2]) })).toThrow(/^AFFINE_WEIGHT: .*a zero point and a free offset/);
    expect(wrong({ zeroPoint: undefined, offset: random('offset', [6, 1]) })).toThrow(/^AFFINE_WEIGHT: .*offset must be float32 \[6, 2\]/);
  });
});

const affine = new QuantizedLinear(integer, bias);
const lowRank = new LowRankLinear({ base: affine, down, up, scaling: 0.5 });
const linears: Record<string, Linear> = {
  symmetric: new QuantizedLinear(symmetric),
  integer: affine,
  free: new QuantizedLinear(free, bias),
  'low-rank': lowRank,
  'low-rank over dense': new LowRankLinear({ base: new DenseLinear(tensor(weight, [6, 8])), down, up }),
  'activation-quantized': new ActivationQuantizedLinear(affine, { bits: 4, clipRatio: 0.9 }),
  'low-rank over activation-quantized': new LowRankLinear({ base: new ActivationQuantizedLinear(affine, { bits: 4 }), down, up }),
  'activation-quantized over low-rank': new ActivationQuantizedLinear(lowRank, { bits: 8, groupSize: 4 }),
};

describe.each(Object.entries(linears))('%s', (_name, linear) => {
  it('rebuilds from its state: the same output, cost and tensors', async () => {
    const rebuilt = restoreLinear(JSON.parse(JSON.stringify(linear.state()), reviveTensors(linear.state())), linearKinds);
    expect(rebuilt.state()).toEqual(linear.state());
    expect(rebuilt.storageBits).toBe(linear.storageBits);
    expect([...tensorsOf(rebuilt).keys()]).toEqual([...tensorsOf(linear).keys()]);
    expect(await values(rebuilt.forward(x))).toEqual(await values(linear.forward(x)));
  });

  it('computes the same over its evaluated effective weight', async () => {
    const evaluated = linear.withWeight(tensor(await values(linear.effectiveWeight()), [6, 8]));
    expectClose(await values(evaluated.forward(x)), await values(linear.forward(x)));
  });

  it('is x · effectiveWeight + b where the input is read as it is', async () => {
    const merged = linear.withWeight(linear.effectiveWeight());
    if (!(merged instanceof DenseLinear)) return;
    expectClose(await values(linear.forward(x)), await product(x, linear.effectiveWeight(), merged.bias));
  });

  it('maps every tensor under a name of its own and keeps what it is not told to change', async () => {
    const names: string[] = [];
    const same = linear.map((t, tensorName) => {
      names.push(tensorName);
      return t;
    });
    expect(new Set(names).size).toBe(names.length);
    expect(same.state()).toEqual(linear.state());
  });
});

/** A reviver that puts the tensors of a state back where JSON lost them: what a checkpoint reader does. */
function reviveTensors(state: LinearState): (this: unknown, key: string, value: unknown) => unknown {
  const found = new Map<string, Tensor>();
  const collect = (one: LinearState): void => {
    for (const [key, t] of Object.entries(one.tensors)) found.set(`${one.kind}.${key}`, t);
    for (const part of Object.values(one.parts ?? {})) collect(part);
  };
  collect(state);
  return (_key, value) => {
    const one = value as LinearState | null;
    if (typeof one !== 'object' || one === null || !('kind' in one && 'tensors' in one)) return value;
    return { ...one, tensors: Object.fromEntries(Object.keys(one.tensors).map((key) => [key, found.get(`${one.kind}.${key}`)])) };
  };
}

describe('LowRankLinear', () => {
  it('adds scaling · up · down', async () => {
    const [dense, d, u] = await Promise.all([product(x, integer.dequantized(), bias), product(x, down), values(up)]);
    const expected = dense.map(
      (y, i) => y + 0.5 * (u[(i % 6) * 2] * d[Math.floor(i / 6) * 2] + u[(i % 6) * 2 + 1] * d[Math.floor(i / 6) * 2 + 1]),
    );
    expectClose(await values(lowRank.forward(x)), expected);
    expect(lowRank.rank).toBe(2);
  });

  it('counts its factors as they are stored', () => {
    expect(lowRank.storageBits).toBe(affine.storageBits + 28 * 32);
    expect(lowRank.with({ factorDtype: 'float16' }).storageBits).toBe(affine.storageBits + 28 * 16);
  });

  it('refuses factors that do not fit', () => {
    expect(() => lowRank.with({ up: random('up', [6, 3]) })).toThrow(
      /^SHAPE_FACTORS: .*\[6, 8\] needs down \[rank, in\] and up \[out, rank\], got down \[2, 8\]/,
    );
  });
});

describe('ActivationQuantizedLinear', () => {
  it('offers its innermost base to weight quantizers and wraps what they make of it', () => {
    const dense = new DenseLinear(tensor(weight, [6, 8]));
    const nested = new ActivationQuantizedLinear(new ActivationQuantizedLinear(dense, { bits: 8 }), { bits: 4 });
    expect(nested.quantizable).toMatchObject({ linear: dense, start: 0, end: 8 });
    const quantized = nested.quantizable.replace(affine) as ActivationQuantizedLinear;
    expect([quantized.bits, (quantized.base as ActivationQuantizedLinear).bits]).toEqual([4, 8]);
    expect((quantized.base as ActivationQuantizedLinear).base).toBe(affine);
  });
});

describe('quantizeActivations', () => {
  it('rounds each token to a symmetric grid of its own', async () => {
    for (const [bits, clipRatio] of [
      [4, 1],
      [4, 0.7],
      [8, 0.9],
      [2, 1],
    ] as const) {
      const rounded = await values(quantizeActivations(x, { bits, clipRatio }));
      const input = await values(x);
      const largest = 2 ** (bits - 1) - 1;
      for (let token = 0; token < 6; token++) {
        const row = input.subarray(token * 8, token * 8 + 8);
        const scale = (clipRatio * Math.max(...row.map(Math.abs))) / largest;
        expectClose(
          rounded.subarray(token * 8, token * 8 + 8),
          Array.from(row, (v) => scale * Math.min(largest, Math.max(-largest - 1, Math.round(v / scale)))),
        );
      }
    }
  });

  it('uses a grid a group when asked to', async () => {
    const grouped = await values(quantizeActivations(x, { bits: 4, groupSize: 4 }));
    const halves = await values(quantizeActivations(tensor(await values(x), [12, 4]), { bits: 4 }));
    expect(grouped).toEqual(halves);
  });

  it('leaves a token of zeros at zero, and gradients pass straight through', async () => {
    const zeros = tensor(Float32Array.of(0, 0, 0, 0, 3, -1, 0.2, 100), [2, 4]);
    const rounded = await values(quantizeActivations(zeros, { bits: 4, clipRatio: 0.5 }));
    expect([...rounded.subarray(0, 4)]).toEqual([0, 0, 0, 0]);
    expect([...rounded].every(Number.isFinite)).toBe(true);
    const upstream = random('through', [2, 4]);
    const [dx] = grad(sum(mul(quantizeActivations(zeros, { bits: 4, clipRatio: 0.5 }), upstream)), [zeros]);
    expect(await values(dx)).toEqual(await values(upstream));
  });

  it('refuses options out of range', () => {
    expect(() => quantizeActivations(x, { bits: 1 })).toThrow(/^ACTIVATION_BITS: .*2 to 16, got 1/);
    expect(() => quantizeActivations(x, { bits: 4, clipRatio: 0 })).toThrow(/^CLIP_RATIO: .*got 0/);
    expect(() => new ActivationQuantizedLinear(affine, { bits: 4, groupSize: 3 })).toThrow(
      /^GROUP_SIZE: activations: 8 inputs do not divide into groups of 3/,
    );
  });
});

describe('stored states', () => {
  const state = affine.state();
  it.each<[string, LinearState]>([
    ['attributes: bits', { ...state, attributes: { ...state.attributes, bits: 12 } }],
    ['attributes: scaleDtype', { ...state, attributes: { bits: 3 } }],
    ["tensor 'codes'", { ...state, tensors: { scale: integer.scale } }],
    ["part 'base'", { ...lowRank.state(), parts: {} }],
    ["tensor 'up'", { ...lowRank.state(), tensors: { down } }],
  ])('that lack or distort %s are refused by name', (what, damaged) => {
    expect(() => restoreLinear(damaged, linearKinds)).toThrow(/^LINEAR_STATE: a stored linear of kind '(affine|low-rank)'/);
    expect(() => restoreLinear(damaged, linearKinds)).toThrow(what.replace(/^attributes: /, ''));
  });
});
