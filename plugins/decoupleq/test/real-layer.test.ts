// On layers of a 13B model at 2 bits: the output error on rows that were not calibrated on, against GPTQ with the same order and groups.
import { join } from 'node:path';
import { createOnnxBackend } from '@lowbit/backend-onnxruntime';
import { linear, matmul, readFloats, readNumber, slice, square, sub, sum, type Tensor, tensor } from '@lowbit/core';
import { openSafetensors } from '@lowbit/formats';
import { AffineWeight, fitGrid, gptqFactor, gptqSolve } from '@lowbit/quant';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { codeStepOf } from '../src/code-steps/select.js';
import { decouple } from '../src/layer.js';
import { sharedHessian } from '../src/shared-hessian.js';

const data = process.env.LOWBIT_TEST_DATA;
const OUT = 64;
const ROWS = 512;

describe.skipIf(!data)('layer 11 of codellama13b at 2 bits (skipped unless LOWBIT_TEST_DATA names the data folder)', () => {
  let backend: Awaited<ReturnType<typeof createOnnxBackend>>;
  beforeAll(async () => {
    backend = await createOnnxBackend();
  });
  afterAll(() => backend.dispose());

  // Measured with 128 outputs and the paper preset's factor, in groups of 64, of 128 and per channel: q_proj 0.68, 0.50, 0.33; o_proj 0.74, 0.56, 0.24; gate_proj 0.73, 0.55, 0.25 of GPTQ's error.
  it.each([
    ['q_proj', 'x_attn_in', 'w.self_attn.q_proj.rows0_1024'],
    ['o_proj', 'x_o_in', 'w.self_attn.o_proj.rows0_512'],
    ['gate_proj', 'x_mlp_in', 'w.mlp.gate_proj.rows0_1024'],
  ])('%s: less error on held-out rows than GPTQ', async (path, inputsName, weightName) => {
    const file = await openSafetensors(join(data ?? '', 'layers/codellama13b-layer11/codellama13b_layer11.safetensors'));
    const calibration = slice(file.tensor(inputsName), 0, 0, ROWS);
    const [gram, heldOut, dense] = await backend.evaluate([
      matmul(calibration, calibration, { transposeA: true }),
      slice(file.tensor(inputsName), 0, ROWS, 2 * ROWS),
      slice(file.tensor(weightName), 0, 0, OUT),
    ]);
    const [weight, inFeatures] = [await readFloats(dense), gram.shape[0]];
    const error = async (approximation: AffineWeight): Promise<number> => {
      const energy = (w: Tensor): Tensor => sum(square(linear(heldOut, w)));
      const [wrong, all] = await backend.evaluate([energy(sub(approximation.dequantized(), dense)), energy(dense)]);
      return (await readNumber(wrong)) / (await readNumber(all));
    };
    const { hessian, factor } = await sharedHessian({ backend, gram, dampening: 0.01, factorDampening: 0, actOrder: true, path });
    const plain = await gptqFactor(backend, await readFloats(gram), inFeatures, { actOrder: true });
    for (const groupSize of [64, inFeatures]) {
      const grid = fitGrid(weight, dense.shape, { bits: 2, groupSize, symmetric: false, scaleDtype: 'float16', clip: 'minmax' });
      const { codes } = await gptqSolve(backend, plain, weight, grid);
      const { quantized, scaleDtype } = await decouple(
        { backend, weight, outFeatures: OUT, inFeatures, bits: 2, groupSize, zero: 'free', hessian, factor },
        {
          iterations: 4,
          search: 'coarse-to-fine',
          ridge: 1e-6,
          scaleDtype: 'float16',
          codeStep: codeStepOf({ codeStep: 'gptq', relaxationSteps: 0, relaxationRate: 0.02, innerSteps: 0, descentSweeps: 0 }),
        },
      );
      const perGroup = [OUT, inFeatures / groupSize];
      const decoupled = new AffineWeight({
        bits: 2,
        codes: tensor(quantized.codes, dense.shape),
        scale: tensor(quantized.scale, perGroup),
        offset: tensor(quantized.offset, perGroup),
        scaleDtype,
      });
      const ratio = (await error(decoupled)) / (await error(AffineWeight.fromGrid(codes, grid)));
      expect(ratio).toBeLessThan(groupSize === 64 ? 0.8 : 0.4);
    }
  });
});
