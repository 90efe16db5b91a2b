// Bytes of the tensors that a step holds at its peak, counted by an instrumented allocator: flat in depth but for the weights.
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { createReferenceBackend, MemoryMeter } from '@lowbit/backend-reference';
import { createRng, type Model, materialize, tensor, tensorsOf } from '@lowbit/core';
import { quantize } from '@lowbit/pipeline';
import { rtn } from '@lowbit/rtn';
import { createToyModel } from '@lowbit/testkit';
import { modelGradients, type TaskBatch, taskLoss } from '@lowbit/train';
import { describe, expect, it } from 'vitest';
import { derivativesOf, llamaShape, openRun, planOf, quzo, stepMemory } from '../src/index.js';

/** A garbage collection: what JavaScript can no longer reach is no memory that a step needs. */
setFlagsFromString('--expose-gc');
const collect = runInNewContext('gc') as () => void;
async function collectGarbage(): Promise<void> {
  await new Promise(setImmediate);
  collect();
}

const [windows, tokens, vocabularySize, headCount] = [2, 48, 64, 4];
const sizes = { hiddenSize: 48, innerSize: 80, vocabularySize, headCount, keyValueHeadCount: headCount, contextLength: tokens };
const groupSize = 16;

function batch(): TaskBatch {
  const ids = Int32Array.from(createRng(3).integers(windows * tokens, vocabularySize));
  const positions = Int32Array.from(ids.keys()).filter((position) => position % tokens !== tokens - 1);
  return {
    tokens: tensor(ids, [windows, tokens]),
    positions,
    targets: positions.map((position) => ids[position + 1]),
    weights: new Float32Array(positions.length).fill(1 / positions.length),
    candidates: undefined,
  };
}

const denseOf = (blockCount: number): Model => createToyModel({ ...sizes, blockCount });

/** Peak of two steps that train all codes, one query each. */
async function stepPeak(blockCount: number): Promise<number> {
  const recipe = [rtn({ bits: 8, groupSize, symmetric: true })];
  const { model } = await quantize({ model: denseOf(blockCount), backend: createReferenceBackend(), recipe });
  const { options } = quzo({ rounding: 'sr' });
  const run = await openRun(model, {
    format: 'lowbit-quzo',
    version: 1,
    runSeed: 1,
    options: { ...options },
    ...planOf(model, () => options),
  });
  const meter = new MemoryMeter(collectGarbage);
  const backend = createReferenceBackend({ meter });
  for (const step of [1, 2]) run.apply({ step, mu: (await derivativesOf(backend, run, step, batch())).mu ?? [] });
  return meter.peak;
}

/** Peak of the gradients of all weights of the blocks' Linears. */
async function gradientPeak(blockCount: number): Promise<number> {
  const model = await materialize(denseOf(blockCount));
  const parameters = new Map(
    model.blocks.flatMap(({ path, linears }) =>
      Object.entries(linears).map(([name, linear]) => [`${path}.${name}.weight`, [...tensorsOf(linear).values()][0]] as const),
    ),
  );
  const meter = new MemoryMeter(collectGarbage);
  const own = batch();
  const { positions } = own;
  await modelGradients({
    backend: createReferenceBackend({ meter }),
    model,
    tokens: own.tokens,
    positions,
    parameters,
    lossOf: taskLoss(own),
  });
  return meter.peak;
}

describe('the peak of a step', () => {
  it('grows with each block by the codes and scales of the block and by nothing else', async () => {
    const [few, many] = [await stepPeak(2), await stepPeak(5)];
    const weights = 4 * 48 * 48 + 3 * 48 * 80;
    expect(many - few).toBe(3 * (weights + (4 * weights) / groupSize + 4 * 2 * 48));
    // With gradients of all weights, by weights and gradients: 8 bytes an element.
    expect((await gradientPeak(5)) - (await gradientPeak(2))).toBeGreaterThanOrEqual(3 * 8 * weights);
  });

  it('is within what is calculated', async () => {
    const shape = llamaShape({ ...sizes, blockCount: 5, headDim: 12, tiedEmbeddings: true }, 80);
    const { total } = stepMemory(shape, { windows, tokens, groupSize, carryBytes: 0, process: 0 });
    const counted = await stepPeak(5);
    expect(counted).toBeLessThan(1.05 * total);
    // The engine that it is calculated for holds more than this one: dequantized weights are not given back at once.
    expect(counted).toBeGreaterThan(0.5 * total);
  });
});
