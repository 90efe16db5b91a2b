// Keys and values of few bits: rounded per token and head in every pass, so that decoding sees what the whole sequence sees.
import { createOnnxBackend } from '@lowbit/backend-onnxruntime';
import { createReferenceBackend } from '@lowbit/backend-reference';
import {
  argmax,
  createRng,
  grad,
  type KeyValueQuantization,
  type Model,
  mul,
  read,
  readFloats,
  slice,
  sum,
  tensor,
  tensorsOf,
} from '@lowbit/core';
import { quantizeKeyValues } from '@lowbit/quant';
import { afterAll, describe, expect, it } from 'vitest';
import { generate, loadModel } from '../src/index.js';
import { frequencies, type IndependentConfig } from './independent-forward.js';
import { randomCheckpoint, type SmallConfig, smallConfig } from './memory-checkpoint.js';

const backend = createReferenceBackend();
const onnx = await createOnnxBackend({ threads: 1 });
afterAll(() => onnx.dispose());

const withKeyValues = (model: Model, keyValues: KeyValueQuantization | undefined): Model =>
  model.with({ blocks: model.blocks.map((block) => block.with({ keyValues })) });
const tokensOf = (count: number) => tensor(createRng(2).integers(2 * count, smallConfig.vocab_size), [2, count]);

/** Sylvester's matrix over each stretch of the largest power of two that divides the head size, over √stretch. */
function rotatedHead(head: readonly number[]): number[] {
  const stretch = head.length & -head.length;
  const bits = (i: number): number => [...i.toString(2)].filter((digit) => digit === '1').length;
  return head.map((_, j) =>
    head.reduce((total, value, i) => {
      if (Math.floor(i / stretch) !== Math.floor(j / stretch)) return total;
      return total + (value * (bits((i % stretch) & (j % stretch)) % 2 === 0 ? 1 : -1)) / Math.sqrt(stretch);
    }, 0),
  );
}

/** x̂ = s · clamp(round(x / s)), s = c · max|x| / qmax, of one head. */
function roundedHead(head: readonly number[], { bits, clipRatio }: KeyValueQuantization): number[] {
  const largest = 2 ** (bits - 1) - 1;
  const scale = (clipRatio * Math.max(...head.map(Math.abs))) / largest;
  return head.map((value) => scale * Math.max(-largest - 1, Math.min(largest, Math.round(value / scale))));
}

function headsOf(data: Float64Array, headDim: number): number[][] {
  return Array.from({ length: data.length / headDim }, (_, i) => [...data.subarray(i * headDim, (i + 1) * headDim)]);
}

const expectClose = (actual: ArrayLike<number>, expected: ArrayLike<number>, tolerance = 1e-5): void => {
  expect(actual.length).toBe(expected.length);
  for (let i = 0; i < actual.length; i++) expect(Math.abs(actual[i] - expected[i])).toBeLessThan(tolerance * (1 + Math.abs(expected[i])));
};

const settings: Record<string, KeyValueQuantization> = {
  'as they are': { bits: 4, clipRatio: 0.95, rotateKeys: false },
  'keys rotated': { bits: 4, clipRatio: 0.95, rotateKeys: true },
  'of 3 bits, keys rotated': { bits: 3, clipRatio: 1, rotateKeys: true },
};

describe.each([
  ['a power of two', 8],
  ['3 · 2, rotated in stretches', 6],
])('heads of %s', (_name, headDim) => {
  const config = { ...smallConfig, head_dim: headDim } as SmallConfig;

  it.each(Object.entries(settings))('%s: every pass reads rounded keys and values', async (_what, keyValues) => {
    const model = await loadModel(randomCheckpoint(config));
    const [block] = model.blocks;
    const rounding = block.with({ keyValues });
    const x = model.embedding.forward(tokensOf(5));
    const [exact, rounded] = [block.prefill(x), rounding.prefill(x)];
    const expectedValues = headsOf(await backend.float64(exact.values), headDim).map((head) => roundedHead(head, keyValues));
    const expectedKeys = headsOf(await backend.float64(exact.keys), headDim).map((head) =>
      keyValues.rotateKeys ? rotatedHead(roundedHead(rotatedHead(head), keyValues)) : roundedHead(head, keyValues),
    );
    expectClose(await backend.float64(rounded.values), expectedValues.flat());
    expectClose(await backend.float64(rounded.keys), expectedKeys.flat());

    // Queries stay as they are: softmax(q k̂ᵀ / √D) v̂ of the first window, written out.
    const { inputs, output } = rounding.trace(x);
    const queries = headsOf(await backend.float64(block.linears['self_attn.q_proj'].forward(inputs.attention)), headDim);
    const turns = frequencies(config as unknown as IndependentConfig, headDim);
    const heads = await backend.float64(inputs['attention-output']);
    for (let t = 0; t < 5; t++) {
      for (let h = 0; h < 4; h++) {
        const raw = queries[t * 4 + h];
        const query = raw.map((value, i) => {
          const [half, at] = [headDim / 2, i % (headDim / 2)];
          const angle = t * turns[at];
          return i < half ? value * Math.cos(angle) - raw[i + half] * Math.sin(angle) : raw[at] * Math.sin(angle) + value * Math.cos(angle);
        });
        const cached = (all: number[][], s: number): number[] => all[Math.floor(h / 2) * 5 + s];
        const weights = Array.from({ length: t + 1 }, (_, s) =>
          Math.exp(cached(expectedKeys, s).reduce((total, value, i) => total + value * query[i], 0) / Math.sqrt(headDim)),
        );
        const total = weights.reduce((a, b) => a + b, 0);
        const expected = query.map((_, i) => weights.reduce((sumOf, w, s) => sumOf + (w / total) * cached(expectedValues, s)[i], 0));
        expectClose(heads.subarray((t * 4 + h) * headDim, (t * 4 + h + 1) * headDim), expected, 1e-4);
      }
    }
    expect(await backend.float64(rounded.output)).toEqual(await backend.float64(output));
    expect(await backend.float64(rounding.forward(x))).toEqual(await backend.float64(output));
    expect(await backend.float64(output)).not.toEqual(await backend.float64(block.forward(x)));
  });

  it.each(Object.entries(settings))('%s: decoding a position equals the whole sequence there', async (_what, keyValues) => {
    const model = withKeyValues(await loadModel(randomCheckpoint(config)), keyValues);
    const [block] = model.blocks;
    const x = model.embedding.forward(tokensOf(6));
    const whole = await backend.float64(block.forward(x));
    const before = block.prefill(slice(x, 1, 0, 5));
    const [keys, values] = await backend.evaluate([before.keys, before.values]);
    const { output } = block.decode(slice(x, 1, 5, 6), { keys, values }, tensor(Int32Array.of(5), []));
    const decoded = await backend.float64(output);
    for (let row = 0; row < 2; row++) {
      expectClose(decoded.subarray(row * 24, (row + 1) * 24), whole.subarray((row * 6 + 5) * 24, (row * 6 + 6) * 24));
    }
  });
});

describe('a model with rounded keys and values', () => {
  it('generates the most probable tokens of its full forward pass', async () => {
    const model = withKeyValues(await loadModel(randomCheckpoint(smallConfig)), settings['keys rotated']);
    const prompt = Int32Array.of(3, 1, 4, 1, 5);
    const [continuation] = await generate(model, onnx, { prompts: [prompt], maxTokens: 40 });
    const all = Int32Array.from([...prompt, ...continuation]);
    const logits = slice(model.forward(tensor(all, [1, all.length])), 1, prompt.length - 1, all.length - 1);
    const [tokens] = await onnx.evaluate([argmax(logits)]);
    expect([...continuation]).toEqual([...(await read(tokens))]);
  });

  it('keeps the rounding through other changes, and loses it when told to', async () => {
    const model = await loadModel(randomCheckpoint(smallConfig));
    const rounding = model.blocks[0].with({ keyValues: settings['keys rotated'] });
    expect(rounding.map((t) => t).with({ linears: {} }).keyValues).toEqual(settings['keys rotated']);
    expect([...tensorsOf(rounding).keys()]).toEqual([...tensorsOf(model.blocks[0]).keys()]);
    expect(rounding.with({ keyValues: undefined }).keyValues).toBeUndefined();
    expect(model.blocks[0].keyValues).toBeUndefined();
  });

  it('refuses a rounding that cannot be', async () => {
    const [block] = (await loadModel(randomCheckpoint(smallConfig))).blocks;
    const wrong = (change: object) => () => block.with({ keyValues: { ...settings['keys rotated'], ...change } });
    expect(wrong({ bits: 1 })).toThrow(/^KEY_VALUES: model\.layers\.0: .*bits/);
    expect(wrong({ clipRatio: 0 })).toThrow(/^KEY_VALUES: model\.layers\.0: .*clipRatio/);
    expect(wrong({ rotateKeys: 'yes' })).toThrow(/^KEY_VALUES: .*rotateKeys/);
  });

  it('lets gradients pass straight through', async () => {
    const random = (name: string) => tensor(createRng(3).at(name).normal(48), [2, 1, 4, 6]);
    const [keys, values, upstream] = ['keys', 'values', 'upstream'].map(random);
    const rounded = quantizeKeyValues({ keys, values }, settings['keys rotated']);
    for (const [from, to] of [
      [keys, rounded.keys],
      [values, rounded.values],
    ] as const) {
      const [slope] = await backend.evaluate(grad(sum(mul(to, upstream)), [from]));
      expectClose(await readFloats(slope), await readFloats(upstream));
    }
  });
});
