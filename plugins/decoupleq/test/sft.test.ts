// The end-to-end stage: the contract, what it trains, and that it lowers its objective whatever quantized the model.
import { createOnnxBackend } from '@lowbit/backend-onnxruntime';
import {
  type Backend,
  type DenseLinear,
  type Linear,
  type Model,
  type RunEvent,
  read,
  roundToFloat16,
  type Tensor,
  tensor,
  tensorsOf,
} from '@lowbit/core';
import { quantize } from '@lowbit/pipeline';
import { linearKinds, type QuantizedLinear } from '@lowbit/quant';
import { createToyModel, describeMethod } from '@lowbit/testkit';
import { afterAll, describe, expect, it } from 'vitest';
import decoupleq, { decoupleqSft } from '../src/index.js';

const createBackend = (): Promise<Backend> => createOnnxBackend({ threads: 1, spin: false });
const layerWise = decoupleq({ groupSize: 16, blockEpochs: 0, iterations: 1 });

describeMethod(decoupleqSft, {
  quantize,
  createBackend,
  kinds: linearKinds,
  prepare: [layerWise],
  // Random text has nothing to learn but itself, so the last epoch is kept.
  options: { learningRate: 1e-3, holdOut: 0 },
});

/** Text in which each token decides the next: eight windows of twelve. */
const text = Array.from({ length: 4 }, (_, batch) =>
  tensor(
    Int32Array.from({ length: 24 }, (_, i) => (7 * (Math.floor(i / 12) + 2 * batch) + 5 * (i % 12)) % 64),
    [2, 12],
  ),
);
const calibration = { length: text.length, at: async (i: number) => text[i], hash: 'arithmetic', description: 'arithmetic' };

const backend = await createBackend();
afterAll(() => backend.dispose());

interface Outcome {
  readonly before: Model;
  readonly after: Model;
  readonly record: Record<string, unknown> & { losses: number[]; heldOutBefore: number; heldOutAfter: number; epoch: number };
  readonly warnings: string[];
}

async function tuned(options: Parameters<typeof decoupleqSft>[0], zero: 'free' | 'integer' | 'symmetric' = 'free'): Promise<Outcome> {
  const model = createToyModel({ seed: 7 });
  const rounding = decoupleq({ groupSize: 16, blockEpochs: 0, iterations: 1, zero });
  const { model: before } = await quantize({ model, backend, recipe: [rounding], calibration });
  const events: RunEvent[] = [];
  const onEvent = (event: RunEvent): void => void events.push(event);
  const { model: after } = await quantize({ model, backend, recipe: [rounding, decoupleqSft(options)], calibration, onEvent });
  const records = events.flatMap((event) => (event.type === 'log' && 'objective' in event.record ? [event.record] : []));
  expect(records).toHaveLength(1);
  const warnings = events.flatMap((event) => (event.type === 'warning' ? [`${event.code}: ${event.message}`] : []));
  return { before, after, record: records[0] as Outcome['record'], warnings };
}

async function changedNames({ before, after }: Outcome): Promise<string[]> {
  const now = tensorsOf(after);
  const changed: string[] = [];
  for (const [name, t] of tensorsOf(before)) {
    const [was, is] = await Promise.all([read(t), read(now.get(name) as Tensor)]);
    if (was.some((x, i) => x !== is[i])) changed.push(name);
  }
  return changed;
}

const fields = (names: readonly string[]): string[] => [
  ...new Set(names.map((name) => (name.includes('norm') ? 'norm' : (name.split('.').at(-1) as string)))),
];

describe('decoupleq-sft', () => {
  it.each([
    ['cross-entropy', 3e-3],
    ['kl', 3e-4],
  ] as const)('lowers the %s on held-out windows', async (objective, learningRate) => {
    const { record, warnings } = await tuned({ objective, learningRate, epochs: 4, holdOut: 0.25 });
    expect(record).toMatchObject({ objective });
    expect(record.heldOutAfter).toBeLessThan(record.heldOutBefore);
    expect(record.losses[3]).toBeLessThan(record.losses[0]);
    // Learning the text leads away from the reference, and is meant to.
    expect(warnings.filter((warning) => warning.startsWith('FINETUNE'))).toEqual([]);
  });

  it('leaves codes and everything but scales, offsets and norms, and stores float16', async () => {
    const outcome = await tuned({ learningRate: 3e-3, epochs: 2 });
    expect(fields(await changedNames(outcome)).sort()).toEqual(['norm', 'offset', 'scale']);
    for (const block of outcome.after.blocks) {
      for (const linear of Object.values(block.linears)) {
        const { scale, offset } = (linear as QuantizedLinear).weight;
        for (const t of [scale, offset as Tensor]) expect((await read(t)).every((x) => roundToFloat16(x) === x)).toBe(true);
      }
    }
    expect(fields(await changedNames(await tuned({ learningRate: 3e-3, trainNorms: false, holdOut: 0 })))).toEqual(['scale', 'offset']);
  });

  it.each(['integer', 'symmetric'] as const)('trains scales alone where zeros are %s', async (zero) => {
    const outcome = await tuned({ learningRate: 3e-3, trainNorms: false }, zero);
    expect(fields(await changedNames(outcome))).toEqual(['scale']);
    expect(outcome.record.heldOutAfter).toBeLessThan(outcome.record.heldOutBefore);
  });

  it('keeps the start where training only did harm', async () => {
    const outcome = await tuned({ objective: 'kl', learningRate: 1, epochs: 2 });
    expect(outcome.record).toMatchObject({ epoch: 0, heldOutAfter: outcome.record.heldOutBefore });
    expect(await changedNames(outcome)).toEqual([]);
    expect(await changedNames(await tuned({ epochs: 0 }))).toEqual([]);
  });

  it('refuses what has no scales before any weight is read', async () => {
    const model = createToyModel();
    const run = (given: Model) => quantize({ model: given, backend, recipe: [decoupleqSft()], calibration });
    await expect(run(model)).rejects.toMatchObject({
      code: 'LINEAR_NOT_AFFINE',
      message: expect.stringMatching(/q_proj: is 'dense'.*quantizer.*before this step/),
    });
    const unknown = model
      .map((t) => t)
      .with({
        blocks: model.blocks.map((block) => block.with({ linears: { 'mlp.up_proj': alien(block.linears['mlp.up_proj']) } })),
      });
    const recipe = [decoupleqSft({ targets: ['**.up_proj'] })];
    await expect(quantize({ model: unknown, backend, recipe, calibration })).rejects.toMatchObject({ code: 'LINEAR_NOT_AFFINE' });
  });

  it('needs text', async () => {
    const { model } = await quantize({ model: createToyModel(), backend, recipe: [layerWise], calibration });
    await expect(quantize({ model, backend, recipe: [decoupleqSft()] })).rejects.toMatchObject({ code: 'CALIBRATION_EMPTY' });
  });
});

/** A Linear of a kind that nobody knows. */
function alien(linear: Linear): Linear {
  const dense = linear as DenseLinear;
  return Object.assign(Object.create(dense) as Linear, { kind: 'alien', map: () => alien(dense) });
}
