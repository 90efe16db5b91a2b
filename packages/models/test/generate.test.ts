// Generation: equal to picking from the full forward pass, whatever is decoded beside it; stops, streams, cancels.
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { createOnnxBackend } from '@lowbit/backend-onnxruntime';
import { createReferenceBackend } from '@lowbit/backend-reference';
import {
  argmax,
  type Backend,
  createRng,
  LowbitError,
  type Model,
  mul,
  read,
  readFloats,
  slice,
  softmax,
  type Tensor,
  tensor,
} from '@lowbit/core';
import { openCheckpoint, saveCheckpoint } from '@lowbit/formats';
import { ActivationQuantizedLinear, QuantizedLinear, quantizeWeight } from '@lowbit/quant';
import { afterAll, describe, expect, it } from 'vitest';
import { densify, type GeneratedToken, generate, loadModel, sampleToken } from '../src/index.js';
import { randomCheckpoint, smallConfig } from './memory-checkpoint.js';

const reference = createReferenceBackend();
const onnx = await createOnnxBackend({ threads: 1 });
afterAll(() => onnx.dispose());

const checkpoint = randomCheckpoint({ ...smallConfig, max_position_embeddings: 80 });
const model = await loadModel(checkpoint);
const prompt = Int32Array.of(3, 1, 4, 1, 5);

/** Logits of one full pass over a prompt and its continuation, [1, tokens, vocabulary]: what each new token must have been picked from. */
async function fullLogits(used: Model, backend: Backend, continuation: Int32Array): Promise<Tensor> {
  const tokens = Int32Array.from([...prompt, ...continuation]);
  const logits = used.forward(tensor(tokens, [1, tokens.length]));
  const [picked] = await backend.evaluate([slice(logits, 1, prompt.length - 1, tokens.length - 1)]);
  return picked;
}

async function mostProbable(backend: Backend, logits: Tensor): Promise<number[]> {
  const [tokens] = await backend.evaluate([argmax(logits)]);
  return [...(await read(tokens))];
}

/** The model with weights quantized to 4 bits; down projections read quantized activations besides. */
async function quantizedModel(): Promise<Model> {
  const blocks = await Promise.all(
    model.blocks.map(async (block) => {
      const linears = await Promise.all(
        Object.entries(block.linears).map(async ([name, linear]) => {
          const weight = await readFloats(linear.effectiveWeight());
          const affine = quantizeWeight(weight, [linear.outFeatures, linear.inFeatures], {
            bits: 4,
            symmetric: false,
            groupSize: 8,
            clip: 'minmax',
            scaleDtype: 'float16',
          });
          const quantized = new QuantizedLinear(affine);
          return [name, name === 'mlp.down_proj' ? new ActivationQuantizedLinear(quantized, { bits: 8 }) : quantized] as const;
        }),
      );
      return block.with({ linears: Object.fromEntries(linears) });
    }),
  );
  return model.with({ blocks });
}

describe('generate', () => {
  it('equals the most probable tokens of the full forward pass', async () => {
    // 65 positions: caches of 32 and 64 are outgrown.
    const [tokens] = await generate(model, onnx, { prompts: [prompt], maxTokens: 60 });
    expect([...tokens]).toEqual(await mostProbable(onnx, await fullLogits(model, onnx, tokens)));
  });

  it('samples from the distribution of the full forward pass at the address of sequence and position', async () => {
    const rng = createRng(5);
    const limits = { topK: 12, topP: 0.9 };
    const [tokens] = await generate(model, reference, { prompts: [prompt], maxTokens: 12, temperature: 0.7, rng, ...limits });
    const [all] = await reference.evaluate([softmax(mul(await fullLogits(model, reference, tokens), 1 / 0.7))]);
    const probabilities = await readFloats(all);
    const expected = Array.from(tokens, (_, i) => {
      const [uniform] = rng.at('generate', 0, prompt.length + i).uniform(1);
      return sampleToken(probabilities.subarray(i * 37, (i + 1) * 37), uniform, limits);
    });
    expect([...tokens]).toEqual(expected);
    expect(new Set(tokens).size).toBeGreaterThan(1);
  });

  it('gives the same tokens whichever prompts stand beside, in any grouping by length', async () => {
    const prompts = [prompt, Int32Array.of(7), Int32Array.of(9, 2, 6, 5, 3), Int32Array.of(8)];
    const options = { maxTokens: 6, temperature: 1, rng: createRng(11) };
    const together = await generate(model, onnx, { prompts, ...options });
    const again = await generate(model, onnx, { prompts, ...options });
    expect(again).toEqual(together);
    const [first] = await generate(model, onnx, { prompts: [prompts[0]], ...options });
    expect(first).toEqual(together[0]);
    expect(together.map(({ length }) => length)).toEqual([6, 6, 6, 6]);
    expect(together[1]).not.toEqual(together[3]);
  });

  it.each([0, 0.8])('decodes prompts of different lengths together as each alone, at temperature %d', async (temperature) => {
    const prompts = [
      prompt,
      Int32Array.of(7),
      Int32Array.of(9, 2, 6),
      Int32Array.from({ length: 30 }, (_, i) => (7 * i) % 37),
      Int32Array.of(8),
    ];
    // A cache of 32 is outgrown.
    const options = { maxTokens: 8, temperature, rng: createRng(11) };
    const alone = await generate(model, onnx, { prompts, ...options });
    for (const together of [2, 9]) expect(await generate(model, onnx, { prompts, together, ...options })).toEqual(alone);
    // What fills prompts up, and keys and values of few bits, change nothing.
    const rounding = model.with({
      blocks: model.blocks.map((block) => block.with({ keyValues: { bits: 4, clipRatio: 1, rotateKeys: true } })),
    });
    const short = { prompts: prompts.slice(0, 3), maxTokens: 6 };
    expect(await generate(rounding, reference, { ...short, together: 3 })).toEqual(await generate(rounding, reference, short));
  });

  it('ends a sequence where it is said to be done', async () => {
    const prompts = [prompt, Int32Array.of(7)];
    const free = await generate(model, onnx, { prompts, maxTokens: 9 });
    const asked: [number, number][] = [];
    const done = await generate(model, onnx, {
      prompts,
      maxTokens: 9,
      together: 2,
      isDone: (tokens, sequence) => {
        asked.push([sequence, tokens.length]);
        return sequence === 1 && tokens.length === 3;
      },
    });
    expect(done).toEqual([free[0], free[1].slice(0, 3)]);
    expect(asked.filter(([sequence]) => sequence === 1)).toEqual([1, 2, 3].map((length) => [1, length]));
    expect(asked.filter(([sequence]) => sequence === 0)).toHaveLength(8);
  });

  it('ends a sequence at the stop token and goes on with the others', async () => {
    const prompts = [prompt, Int32Array.of(9, 2, 6, 5, 3)];
    const free = await generate(model, onnx, { prompts, maxTokens: 8 });
    const stopToken = free[0][2];
    const until = (tokens: Int32Array): Int32Array => {
      const at = tokens.indexOf(stopToken);
      return at < 0 ? tokens : tokens.slice(0, at + 1);
    };
    const stopped = await generate(model, onnx, { prompts, maxTokens: 8, stopToken });
    expect(stopped).toEqual(free.map(until));
    expect(stopped[0].length).toBeLessThanOrEqual(3);
  });

  it('reports tokens as they appear', async () => {
    const steps: (readonly GeneratedToken[])[] = [];
    const prompts = [prompt, Int32Array.of(7)];
    const results = await generate(model, onnx, { prompts, maxTokens: 3, onTokens: (tokens) => steps.push(tokens) });
    const streamed = prompts.map((_, i) =>
      Int32Array.from(
        steps.flat().filter(({ sequence }) => sequence === i),
        ({ token }) => token,
      ),
    );
    expect(streamed).toEqual(results);
  });

  it('equals the full forward pass of a quantized model, dequantizing once', async () => {
    const quantized = await quantizedModel();
    const dense = await densify(quantized, onnx);
    expect(dense.blocks[0].linears['self_attn.q_proj'].kind).toBe('dense');
    expect(dense.blocks[0].linears['mlp.down_proj'].kind).toBe('activation-quantized');
    const tokens = tensor(createRng(2).integers(10, smallConfig.vocab_size), [1, 10]);
    const [a, b] = await reference.evaluate([quantized.forward(tokens), dense.forward(tokens)]);
    const [x, y] = [await readFloats(a), await readFloats(b)];
    x.forEach((value, i) => {
      expect(Math.abs(value - y[i])).toBeLessThan(1e-4);
    });

    const [written] = await generate(quantized, reference, { prompts: [prompt], maxTokens: 6 });
    expect([...written]).toEqual(await mostProbable(reference, await fullLogits(quantized, reference, written)));
  });

  it('reads every weight of a lazy model once, and compiles a program a capacity', async () => {
    const fresh = randomCheckpoint(smallConfig);
    const backend = await createOnnxBackend({ threads: 1 });
    await generate(await loadModel(fresh), backend, { prompts: [Int32Array.of(1)], maxTokens: 40 });
    expect([...fresh.reads].sort()).toEqual([...fresh.entries.keys()].sort());
    expect(backend.statistics.compilations).toBe(3); // the prompt, and caches of 32 and 64
    await backend.dispose();
  });

  it('is cancelled between steps', async () => {
    const controller = new AbortController();
    const run = generate(model, reference, {
      prompts: [prompt],
      maxTokens: 9,
      signal: controller.signal,
      onTokens: () => controller.abort(),
    });
    await expect(run).rejects.toThrow(/^ABORTED: /);
  });

  it.each([
    ['GENERATE_OPTIONS', 'maxTokens', { prompts: [prompt], maxTokens: 0 }],
    ['GENERATE_OPTIONS', 'together', { prompts: [prompt], maxTokens: 1, together: 0 }],
    ['GENERATE_OPTIONS', 'temperature', { prompts: [prompt], maxTokens: 1, temperature: -1 }],
    ['GENERATE_OPTIONS', 'rng', { prompts: [prompt], maxTokens: 1, temperature: 1 }],
    ['GENERATE_OPTIONS', 'topK', { prompts: [prompt], maxTokens: 1, topK: 0 }],
    ['GENERATE_OPTIONS', 'topP', { prompts: [prompt], maxTokens: 1, topP: 1.5 }],
    ['GENERATE_OPTIONS', 'prompt 1 has no tokens', { prompts: [prompt, new Int32Array()], maxTokens: 1 }],
    ['GENERATE_OPTIONS', 'token 37', { prompts: [Int32Array.of(37)], maxTokens: 1 }],
    ['CONTEXT_LENGTH', 'context of 80', { prompts: [prompt], maxTokens: 76 }],
  ])('refuses wrong requests: %s, %s', async (code, what, request) => {
    const error = await generate(model, reference, request).catch((cause: unknown) => cause);
    expect(error).toBeInstanceOf(LowbitError);
    expect((error as LowbitError).code).toBe(code);
    expect((error as LowbitError).message).toContain(what);
  });

  it('returns nothing for no prompts', async () => {
    expect(await generate(model, reference, { prompts: [], maxTokens: 1 })).toEqual([]);
  });
});

it('gives the same logits after a quantized model was saved and loaded', async () => {
  const quantized = await quantizedModel();
  const directory = join(await mkdtemp(join(tmpdir(), 'lowbit-models-')), 'saved');
  try {
    await saveCheckpoint(directory, quantized);
    const restored = await loadModel(await openCheckpoint(directory));
    expect(restored.config).toEqual(quantized.config);
    expect(restored.blocks[1].linears['mlp.down_proj'].kind).toBe('activation-quantized');
    const tokens = tensor(prompt, [1, prompt.length]);
    const [a, b] = await reference.evaluate([quantized.forward(tokens), restored.forward(tokens)]);
    expect(await readFloats(b)).toEqual(await readFloats(a));
  } finally {
    await rm(dirname(directory), { recursive: true });
  }
});
