// Split and rotated Linears: what they compute, what they offer to weight quantizers, their cost, their states, their gradients.
import { createReferenceBackend } from '@lowbit/backend-reference';
import {
  createRng,
  DenseLinear,
  flattenRows,
  grad,
  type Linear,
  matmul,
  mul,
  quantizablePart,
  readFloats,
  restoreLinear,
  roundToFloat16,
  slice,
  sum,
  type Tensor,
  tensor,
  tensorsOf,
} from '@lowbit/core';
import { planHadamard } from '@lowbit/linalg';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  ActivationQuantizedLinear,
  hadamardRotation,
  LowRankLinear,
  linearKinds,
  QuantizedLinear,
  quantizeActivations,
  quantizeWeight,
  RotatedLinear,
  type Rotation,
  rotateFeatures,
  SplitLinear,
} from '../src/index.js';

const backend = createReferenceBackend();
const rng = createRng(17);
const random = (name: string, shape: readonly number[]): Tensor => tensor(rng.at(name).normal(shape.reduce((a, b) => a * b, 1)), shape);
const values = async (t: Tensor): Promise<Float32Array> => readFloats((await backend.evaluate([t]))[0]);

function expectClose(actual: ArrayLike<number>, expected: ArrayLike<number>, tolerance = 1e-5): void {
  expect(actual.length).toBe(expected.length);
  for (let i = 0; i < actual.length; i++)
    expect(Math.abs(actual[i] - expected[i])).toBeLessThanOrEqual(tolerance * (1 + Math.abs(expected[i])));
}

/** The rotation's matrix [size, size], written out: I(blocks) ⊗ Sylvester ⊗ factor, or the matrix itself. */
async function written(rotation: Rotation): Promise<number[][]> {
  if (rotation.kind === 'matrix') {
    const [size] = rotation.matrix.shape;
    const entries = await values(rotation.matrix);
    return Array.from({ length: size }, (_, i) => [...entries.subarray(i * size, (i + 1) * size)]);
  }
  const { size, blocks, factor } = rotation;
  const stretch = size / blocks;
  const order = factor?.shape[0] ?? 1;
  const entries = factor ? await values(factor) : [1];
  const parity = (i: number): number => [...i.toString(2)].filter((digit) => digit === '1').length % 2;
  return Array.from({ length: size }, (_, i) =>
    Array.from({ length: size }, (_, j) => {
      if (Math.floor(i / stretch) !== Math.floor(j / stretch)) return 0;
      const [a, b] = [i % stretch, j % stretch];
      const sign = parity(Math.floor(a / order) & Math.floor(b / order)) === 1 ? -1 : 1;
      return (sign * entries[(a % order) * order + (b % order)]) / Math.sqrt(stretch);
    }),
  );
}

/** Orthonormal rows by Gram-Schmidt: a matrix that is not symmetric. */
function orthogonal(size: number): Tensor {
  const rows: number[][] = [];
  for (let i = 0; i < size; i++) {
    let row = [...rng.at('orthogonal', size, i).normal(size)];
    for (let pass = 0; pass < 2; pass++)
      for (const other of rows) {
        const overlap = row.reduce((total, value, k) => total + value * other[k], 0);
        row = row.map((value, k) => value - overlap * other[k]);
      }
    const length = Math.hypot(...row);
    rows.push(row.map((value) => value / length));
  }
  return tensor(Float32Array.from(rows.flat()), [size, size]);
}

const rotations: Record<string, Rotation> = {
  'of a power of two': hadamardRotation(planHadamard(16)),
  // Paley's matrix of order 12 is not symmetric.
  'with a factor': hadamardRotation(planHadamard(24)),
  'in blocks': hadamardRotation(planHadamard(56, { fallback: 'block-diagonal' })),
  'in blocks of one': hadamardRotation(planHadamard(7, { fallback: 'block-diagonal' })),
  'by a matrix': { kind: 'matrix', matrix: orthogonal(10) },
};

describe.each(Object.entries(rotations))('a rotation %s', (name, rotation) => {
  const size = rotation.kind === 'matrix' ? 10 : rotation.size;
  it.each([1, 3])('mixes stretches of %i features as its matrix says, and back', async (inner) => {
    const x = random(`${name} ${inner}`, [2, 3, size * inner]);
    const [input, matrix] = [await values(x), await written(rotation)];
    const expected = new Float64Array(input.length);
    for (let row = 0; row < 6; row++)
      for (let j = 0; j < size; j++)
        for (let k = 0; k < inner; k++)
          for (let i = 0; i < size; i++) expected[(row * size + j) * inner + k] += input[(row * size + i) * inner + k] * matrix[i][j];
    const rotated = rotateFeatures(x, rotation);
    expect(rotated.shape).toEqual(x.shape);
    expectClose(await values(rotated), expected);
    expectClose(await values(rotateFeatures(rotated, rotation, { transpose: true })), input);
  });

  it('lets gradients through', async () => {
    const x = random(`${name} x`, [4, size]);
    const upstream = random(`${name} upstream`, [4, size]);
    const [slope] = grad(sum(mul(rotateFeatures(x, rotation), upstream)), [x]);
    expectClose(await values(slope), await values(rotateFeatures(upstream, rotation, { transpose: true })));
  });
});

it('rotations keep the length of every row', async () => {
  await fc.assert(
    fc.asyncProperty(fc.integer({ min: 1, max: 40 }), fc.integer({ min: 1, max: 4 }), async (size, inner) => {
      const rotation = hadamardRotation(planHadamard(size, { fallback: 'block-diagonal' }));
      const x = random(`length ${size} ${inner}`, [3, size * inner]);
      const norms = async (t: Tensor): Promise<Float32Array> => values(sum(mul(t, t), [-1]));
      expectClose(await norms(rotateFeatures(x, rotation)), await norms(x));
    }),
    { numRuns: 40 },
  );
});

it('refuses rotations that do not fit', () => {
  const linear = new DenseLinear(random('refused', [4, 24]));
  const over = (rotation: Rotation) => () => new RotatedLinear({ base: linear, rotation });
  expect(over({ kind: 'hadamard', size: 16, blocks: 1 })).toThrow(
    /^ROTATION: a rotation of 24 features: an order of 16 does not divide them/,
  );
  expect(over({ kind: 'hadamard', size: 24, blocks: 1 })).toThrow(/^ROTATION: .*leaves 24, which is no power of two/);
  expect(over({ kind: 'hadamard', size: 24, blocks: 7 })).toThrow(/^ROTATION: .*no power of two/);
  expect(over({ kind: 'matrix', matrix: random('oblong', [24, 12]) })).toThrow(/^ROTATION: .*must be square, got \[24, 12\]/);
});

const dense = new DenseLinear(random('weight', [6, 24]), random('bias', [6]));
const narrow = new DenseLinear(random('narrow', [6, 16]), dense.bias);
const outlier = tensor(rng.at('outlier').normal(48).map(roundToFloat16), [6, 8]);
const hadamard24 = hadamardRotation(planHadamard(24));
const heads: Rotation = { kind: 'matrix', matrix: orthogonal(4) };
const four = { bits: 4, clipRatio: 0.9 };
const quantized = new QuantizedLinear(
  quantizeWeight(rng.at('codes').normal(6 * 16), [6, 16], {
    bits: 4,
    groupSize: -1,
    clip: 'minmax',
    scaleDtype: 'float16',
    symmetric: true,
  }),
  dense.bias,
);
const wrappers: Record<string, Linear> = {
  split: new SplitLinear({ outlier, rest: narrow, outlierDtype: 'float16' }),
  'split over activation-quantized': new SplitLinear({
    outlier,
    rest: new ActivationQuantizedLinear(narrow, four),
    outlierDtype: 'float16',
  }),
  'split over quantized': new SplitLinear({ outlier, rest: new ActivationQuantizedLinear(quantized, four), outlierDtype: 'float32' }),
  rotated: new RotatedLinear({ base: dense, rotation: hadamard24 }),
  'rotated over activation-quantized': new RotatedLinear({ base: new ActivationQuantizedLinear(dense, four), rotation: hadamard24 }),
  'rotated across heads': new RotatedLinear({ base: new ActivationQuantizedLinear(dense, four), rotation: heads }),
  'low-rank over rotated': new LowRankLinear({
    base: new RotatedLinear({ base: new ActivationQuantizedLinear(dense, four), rotation: heads }),
    down: random('down', [2, 24]),
    up: random('up', [6, 2]),
  }),
  'split over rotated': new SplitLinear({
    outlier,
    rest: new RotatedLinear({ base: new ActivationQuantizedLinear(narrow, four), rotation: heads }),
    outlierDtype: 'float16',
  }),
  'rotated over split': new RotatedLinear({
    base: new SplitLinear({ outlier, rest: new ActivationQuantizedLinear(narrow, four), outlierDtype: 'float16' }),
    rotation: hadamard24,
  }),
};
const x = random('x', [2, 3, 24]);

describe.each(Object.entries(wrappers))('%s', (_name, linear) => {
  it('rebuilds from its state: the same output, cost and tensors', async () => {
    const rebuilt = restoreLinear(linear.state(), linearKinds);
    expect(rebuilt.state()).toEqual(linear.state());
    expect(rebuilt.storageBits).toBe(linear.storageBits);
    expect([...tensorsOf(rebuilt).keys()]).toEqual([...tensorsOf(linear).keys()]);
    expect(await values(rebuilt.forward(x))).toEqual(await values(linear.forward(x)));
  });

  it('maps every tensor under a name of its own', () => {
    const names: string[] = [];
    const same = linear.map((t, name) => {
      names.push(name);
      return t;
    });
    expect(new Set(names).size).toBe(names.length);
    expect(same.state()).toEqual(linear.state());
  });

  it('computes the same over its evaluated effective weight', async () => {
    const evaluated = linear.withWeight(tensor(await values(linear.effectiveWeight()), [6, 24]));
    // Rotating a weight there and back moves the last bits, and an activation on the edge of its rounding by a step: on one in many.
    expectClose(await values(evaluated.forward(x)), await values(linear.forward(x)), 1e-4);
  });

  it('takes another weight: what it then stands for is that weight', async () => {
    const weight = random('other', [6, 24]);
    expectClose(await values(linear.withWeight(weight).effectiveWeight()), await values(weight));
  });

  it('names the part that weight quantizers work on, and what that one reads', async () => {
    const part = quantizablePart(linear);
    const read = part.reads ? part.reads(x) : x;
    // In full precision the wrapper is its part over what it says the part reads, and the other columns over the rest.
    const replaced = part.replace(new DenseLinear(mul(part.linear.effectiveWeight(), 0)));
    const own = matmul(flattenRows(slice(read, -1, part.start, part.end)), part.linear.effectiveWeight(), { transposeB: true });
    const whole = matmul(flattenRows(x), linear.effectiveWeight(), { transposeB: true });
    const others = matmul(flattenRows(x), replaced.effectiveWeight(), { transposeB: true });
    const total = await values(own);
    const rest = await values(others);
    expectClose(
      total.map((value, i) => value + rest[i]),
      await values(whole),
      1e-4,
    );
    expect(part.linear.quantizable).toBeUndefined();
    expect(part.replace(part.linear).state()).toEqual(linear.state());
  });
});

describe('SplitLinear', () => {
  it('is the outlier columns over the first inputs and the rest over the others', async () => {
    const expected = [
      await values(matmul(flattenRows(slice(x, -1, 0, 8)), outlier, { transposeB: true })),
      await values(narrow.forward(quantizeActivations(flattenRows(slice(x, -1, 8, 24)), four))),
    ];
    expectClose(
      await values(wrappers['split over activation-quantized'].forward(x)),
      expected[0].map((value, i) => value + expected[1][i]),
    );
  });

  it('merges into one dense layer where nothing is done to its input, and counts columns as they are stored', () => {
    const { split } = wrappers;
    expect(split.withWeight(random('other', [6, 24]))).toBeInstanceOf(DenseLinear);
    expect(split.storageBits).toBe(narrow.storageBits + 48 * 16);
    expect((split as SplitLinear).with({ outlierDtype: 'float32' }).storageBits).toBe(narrow.storageBits + 48 * 32);
    expect((wrappers['split over activation-quantized'] as SplitLinear).rank).toBe(8);
  });

  it('refuses columns that do not fit', () => {
    expect(() => (wrappers.split as SplitLinear).with({ outlier: random('wrong', [5, 8]) })).toThrow(
      /^SHAPE_OUTLIER: outlier columns beside \[6, 16\] must be \[out, rank\], got \[5, 8\]/,
    );
  });

  it('lets gradients reach the columns and the input', async () => {
    const upstream = random('upstream', [2, 3, 6]);
    const [dOutlier, dx] = grad(sum(mul(wrappers['split over quantized'].forward(x), upstream)), [outlier, x]);
    expectClose(await values(dOutlier), await values(matmul(flattenRows(upstream), flattenRows(slice(x, -1, 0, 8)), { transposeA: true })));
    const weight = wrappers['split over quantized'].effectiveWeight();
    expectClose(await values(dx), await values(matmul(flattenRows(upstream), weight)));
  });
});

describe('RotatedLinear', () => {
  it('undoes a rotation that lies in the weight: online and offline cancel', async () => {
    const offline = new DenseLinear(rotateFeatures(dense.weight, hadamard24), dense.bias);
    const rotated = new RotatedLinear({ base: offline, rotation: hadamard24 });
    expectClose(await values(rotated.forward(x)), await values(dense.forward(x)));
    expectClose(await values(rotated.effectiveWeight()), await values(dense.weight));
  });

  it('merges over a layer that reads its input as it is, and counts what it stores', () => {
    expect(wrappers.rotated.withWeight(random('other', [6, 24]))).toBeInstanceOf(DenseLinear);
    expect(wrappers.rotated.storageBits).toBe(dense.storageBits + 144 * 16);
    expect(wrappers['rotated across heads'].storageBits).toBe(dense.storageBits + 16 * 32);
    expect(new RotatedLinear({ base: narrow, rotation: rotations['of a power of two'] }).storageBits).toBe(narrow.storageBits);
  });

  it('quantizes what it has rotated', async () => {
    const expected = dense.forward(quantizeActivations(rotateFeatures(x, heads), four));
    expect(await values(wrappers['rotated across heads'].forward(x))).toEqual(await values(expected));
  });
});

describe('stored states', () => {
  const split = wrappers.split.state();
  const rotated = wrappers.rotated.state();
  it.each([
    [{ ...split, tensors: {} }, /^LINEAR_STATE: .*'split' lacks the tensor 'outlier'/],
    [{ ...split, parts: {} }, /^LINEAR_STATE: .*'split' lacks the part 'rest'/],
    [{ ...split, attributes: {} }, /^LINEAR_STATE: .*'split' has wrong attributes: outlierDtype/],
    [
      { ...rotated, attributes: { ...rotated.attributes, rotation: 'givens' } },
      /^LINEAR_STATE: .*'rotated' has wrong attributes: rotation/,
    ],
    [{ ...rotated, attributes: { ...rotated.attributes, size: 0 } }, /^LINEAR_STATE: .*'rotated' has wrong attributes: size/],
    [{ ...rotated, attributes: { rotation: 'matrix' } }, /^LINEAR_STATE: .*'rotated' lacks the tensor 'matrix'/],
    [{ ...rotated, tensors: {} }, /^ROTATION: a rotation of 24 features: .*no power of two/],
  ])('that lack or distort something are refused by name', (damaged, message) => {
    expect(() => restoreLinear(damaged, linearKinds)).toThrow(message);
  });
});
