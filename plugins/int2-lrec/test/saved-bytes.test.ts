// The calculated bytes of a quantized model with adapters are those of the file that it is saved to.
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createReferenceBackend } from '@lowbit/backend-reference';
import { type Model, roundToFloat16, tensor } from '@lowbit/core';
import { saveCheckpoint } from '@lowbit/formats';
import { quantize } from '@lowbit/pipeline';
import { createToyModel, createToyTokens } from '@lowbit/testkit';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { checkpointBits } from '../src/adapters/checkpoint-bits.js';
import { adapterParameters, configShape, emef, lowRankCorrection, quantizedBytes } from '../src/index.js';
import { rounding } from './rounding.js';

const backend = createReferenceBackend();
const calibration = createToyTokens({ batchCount: 2 });

let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'lowbit-saved-bytes-'));
});
afterAll(() => rm(folder, { recursive: true }));

/** Published in float16, as the calculation takes embedding, head and norms. */
function published(tiedEmbeddings: boolean): Model {
  const toy = createToyModel({ hiddenSize: 64, innerSize: 96, tiedEmbeddings });
  const rounded = toy.map((t) => tensor((t.source as { data: Float32Array }).data.map(roundToFloat16), t.shape));
  const source = { model_type: 'llama', intermediate_size: 96, torch_dtype: 'float16', tie_word_embeddings: tiedEmbeddings };
  return rounded.with({ config: { ...toy.config, source } });
}

/** Bytes behind the header of the one file of weights. */
async function dataBytes(directory: string): Promise<number> {
  const file = await readFile(join(directory, 'model.safetensors'));
  return file.length - 8 - Number(file.readBigUInt64LE(0));
}

const formats = [2, 3, 4, 8].flatMap((bits) => [32, -1].map((groupSize) => ({ bits, groupSize, isTied: groupSize === 32 })));

describe.each(formats)('$bits bits, groups of $groupSize, tied: $isTied', ({ bits, groupSize, isTied }) => {
  it('takes what is calculated, and what its Linears say', async () => {
    const directory = join(folder, `${bits} ${groupSize}`);
    const [below, above] = [3, 2];
    // A correction, and the adapter of a task on top of it.
    const recipe = [
      rounding({ bits, groupSize }),
      lowRankCorrection({ form: 'svd', rank: below }),
      emef({ rank: above, maxTokens: 1, holdOut: 0, targets: ['**.q_proj', '**.v_proj'], keepBest: false }),
    ];
    const { model } = await quantize({ model: published(isTied), backend, recipe, calibration });
    await saveCheckpoint(directory, model);

    const shape = configShape(model.config);
    const all = shape.layers.map(({ name }) => name);
    const adapters = 2 * (adapterParameters(shape, below, all) + adapterParameters(shape, above, ['q_proj', 'v_proj']));
    const codes = quantizedBytes(shape, { bits, groupSize, groupIndices: false });
    expect(await dataBytes(directory)).toBe(codes + adapters);
    expect(checkpointBits(model)).toBe(8 * codes);
  });
});
