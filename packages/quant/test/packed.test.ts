// Packed codes: lossless, laid out as documented, and a Linear on them that is the quantized one to the bit, gradients included.
import { createReferenceBackend } from '@lowbit/backend-reference';
import {
  createRng,
  grad,
  lazyTensor,
  materialize,
  mul,
  packedRowBytes,
  read,
  readFloats,
  restoreLinear,
  sum,
  type Tensor,
  tensor,
  tensorsOf,
  unpackPlanes,
} from '@lowbit/core';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { type AffineWeight, linearKinds, PackedLinear, packRows, QuantizedLinear, quantizeWeight, unpackRows } from '../src/index.js';

const backend = createReferenceBackend();
const rng = createRng(5);
const random = (name: string, shape: readonly number[]): Tensor => tensor(rng.at(name).normal(shape.reduce((a, b) => a * b, 1)), shape);

const ROWS = 3;
const cases = fc
  .tuple(fc.integer({ min: 1, max: 8 }), fc.integer({ min: 1, max: 40 }))
  .chain(([bits, inFeatures]) =>
    fc.tuple(
      fc.constant({ bits, inFeatures }),
      fc.uint8Array({ max: 2 ** bits - 1, minLength: ROWS * inFeatures, maxLength: ROWS * inFeatures }),
    ),
  );

describe('packRows', () => {
  it('is undone by unpackRows and by the operator, for every width', async () => {
    await fc.assert(
      fc.asyncProperty(cases, async ([layout, codes]) => {
        const packed = packRows(codes, layout);
        expect(packed.length).toBe(ROWS * packedRowBytes(layout));
        expect(unpackRows(packed, layout)).toEqual(codes);
        const [unpacked] = await backend.evaluate([unpackPlanes(tensor(packed, [ROWS, packed.length / ROWS]), layout)]);
        expect(await read(unpacked)).toEqual(codes);
      }),
    );
  });

  it('puts neighbouring codes into neighbouring bytes, parts of 4, 2 and 1 bits after each other', () => {
    expect([...packRows(Uint8Array.of(0, 1, 2, 3, 3, 2, 1, 0), { bits: 2, inFeatures: 8 })]).toEqual([0b01_11_10_00, 0b00_10_11_01]);
    // The two lower bits of five codes, padded with 0, then their highest.
    expect([...packRows(Uint8Array.of(7, 4, 1, 2, 5), { bits: 3, inFeatures: 5 })]).toEqual([0b01_01_11, 0b10_00, 0b10011]);
    expect([...packRows(Uint8Array.of(200, 3), { bits: 8, inFeatures: 2 })]).toEqual([200, 3]);
  });

  it('takes as many bits a code as it has, where rows fill their bytes', () => {
    for (let bits = 1; bits <= 8; bits++) expect(packedRowBytes({ bits, inFeatures: 64 })).toBe(8 * bits);
  });

  it('refuses what it cannot hold', () => {
    const code = (code: string) => expect.objectContaining({ code });
    expect(() => packRows(Uint8Array.of(0, 4), { bits: 2, inFeatures: 2 })).toThrow(code('CODE_RANGE'));
    expect(() => packRows(new Uint8Array(5), { bits: 2, inFeatures: 2 })).toThrow(code('PACKED_LENGTH'));
    expect(() => unpackRows(new Uint8Array(5), { bits: 3, inFeatures: 8 })).toThrow(code('PACKED_LENGTH'));
    expect(() => packRows(new Uint8Array(4), { bits: 9, inFeatures: 2 })).toThrow(code('BITS_RANGE'));
    expect(() => unpackPlanes(tensor(new Uint8Array(6), [2, 3]), { bits: 2, inFeatures: 8 })).toThrow(code('SHAPE_PACKED'));
  });
});

const [OUT, IN] = [6, 12];

/** Layers of every width and kind of zero. */
const layers = Array.from({ length: 8 }, (_, i) => i + 1).flatMap((bits): [string, QuantizedLinear][] => {
  const options = { bits, groupSize: 4, clip: 'minmax', scaleDtype: 'float16' } as const;
  const values = rng.at('weight', bits).normal(OUT * IN);
  const weightOf = (symmetric: boolean): AffineWeight => quantizeWeight(values, [OUT, IN], { ...options, symmetric });
  const free = weightOf(true).with({ offset: random('offset', [OUT, 3]), scaleDtype: 'float32' });
  const bias = random('bias', [OUT]);
  return [
    [`${bits} bits, symmetric`, new QuantizedLinear(weightOf(true), bias)],
    [`${bits} bits, free offset`, new QuantizedLinear(free)],
    // A zero point is a code, of which one bit has too few.
    ...(bits === 1 ? [] : [[`${bits} bits, zero points`, new QuantizedLinear(weightOf(false), bias)] as [string, QuantizedLinear]]),
  ];
});

const x = random('x', [2, 3, IN]);
const weights = random('loss', [2, 3, OUT]);

describe('PackedLinear', () => {
  it.each(layers)('computes what the quantized layer does: %s', async (_name, quantized) => {
    const packed = await PackedLinear.of(quantized);
    const [expected, actual] = await backend.evaluate([quantized.forward(x), packed.forward(x)]);
    expect(await read(actual)).toEqual(await read(expected));
    const [weight, again] = await backend.evaluate([quantized.effectiveWeight(), packed.effectiveWeight()]);
    expect(await read(again)).toEqual(await read(weight));
    expect(packed.packed.size).toBe(OUT * packedRowBytes({ bits: quantized.weight.bits, inFeatures: IN }));
    expect([packed.storageBits, packed.inFeatures, packed.outFeatures]).toEqual([quantized.storageBits, IN, OUT]);
  });

  it.each(layers)('has its gradients: %s', async (_name, quantized) => {
    const packed = await PackedLinear.of(quantized);
    const gradientsOf = async (linear: QuantizedLinear | PackedLinear): Promise<Float32Array[]> => {
      const { scale, offset } = linear.weight;
      const wanted = [x, scale, ...(offset ? [offset] : [])];
      const gradients = await backend.evaluate(grad(sum(mul(linear.forward(x), weights)), wanted));
      return Promise.all(gradients.map(readFloats));
    };
    const [expected, actual] = [await gradientsOf(quantized), await gradientsOf(packed)];
    expect(actual).toEqual(expected);
    // dx = dy · W, in float64.
    const [w, dy] = [await readFloats((await backend.evaluate([quantized.effectiveWeight()]))[0]), await readFloats(weights)];
    actual[0].forEach((value, i) => {
      let total = 0;
      for (let j = 0; j < OUT; j++) total += dy[Math.floor(i / IN) * OUT + j] * w[j * IN + (i % IN)];
      expect(value).toBeCloseTo(total, 4);
    });
  });

  it('is stored as the layer that it was made from', async () => {
    const quantized = layers[4][1];
    const packed = await PackedLinear.of(quantized);
    const [stored, original] = [packed.state(), quantized.state()];
    expect({ ...stored, tensors: Object.keys(stored.tensors) }).toEqual({ ...original, tensors: Object.keys(original.tensors) });
    for (const [name, t] of Object.entries(original.tensors)) expect(await read(stored.tensors[name]), name).toEqual(await read(t));
    const restored = restoreLinear(stored, linearKinds);
    expect(restored).toBeInstanceOf(QuantizedLinear);
    const [expected, actual] = await backend.evaluate([packed.forward(x), restored.forward(x)]);
    expect(await read(actual)).toEqual(await read(expected));
  });

  it('reads codes from where they lie once, and keeps none of them', async () => {
    const quantized = layers[3][1];
    const codes = await read(quantized.weight.codes);
    let loads = 0;
    const load = (): typeof codes => {
      loads++;
      return codes.slice();
    };
    const lazy = new QuantizedLinear(quantized.weight.with({ codes: lazyTensor([OUT, IN], 'uint8', load) }), quantized.bias);
    const packed = await materialize(await PackedLinear.of(lazy));
    const [actual, expected] = await backend.evaluate([packed.forward(x), quantized.forward(x)]);
    expect(await read(actual)).toEqual(await read(expected));
    expect(loads).toBe(1);
    for (const [name, t] of tensorsOf(packed)) expect([name, t.size < OUT * IN]).toEqual([name, true]);
  });

  it('can be given a dense weight in place of its own', async () => {
    const packed = await PackedLinear.of(layers[0][1]);
    const dense = packed.withWeight(random('other', [OUT, IN]));
    expect([dense.kind, dense.bias]).toEqual(['dense', packed.unpacked.bias]);
  });
});
