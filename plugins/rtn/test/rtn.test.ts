// Round to nearest: the contract of a method, and every weight against an independent rounding.
import { createReferenceBackend } from '@lowbit/backend-reference';
import { createRng, DenseLinear, type Linear, readFloats, roundToFloat16, tensor } from '@lowbit/core';
import { quantize } from '@lowbit/pipeline';
import { linearKinds, QuantizedLinear } from '@lowbit/quant';
import { describeMethod } from '@lowbit/testkit';
import { describe, expect, it } from 'vitest';
import rtn from '../src/index.js';

const backend = createReferenceBackend();

describeMethod(rtn, {
  quantize,
  createBackend: createReferenceBackend,
  options: { bits: 3, groupSize: 16 },
  override: { bits: 2 },
  kinds: linearKinds,
});

describe('rtn', () => {
  const weight = createRng(5).normal(6 * 32);
  const bias = tensor(createRng(6).normal(6));

  /** Runs the one stage of the method on one layer. */
  async function round(linear: Linear, options: Parameters<typeof rtn>[0]): Promise<Linear | undefined> {
    const step = rtn(options);
    const context = { backend, options: step.options, path: 'model.layers.0.mlp.up_proj' } as unknown as Parameters<
      NonNullable<typeof step.method.quantizeLinear>
    >[1];
    return step.method.quantizeLinear?.(linear, context);
  }

  it('takes each weight to the nearest point of its group, float16 scales included', async () => {
    const result = await round(new DenseLinear(tensor(weight, [6, 32]), bias), { bits: 3, groupSize: 16 });
    expect(result).toBeInstanceOf(QuantizedLinear);
    expect((result as QuantizedLinear).bias).toBe(bias);
    const [rounded] = await backend.evaluate([(result as QuantizedLinear).effectiveWeight()]);
    const actual = await readFloats(rounded);
    for (let start = 0; start < weight.length; start += 16) {
      const group = weight.subarray(start, start + 16);
      const low = Math.min(0, ...group);
      const scale = roundToFloat16((Math.max(0, ...group) - low) / 7);
      const zero = Math.round(-low / scale);
      for (const [i, w] of group.entries()) {
        // The nearest of all eight points, found by trying them.
        const points = Array.from({ length: 8 }, (_, code) => scale * (code - zero));
        const nearest = points.reduce((best, point) => (Math.abs(point - w) < Math.abs(best - w) ? point : best));
        expect(actual[start + i]).toBeCloseTo(nearest, 6);
      }
    }
  });

  it('is exact on weights that lie on their grid', async () => {
    const onGrid = Float32Array.from({ length: 32 }, (_, i) => ((i % 16) - 5) * 0.25);
    const result = await round(new DenseLinear(tensor(onGrid, [1, 32])), { bits: 4, groupSize: 16 });
    const [rounded] = await backend.evaluate([(result as QuantizedLinear).effectiveWeight()]);
    expect(await readFloats(rounded)).toEqual(onGrid);
  });

  it('asks for a dense layer and for groups that fit', async () => {
    const dense = new DenseLinear(tensor(weight, [6, 32]));
    const quantized = (await round(dense, { groupSize: 16 })) as Linear;
    await expect(round(quantized, { groupSize: 16 })).rejects.toThrow(
      /^LINEAR_NOT_DENSE: model\.layers\.0\.mlp\.up_proj: is already 'affine'/,
    );
    const { method, options } = rtn({ groupSize: 24 });
    const shape = { path: 'model.layers.0.mlp.up_proj', kind: 'dense', inFeatures: 32, outFeatures: 6 };
    expect(() => method.check?.(shape, options)).toThrow(
      /^GROUP_SIZE: model\.layers\.0\.mlp\.up_proj: 32 inputs do not divide into groups of 24; use 16, 32, -1/,
    );
  });

  it('refuses options when they are written', () => {
    expect(() => rtn({ bits: 9 })).toThrow(/^OPTIONS_INVALID: rtn: bits: /);
  });
});
