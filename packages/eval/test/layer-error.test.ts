import { createReferenceBackend } from '@lowbit/backend-reference';
import { DenseLinear, type Model, tensor } from '@lowbit/core';
import { windowsOf } from '@lowbit/data';
import { createToyModel } from '@lowbit/testkit';
import { describe, expect, it } from 'vitest';
import { layerErrorEvaluator } from '../src/index.js';
import { disturbed, toyModel, toyWindows } from './toy.js';

const backend = createReferenceBackend();
const model = toyModel();

/** ‖X(Ŵ−W)ᵀ‖² / ‖XWᵀ‖² by its definition, in float64, with X from a trace of the reference over each window by itself. */
async function naive(of: Model, windows: ReturnType<typeof toyWindows>): Promise<Record<string, number>> {
  const errors: Record<string, [number, number]> = {};
  for (let w = 0; w < windows.count; w++) {
    const tokens = windows.tokens.slice(w * windows.length, w * windows.length + windows.scoredTo[w]);
    let x = model.embedding.forward(tensor(tokens, [1, tokens.length]));
    for (const [index, block] of model.blocks.entries()) {
      const { output, inputs } = block.trace(x);
      for (const { name: group, linears } of block.groups) {
        const rows = await backend.float64(inputs[group]);
        for (const name of linears) {
          const [before, after] = [block, of.blocks[index]].map(
            (b) => ((b.linears[name] as DenseLinear).weight.source as { data: Float32Array }).data,
          );
          const [outFeatures, inFeatures] = [block.linears[name].outFeatures, block.linears[name].inFeatures];
          const sums = (errors[`${block.path}.${name}`] ??= [0, 0]);
          for (let row = 0; row < tokens.length; row++) {
            for (let out = 0; out < outFeatures; out++) {
              let [d, y] = [0, 0];
              for (let i = 0; i < inFeatures; i++) {
                d += rows[row * inFeatures + i] * (after[out * inFeatures + i] - before[out * inFeatures + i]);
                y += rows[row * inFeatures + i] * before[out * inFeatures + i];
              }
              sums[0] += d * d;
              sums[1] += y * y;
            }
          }
        }
      }
      x = output;
    }
  }
  return Object.fromEntries(Object.entries(errors).map(([path, [d, y]]) => [path, d / y]));
}

describe('layerErrorEvaluator', () => {
  it.each([
    ['one batch', {}],
    ['several batches, the last one filled up', { batchTokens: 16 }],
    ['several parts', { batchTokens: 8, activationBytes: 1 }],
  ])('equals the definition: %s', async (_, options) => {
    const windows = toyWindows({ window: 8, tail: 'pad' }, 37);
    const other = disturbed(model, 0.05);
    const [score] = await layerErrorEvaluator(windows, options).evaluate(other, { backend, reference: model });
    const expected = await naive(other, windows);
    const { parts = {} } = score;
    expect(Object.keys(parts).sort()).toEqual(Object.keys(expected).sort());
    for (const [path, error] of Object.entries(expected)) expect(parts[path] / error).toBeCloseTo(1, 4);
    const mean = Object.values(expected).reduce((a, b) => a + b, 0) / Object.keys(expected).length;
    expect(score).toMatchObject({ evaluator: 'layer-error', samples: 14, higherIsBetter: false });
    expect(score.value / mean).toBeCloseTo(1, 4);
    expect(score.stderr).toBeGreaterThan(0);
    expect(score.stderr).toBeLessThan(score.value);
    expect(score.protocol).toMatchObject({ corpus: 'toy', window: 8, tokensSha256: windows.hash });
  });

  it('is zero for the reference itself, and does not see biases', async () => {
    const [score] = await layerErrorEvaluator(toyWindows({ window: 8 })).evaluate(toyModel(), { backend, reference: model });
    expect(score).toMatchObject({ value: 0, stderr: 0 });
    const biased = createToyModel({ biases: true, contextLength: 16 });
    const windows = windowsOf([Int32Array.of(1, 2, 3, 4)], { description: 'one', protocol: {} });
    const name = 'self_attn.q_proj';
    const { weight } = biased.blocks[0].linears[name] as DenseLinear;
    const without = biased.withBlock(0, biased.blocks[0].with({ linears: { [name]: new DenseLinear(weight) } }));
    const [same] = await layerErrorEvaluator(windows).evaluate(without, { backend, reference: biased });
    expect(same.value).toBe(0);
    expect(same.stderr).toBeNaN();
  });

  it('lists Linears of another shape instead of comparing them', async () => {
    const name = 'mlp.down_proj';
    const widened = model.withBlock(
      1,
      model.blocks[1].with({ linears: { [name]: new DenseLinear(tensor(new Float32Array(8 * 14), [8, 14])) } }),
    );
    const [score] = await layerErrorEvaluator(toyWindows({ window: 8 })).evaluate(widened, { backend, reference: model });
    expect(score.samples).toBe(13);
    expect(score.protocol['skipped']).toEqual(['model.layers.1.mlp.down_proj']);
  });

  it('compares no weights across bases, of equal shapes though they be', async () => {
    const reversed = model.with({
      embedding: model.embedding.map((t) => tensor(Float32Array.from((t.source as { data: Float32Array }).data).reverse(), t.shape)),
    });
    const loud = model.norm.with({ weight: tensor(new Float32Array(8).fill(3)) });
    const evaluator = layerErrorEvaluator(toyWindows({ window: 8 }));
    for (const [other, reference] of [
      [reversed, model],
      [model.with({ norm: model.norm.with({ weight: undefined }) }), model.with({ norm: loud })],
    ] as const) {
      await expect(evaluator.evaluate(other, { backend, reference })).rejects.toThrow(/REFERENCE_MISMATCH.*was transformed/);
    }
    const folded = model.with({ norm: model.norm.with({ weight: undefined }) });
    const ones = model.with({ norm: model.norm.with({ weight: tensor(new Float32Array(8).fill(1)) }) });
    expect((await evaluator.evaluate(folded, { backend, reference: ones }))[0].value).toBe(0);
  });

  it('needs the model’s own reference', async () => {
    const evaluator = layerErrorEvaluator(toyWindows({ window: 8 }));
    await expect(evaluator.evaluate(model, { backend })).rejects.toThrow(/REFERENCE_MISSING/);
    await expect(evaluator.evaluate(model, { backend, reference: model.with({ blocks: model.blocks.slice(1) }) })).rejects.toThrow(
      /REFERENCE_MISMATCH.*2.*1/,
    );
    await expect(evaluator.evaluate(model, { backend, reference: createToyModel({ vocabularySize: 24 }) })).rejects.toThrow(
      /REFERENCE_MISMATCH.*comparable/,
    );
  });
});
