// What is trained of a block: gradients against finite differences in float64, and how values are stored.
import { createOnnxBackend } from '@lowbit/backend-onnxruntime';
import { createReferenceBackend } from '@lowbit/backend-reference';
import { type Block, type DenseLinear, grad, mean, read, readFloats, roundToFloat16, square, sub, type Tensor, tensor } from '@lowbit/core';
import { QuantizedLinear } from '@lowbit/quant';
import { type NamedTensors, withParameters } from '@lowbit/train';
import { afterAll, describe, expect, it } from 'vitest';
import { affineLayerOf, normTensors, scalesOf, trainableOf } from '../src/trainable.js';
import { blockSetting } from './block-setting.js';

const reference = createReferenceBackend();
const backend = await createOnnxBackend({ threads: 1, spin: false });
afterAll(() => backend.dispose());
const plain = await blockSetting(backend);

const layersOf = (block: Block): [string, QuantizedLinear][] =>
  Object.entries(block.linears).map(([name, linear]) => [name, affineLayerOf(linear) as QuantizedLinear]);

describe('gradients of the block loss', () => {
  const x = plain.inputs[0];
  const lossOf = (block: Block): Tensor => mean(square(sub(block.forward(x), plain.targets[0])));
  const number = async (loss: Tensor): Promise<number> => (await reference.float64(loss))[0];

  it('agree with finite differences in float64, for scales, offsets and norms', async () => {
    const layers = layersOf(plain.quantized).flatMap(([, layer]) => [...scalesOf(layer)]);
    const norms = Object.values(plain.quantized.norms).flatMap((norm) => [...normTensors(norm)]);
    const trainable = await trainableOf(plain.quantized, new Map([...layers, ...norms]));
    const { parameters } = trainable;
    expect(parameters.size).toBe(7 * 2 + 2);
    const blockWith = (values: NamedTensors): Block => withParameters(plain.quantized, trainable.tensorsFor(values));
    const gradients = grad(lossOf(blockWith(parameters)), [...parameters.values()]);
    for (const [i, [name, t]] of [...parameters].entries()) {
      const values = await readFloats(t);
      const gradient = await reference.float64(gradients[i]);
      const index = (7 * i) % t.size;
      const [low, high] = await Promise.all(
        [-1, 1].map(async (sign) => {
          const moved = values.slice();
          moved[index] += sign * 2 ** -12;
          const block = blockWith(new Map([...parameters, [name, tensor(moved, t.shape)]]));
          return { value: moved[index], loss: await number(lossOf(block)) };
        }),
      );
      const slope = (high.loss - low.loss) / (high.value - low.value);
      expect(Math.abs(gradient[index] - slope), name).toBeLessThan(2e-4 * Math.max(1e-2, Math.abs(slope)));
    }
  });

  it('are sums over the group of the gradient of its weights: dL/ds = Σ q · dL/dŵ, dL/dz = Σ dL/dŵ', async () => {
    for (const [name, { weight, bias }] of layersOf(plain.quantized)) {
      const [dense] = await backend.evaluate([weight.dequantized()]);
      const unrolled = (plain.dense.linears[name] as DenseLinear).withWeight(dense);
      const [byWeight] = grad(lossOf(plain.quantized.with({ linears: { [name]: unrolled } })), [dense]);
      const direct = grad(lossOf(plain.quantized), [weight.scale, weight.offset as Tensor]);
      const [dw, ds, dz] = await Promise.all([byWeight, ...direct].map((t) => reference.float64(t)));
      const codes = await read(weight.codes);
      const { groupSize } = weight;
      const magnitude = Math.max(...ds.map(Math.abs));
      for (let group = 0; group < ds.length; group++) {
        let [scale, offset] = [0, 0];
        for (let i = group * groupSize; i < (group + 1) * groupSize; i++) {
          scale += codes[i] * dw[i];
          offset += dw[i];
        }
        // The dense weight is a float32 leaf, the dequantized one is float64 here.
        expect(Math.abs(ds[group] - scale)).toBeLessThan(1e-5 * magnitude);
        expect(Math.abs(dz[group] - offset)).toBeLessThan(1e-5 * magnitude);
      }
      expect(bias?.shape).toEqual(unrolled.bias?.shape);
    }
  });
});

describe('trainableOf', () => {
  const [scaleName, offsetName, normName] = ['mlp.up_proj.scale', 'mlp.up_proj.offset', 'input_layernorm.weight'];
  const layer = plain.quantized.linears['mlp.up_proj'] as QuantizedLinear;
  const all = (one: QuantizedLinear) => new Map([...scalesOf(one), ...normTensors(plain.quantized.norms['input_layernorm'])]);
  const valuesOf = async (tensors: NamedTensors, name: string): Promise<number[]> => [...(await readFloats(tensors.get(name) as Tensor))];

  it('trains the value of the signed code 0 in place of the offset', async () => {
    const { parameters, original, tensorsFor } = await trainableOf(plain.quantized, all(layer));
    expect([...parameters.keys()].sort()).toEqual([normName, offsetName, scaleName].sort());
    const [offset, scale] = [await valuesOf(original, offsetName), await valuesOf(original, scaleName)];
    expect(await valuesOf(parameters, offsetName)).toEqual(offset.map((o, i) => Math.fround(o + 2 * scale[i])));
    const [back] = await backend.evaluate([tensorsFor(parameters).get(offsetName) as Tensor]);
    for (const [i, o] of (await readFloats(back)).entries()) expect(o).toBeCloseTo(offset[i], 6);
  });

  it('stores what did not move as it was', async () => {
    const rough = new QuantizedLinear(
      layer.weight.with({
        scaleDtype: 'float32',
        scale: tensor(
          (await readFloats(layer.weight.scale)).map((s) => s / 3),
          layer.weight.scale.shape,
        ),
      }),
    );
    const block = plain.quantized.with({ linears: { 'mlp.up_proj': rough } });
    const { parameters, original, storedAs } = await trainableOf(block, all(rough));
    const stored = await storedAs(parameters);
    for (const name of [scaleName, offsetName, normName]) expect(await valuesOf(stored, name)).toEqual(await valuesOf(original, name));
  });

  it('rounds to what is stored, within its range, and keeps scales from 0', async () => {
    const { parameters, storedAs } = await trainableOf(plain.quantized, all(layer));
    const { shape, size } = layer.weight.scale;
    const filled = (values: readonly number[]): Tensor =>
      tensor(
        Float32Array.from({ length: size }, (_, i) => values[i % values.length]),
        shape,
      );
    const trained = new Map([
      ...parameters,
      [scaleName, filled([0.1, 1e-9, -1e-9, 0, 1e6, -1e6])],
      [offsetName, filled([0.3, 0, 1, 2, 3, 4])],
    ]);
    const stored = await storedAs(trained);
    const half = roundToFloat16(Math.fround(0.1));
    const tiny = 2 ** -24;
    expect((await valuesOf(stored, scaleName)).slice(0, 6)).toEqual([half, tiny, tiny, tiny, 65504, -65504]);
    const offsets = [0.3 - 2 * half, -2 * tiny, 1 - 2 * tiny, 2 - 2 * tiny, -65504, 65504];
    expect((await valuesOf(stored, offsetName)).slice(0, 6)).toEqual(
      offsets.map((x, i) => roundToFloat16(i === 0 ? Math.fround(0.3) - 2 * half : x)),
    );
    expect(stored.get(normName)).toBe(trained.get(normName));
  });

  it('keeps float32 scales as they are, but not at 0', async () => {
    const single = new QuantizedLinear(layer.weight.with({ scaleDtype: 'float32', offset: undefined }));
    const block = plain.quantized.with({ linears: { 'mlp.up_proj': single } });
    const { parameters, storedAs } = await trainableOf(block, scalesOf(single));
    const { shape, size } = single.weight.scale;
    const stored = await storedAs(
      new Map([...parameters, [scaleName, tensor(new Float32Array(size).fill(0.1).fill(0, 1, 2).fill(1e9, 2, 3), shape)]]),
    );
    expect((await valuesOf(stored, scaleName)).slice(0, 3)).toEqual([Math.fround(0.1), 2 ** -126, 1e9]);
  });
});
