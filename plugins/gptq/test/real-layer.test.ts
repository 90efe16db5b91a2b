// On a layer of a 13B model with massive activations: what the Hessian's diagonal does for the range search. Held-out rows judge.
import { join } from 'node:path';
import { createOnnxBackend } from '@lowbit/backend-onnxruntime';
import { linear, matmul, readFloats, readNumber, slice, square, sub, sum, type Tensor } from '@lowbit/core';
import { openSafetensors } from '@lowbit/formats';
import { AffineWeight, fitGrid, type GptqFactor, type GridOptions, roundToGrid } from '@lowbit/quant';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { importanceOf } from '../src/gptq-weight.js';

const data = process.env.LOWBIT_TEST_DATA;
const OUT = 128;

describe.skipIf(!data)('q_proj of codellama13b-layer11 (skipped unless LOWBIT_TEST_DATA names the data folder)', () => {
  let backend: Awaited<ReturnType<typeof createOnnxBackend>>;
  let weight: Tensor;
  let heldOut: Tensor;
  let importance: Float32Array;
  beforeAll(async () => {
    backend = await createOnnxBackend();
    const file = await openSafetensors(join(data ?? '', 'layers/codellama13b-layer11/codellama13b_layer11.safetensors'));
    const inputs = file.tensor('x_attn_in');
    const calibration = slice(inputs, 0, 0, 512);
    const parts = [slice(file.tensor('w.self_attn.q_proj.rows0_1024'), 0, 0, OUT), slice(inputs, 0, 512, 1024)];
    const [gram, ...leaves] = await backend.evaluate([matmul(calibration, calibration, { transposeA: true }), ...parts]);
    [weight, heldOut] = leaves;
    const order = new Int32Array(weight.shape[1]);
    importance = importanceOf({ gram: await readFloats(gram), order, dampening: 0.01 } as GptqFactor);
  });
  afterAll(() => backend.dispose());

  /** Relative output error of rounding to nearest on the held-out rows. */
  async function error(options: Pick<GridOptions, 'bits' | 'clip'>, weights?: Float32Array): Promise<number> {
    const values = await readFloats(weight);
    const grid = fitGrid(values, weight.shape, { groupSize: 128, symmetric: false, scaleDtype: 'float16', ...options }, weights);
    const rounded = AffineWeight.fromGrid(roundToGrid(values, grid), grid).dequantized();
    const energy = (w: Tensor): Tensor => sum(square(linear(heldOut, w)));
    const [wrong, all] = await backend.evaluate([energy(sub(rounded, weight)), energy(weight)]);
    return (await readNumber(wrong)) / (await readNumber(all));
  }

  // Measured with 256 outputs at 2, 3, 4 bits: covering 4.5e-2, 8.1e-3, 1.7e-3; searched 1.2e-1, 2.0e-2, 2.8e-3; weighted 2.4e-2, 4.8e-3, 1.2e-3.
  it.each([2, 3, 4])('the weighted search gains where the unweighted one loses, at %i bits', async (bits) => {
    const covering = await error({ bits, clip: 'minmax' });
    expect(await error({ bits, clip: 'mse' }, importance)).toBeLessThan(0.8 * covering);
    expect(await error({ bits, clip: 'mse' })).toBeGreaterThan(covering);
  });
});
