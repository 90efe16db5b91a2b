// What TensorFlow.js' own kernels for WebGPU do not do: integers beyond 24 bits, sines near the driver's edge; and that memory does not grow.
import { add, cos, grad, matmul, mean, mul, pad, read, scatterAdd, sin, square, sub, type Tensor, tensor, transpose } from '@lowbit/core';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { swiftShaderEnvironment, withoutSwiftShader } from '../../../test/swiftshader.js';
import { openDevice } from '../src/devices.js';
import { createTfjsBackend, type TfjsBackend } from '../src/index.js';

const int32 = (values: readonly number[], shape: readonly number[]): Tensor => tensor(Int32Array.from(values), shape);

describe.skipIf(!swiftShaderEnvironment)(`WebGPU on SwiftShader${withoutSwiftShader}`, () => {
  let backend: TfjsBackend;
  beforeAll(async () => {
    backend = await createTfjsBackend({ device: 'webgpu' });
  });
  afterAll(() => backend.dispose());

  it('adds, subtracts, multiplies and transposes integers exactly, broadcast ones too', async () => {
    const rows = [2 ** 24 + 1, -(2 ** 30) - 1, 7, 2 ** 24 + 3, 12345, -1];
    const [a, b] = [int32(rows, [2, 3]), int32([2 ** 24 - 1, 3], [2, 1])];
    const results = await backend.evaluate([add(a, b), sub(a, b), mul(a, b), transpose(a)]);
    const [sums, differences, products, turned] = await Promise.all(results.map(read));
    const pairs = rows.map((x, i): [number, number] => [x, i < 3 ? 2 ** 24 - 1 : 3]);
    expect(Array.from(sums)).toEqual(pairs.map(([x, y]) => x + y));
    expect(Array.from(differences)).toEqual(pairs.map(([x, y]) => x - y));
    // Modulo 2³², as integers of 32 bits wrap.
    expect(Array.from(products)).toEqual(pairs.map(([x, y]) => Math.imul(x, y)));
    expect(Array.from(turned)).toEqual([0, 3, 1, 4, 2, 5].map((i) => rows[i]));
    expect(results[3].shape).toEqual([3, 2]);
  });

  it('takes sines within 1e-6 over many periods', async () => {
    const x = Float32Array.from({ length: 400 }, (_, i) => (i - 200) * 1.37);
    const [s, c] = await backend.evaluate([sin(tensor(x)), cos(tensor(x))]);
    const [sines, cosines] = [await read(s), await read(c)];
    for (const [i, value] of x.entries()) {
      expect(Math.abs(sines[i] - Math.sin(value)), `sin ${value}`).toBeLessThan(1e-6);
      expect(Math.abs(cosines[i] - Math.cos(value)), `cos ${value}`).toBeLessThan(1e-6);
    }
  });

  it('keeps sines within [−1, 1] however far out', async () => {
    const [s] = await backend.evaluate([sin(tensor([1e10, -3e7, 2 ** 100]))]);
    for (const value of await read(s)) expect(Math.abs(value)).toBeLessThanOrEqual(1);
  });

  it('pads tensors of five axes, and reads a constant twice', async () => {
    const x = tensor(
      Float32Array.from({ length: 32 }, (_, i) => i + 1),
      [2, 2, 2, 2, 2],
    );
    const nothing = scatterAdd(tensor(new Int32Array(0), [0]), tensor(new Float32Array(0), [0, 2]), 3);
    const [padded, zeros] = await backend.evaluate([pad(x, 2, 1, 1), nothing]);
    expect(Array.from((await read(padded)).slice(0, 16))).toEqual([0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 0, 0, 0, 0]);
    for (let time = 0; time < 2; time++) expect(Array.from(await read(zeros))).toEqual([0, 0, 0, 0, 0, 0]);
  });

  it('says what the device found wrong with an evaluation, there and not in the next', async () => {
    const device = await openDevice('webgpu');
    const x = device.upload(new Float32Array(32), [2, 2, 2, 2, 2], 'float32');
    const faultsOfPad = device.watch();
    // TensorFlow.js' shader for it does not compile.
    device.run(
      'PadV2',
      { x },
      {
        paddings: [
          [0, 0],
          [0, 0],
          [1, 1],
          [0, 0],
          [0, 0],
        ],
        constantValue: 0,
      },
    );
    await expect(faultsOfPad()).rejects.toThrow(/TFJS_DEVICE: .*vec5/);
    const faultsOfNext = device.watch();
    const doubled = device.run('Add', { a: x, b: x });
    await faultsOfNext();
    expect(await device.download(doubled)).toHaveLength(32);
    await device.close();
  });

  it('trains on memory that does not grow, and copies what does not change once', async () => {
    const own = await createTfjsBackend({ device: 'webgpu' });
    const [x, y, rate] = [tensor(new Float32Array(64).fill(0.5), [8, 8]), tensor(new Float32Array(64).fill(1), [8, 8]), tensor(0.01)];
    let weight = tensor(new Float32Array(64).fill(0.1), [8, 8]);
    const held: number[][] = [];
    for (let step = 1; step <= 12; step++) {
      const loss = mean(square(sub(matmul(x, weight), y)));
      const [slope] = grad(loss, [weight]);
      [weight] = await own.evaluate([sub(weight, mul(slope, rate))], { release: [weight] });
      await read(weight);
      const { resident, device } = own.statistics;
      if (step === 2 || step === 12) held.push([resident.uploads, resident.bytes, device.bytes, device.pieces]);
    }
    expect(held[0][0]).toBe(4);
    expect(held[1]).toEqual(held[0]);
    await own.dispose();
  });
});
