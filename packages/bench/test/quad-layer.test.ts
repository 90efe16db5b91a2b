// On a layer of a 13B model with massive activations: what rotation and decomposition gain on tokens that were not calibrated on.
import { join } from 'node:path';
import { createOnnxBackend } from '@lowbit/backend-onnxruntime';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { layerErrors, layerInputs } from '../src/speed/quad-layer.js';

const data = process.env.LOWBIT_TEST_DATA;

describe.skipIf(!data)('layer 11 of codellama13b (skipped unless LOWBIT_TEST_DATA names the data folder)', () => {
  let backend: Awaited<ReturnType<typeof createOnnxBackend>>;
  beforeAll(async () => {
    backend = await createOnnxBackend({ threads: 1 });
  });
  afterAll(() => backend.dispose());

  it.each(layerInputs)('$inputs: plain loses to rotated, and rotated to decomposed', async (input) => {
    const file = join(data ?? '', 'layers/codellama13b-layer11/codellama13b_layer11.safetensors');
    const settings = { rank: 64, bits: [4, 3], quantizers: ['rtn', 'gptq'], outputs: 64 } as const;
    for (const { weight, bits, quantizer, plain, rotated, decomposed } of await layerErrors(backend, file, input, settings)) {
      const cell = `${weight}, W${bits}A${bits}, ${quantizer}`;
      expect(rotated, cell).toBeLessThan(0.5 * plain);
      expect(decomposed, cell).toBeLessThan(0.95 * rotated);
    }
  });
});
