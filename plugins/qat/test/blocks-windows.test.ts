// What a block is trained and judged on, and how much of it is computed at once: what a step gives does not depend on that.
import { createOnnxBackend } from '@lowbit/backend-onnxruntime';
import {
  type Batches,
  type BlockContext,
  batchesOf,
  createRng,
  readFloats,
  type Tensor,
  tensor,
  tensorsOf,
  type Workload,
} from '@lowbit/core';
import { createToyModel } from '@lowbit/testkit';
import { type Indexed, trainingBatches } from '@lowbit/train';
import { afterAll, describe, expect, it } from 'vitest';
import { blockLoss } from '../src/blocks/loss.js';
import { type BlockBatch, type BlockWindows, blockWindows } from '../src/blocks/windows.js';
import { type QatBlocksInput, type QatBlocksOptions, qatBlocks } from '../src/index.js';

const backend = await createOnnxBackend({ threads: 1, spin: false });
afterAll(() => backend.dispose());

function windowsOf(input: QatBlocksInput, inputs: Batches, targets = inputs, path = 'model.layers.0'): Promise<BlockWindows> {
  const { options } = qatBlocks(input);
  const context = { inputs, denseTargets: async () => targets, options, rng: createRng(5).at(path) };
  return blockWindows(context as unknown as BlockContext<QatBlocksOptions>);
}

/** Windows of one number, their index. */
const numbered = (count: number): Batches => batchesOf(Array.from({ length: count }, (_, i) => tensor([i], [1, 1, 1])));

async function numbersIn(batches: Indexed<BlockBatch>): Promise<number[]> {
  const found: number[] = [];
  for (let i = 0; i < batches.length; i++) {
    const batch = await batches.at(i);
    for (let part = 0; part < batch.length; part++) found.push(...(await readFloats((await batch.at(part)).input)));
  }
  return found;
}

it('holds the same windows out of every block', async () => {
  const course = { batchWindows: 1, holdOut: 0.4 };
  const [one, other] = [await windowsOf(course, numbered(10)), await windowsOf(course, numbered(10), numbered(10), 'model.layers.1')];
  const heldOut = await numbersIn(one.judged);
  expect(heldOut).toHaveLength(4);
  expect(await numbersIn(other.judged)).toEqual(heldOut);
  const [first, second] = [await numbersIn(one.batches), await numbersIn(other.batches)];
  // In another order.
  expect(second).not.toEqual(first);
  for (const trained of [first, second]) expect([...trained, ...heldOut].sort((a, b) => a - b)).toEqual(Array.from(Array(10).keys()));
});

it.each([0, 0.5])('judges on as many windows as a training of the whole model does, %d held out', async (holdOut) => {
  const count = 600;
  const whole = { tokens: Int32Array.from(Array(count).keys()), count, length: 1 };
  const { judged } = await windowsOf({ batchWindows: 1, holdOut }, numbered(count));
  const ofModel = trainingBatches(whole, { batchWindows: 1, holdOut, shuffle: true }, createRng(1)).judged;
  expect(ofModel.length).toBe(256);
  expect(await numbersIn(judged)).toHaveLength(ofModel.length);
});

describe('windowsAtOnce', () => {
  const model = createToyModel({ seed: 7 });
  const [block] = model.blocks;
  const stream = (seed: number): Batches =>
    batchesOf(
      Array.from({ length: 7 }, (_, i) =>
        tensor(
          createRng(seed)
            .at(i)
            .normal(6 * model.width),
          [1, 6, model.width],
        ),
      ),
    );
  const [inputs, targets] = [stream(1), stream(2)];
  const parameters = new Map([...tensorsOf(block)].filter(([name]) => name.endsWith('proj.weight')));

  async function lossesOf(step: number, windowsAtOnce?: number) {
    const { batches } = await windowsOf({ batchWindows: 5, holdOut: 0, shuffle: false, windowsAtOnce }, inputs, targets);
    const batch = await batches.at(step);
    const sizes: number[] = [];
    for (let i = 0; i < batch.length; i++) sizes.push((await batch.at(i)).input.shape[0]);
    const loss = blockLoss(backend, block, 3);
    const found = await loss.gradients(parameters, batch, 1);
    return { sizes, value: await loss.value(parameters, batch), ...found };
  }

  const floats = (t: Tensor | undefined): Promise<Float32Array> => readFloats(t as Tensor);

  // Of seven windows the second step has two, and is filled up with three.
  it.each([
    [1, 0, [1, 1, 1, 1, 1]],
    [2, 0, [2, 2, 1]],
    [1, 1, [1, 1]],
    [3, 1, [3]],
  ])('%d, step %d: their losses and gradients add up to those of all', async (windowsAtOnce, step, sizes) => {
    const whole = await lossesOf(step);
    const divided = await lossesOf(step, windowsAtOnce);
    expect([whole.sizes, divided.sizes]).toEqual([[5], sizes]);
    for (const { loss, value } of [whole, divided]) for (const x of [loss, value]) expect(x / whole.loss).toBeCloseTo(1, 6);
    expect([...divided.gradients.keys()]).toEqual([...parameters.keys()]);
    for (const name of parameters.keys()) {
      const [a, b] = [await floats(whole.gradients.get(name)), await floats(divided.gradients.get(name))];
      const size = Math.hypot(...a);
      expect(size).toBeGreaterThan(1e-4);
      expect(Math.hypot(...a.map((x, i) => x - b[i])) / size).toBeLessThan(1e-5);
    }
  });

  it('is what memory follows, and not the size of a step', () => {
    const bytesOf = (input: QatBlocksInput): number => {
      const { options } = qatBlocks(input);
      const forward = { flops: 1e6, elements: 1e5, bytes: 1e5 };
      const work: Workload<QatBlocksOptions> = {
        ...{ options, linears: [], blocks: 2, weights: 1e4, width: 64, vocabularySize: 256, windows: 128, tokens: 32, forward },
      };
      return qatBlocks.definition.cost?.(work).bytes ?? Number.NaN;
    };
    const usual = bytesOf({ batchWindows: 8 });
    expect(bytesOf({ batchWindows: 64 })).toBe(usual);
    expect(bytesOf({ batchWindows: 64, windowsAtOnce: 64 })).toBeGreaterThan(7 * usual);
    expect(bytesOf({ batchWindows: 64, windowsAtOnce: 1 })).toBeLessThan(usual / 7);
  });
});
