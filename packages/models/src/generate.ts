// Text generation with a key-value cache: the prompt in one pass, then one evaluation a token over the whole model.
import {
  argmax,
  type Backend,
  type DecodeResult,
  LowbitError,
  type Model,
  materialize,
  mul,
  type Rng,
  read,
  readFloats,
  reshape,
  slice,
  softmax,
  type Tensor,
  tensor,
  throwIfAborted,
} from '@lowbit/core';
import { CacheBuffers } from './cached-attention.js';
import { densify } from './densify.js';
import { type SamplingLimits, sampleToken } from './sampling.js';

/** One token as it appears: which prompt it continues, by index, and its id. */
export interface GeneratedToken {
  readonly sequence: number;
  readonly token: number;
}

export interface GenerateOptions extends SamplingLimits {
  /** Token ids. Prompts of equal length are decoded together; memory grows with their number. */
  readonly prompts: readonly Int32Array[];
  /** Tokens to add to each prompt at most. */
  readonly maxTokens: number;
  /** Divides the logits; 0 takes the most probable token. Default: 0. */
  readonly temperature?: number;
  /** Needed above temperature 0. A draw is addressed by prompt index and position, whatever is decoded beside it. */
  readonly rng?: Rng | undefined;
  /** Ends a sequence; it is the last token of its result. */
  readonly stopToken?: number | undefined;
  readonly signal?: AbortSignal | undefined;
  /** Called after each step with the tokens it added. */
  readonly onTokens?: ((tokens: readonly GeneratedToken[]) => void) | undefined;
}

/** Smallest cache that is compiled for, in positions. */
const LEAST_CAPACITY = 32;

/**
 * Continues each prompt; returns the new tokens of each, without the prompt. Quantized weights are evaluated and lazy ones read once,
 * at the start; a caller that generates often passes a model that has been through `densify` and `materialize`.
 * @throws GENERATE_OPTIONS for wrong options, CONTEXT_LENGTH when prompt and new tokens exceed the model's context.
 */
export async function generate(model: Model, backend: Backend, options: GenerateOptions): Promise<Int32Array[]> {
  checkOptions(model, options);
  const ready = await materialize(await densify(model, backend, { signal: options.signal }));
  const results: Int32Array[] = options.prompts.map(() => new Int32Array());
  for (const sequences of indicesByLength(options.prompts)) {
    const batch = await continueBatch(ready, backend, sequences, options);
    sequences.forEach((sequence, i) => {
      results[sequence] = batch[i];
    });
  }
  return results;
}

function checkOptions({ config }: Model, { prompts, maxTokens, temperature = 0, rng, topK, topP }: GenerateOptions): void {
  const wrong = (what: string): LowbitError => new LowbitError('GENERATE_OPTIONS', `generate: ${what}`);
  if (!Number.isInteger(maxTokens) || maxTokens < 1) throw wrong(`maxTokens must be a positive integer, got ${maxTokens}`);
  if (!(temperature >= 0 && Number.isFinite(temperature))) throw wrong(`temperature must be 0 or more, got ${temperature}`);
  if (temperature > 0 && !rng) throw wrong('a temperature above 0 needs an rng; pass createRng(seed), or temperature 0');
  if (topK !== undefined && (!Number.isInteger(topK) || topK < 1)) throw wrong(`topK must be a positive integer, got ${topK}`);
  if (topP !== undefined && !(topP > 0 && topP <= 1)) throw wrong(`topP must be above 0 and at most 1, got ${topP}`);
  prompts.forEach((prompt, i) => {
    if (prompt.length === 0) throw wrong(`prompt ${i} has no tokens; begin it with the tokenizer's BOS token`);
    const outside = prompt.find((token) => token < 0 || token >= config.vocabularySize);
    if (outside !== undefined)
      throw wrong(`prompt ${i} has token ${outside}, outside the vocabulary of ${config.vocabularySize}; use the model's own tokenizer`);
    if (prompt.length + maxTokens > config.contextLength) {
      throw new LowbitError(
        'CONTEXT_LENGTH',
        `generate: prompt ${i} of ${prompt.length} tokens and ${maxTokens} new ones exceed the model's context of ${config.contextLength}; lower maxTokens or shorten the prompt`,
      );
    }
  });
}

/** Prompt indices grouped by prompt length, in order of first appearance. */
function indicesByLength(prompts: readonly Int32Array[]): number[][] {
  const groups = new Map<number, number[]>();
  prompts.forEach(({ length }, i) => {
    groups.set(length, [...(groups.get(length) ?? []), i]);
  });
  return [...groups.values()];
}

/** What a step computes: something to pick the next token from, and what the cache needs. */
interface Step {
  /** int32 [batch] when greedy, else float32 probabilities [batch, vocabulary]. */
  readonly choice: Tensor;
  readonly blocks: readonly DecodeResult[];
}

async function continueBatch(
  model: Model,
  backend: Backend,
  sequences: readonly number[],
  options: GenerateOptions,
): Promise<Int32Array[]> {
  const { prompts, maxTokens, temperature = 0, stopToken, signal, onTokens } = options;
  const batch = sequences.length;
  const promptLength = prompts[sequences[0]].length;
  const inverseTemperature = temperature > 0 ? tensor(1 / temperature) : undefined;
  const tokens = sequences.map(() => new Int32Array(maxTokens));
  const counts = sequences.map(() => 0);
  const isDone = sequences.map(() => false);

  const promptTokens = new Int32Array(batch * promptLength);
  sequences.forEach((sequence, i) => {
    promptTokens.set(prompts[sequence], i * promptLength);
  });
  let step = prefillStep(model, tensor(promptTokens, [batch, promptLength]), inverseTemperature);
  let caches: readonly CacheBuffers[] | undefined;
  let used: readonly Tensor[] = [];
  for (let position = promptLength; ; position++) {
    throwIfAborted(signal);
    const evaluated = await evaluateStep(backend, step, used);
    used = [evaluated.choice, ...evaluated.blocks.flatMap(({ keys, values }) => [keys, values])];
    const next = await pickTokens(evaluated.choice, sequences, position, options);
    const added: GeneratedToken[] = [];
    next.forEach((token, i) => {
      if (isDone[i]) return;
      tokens[i][counts[i]++] = token;
      isDone[i] = token === stopToken || counts[i] === maxTokens;
      added.push({ sequence: sequences[i], token });
    });
    onTokens?.(added);
    if (isDone.every(Boolean)) return tokens.map((all, i) => all.slice(0, counts[i]));
    // The prompt's keys fill the first slots; each step's go behind them, and the token just picked is what the next step reads.
    const filled = position === promptLength ? 0 : position - 1;
    caches ??= evaluated.blocks.map(({ keys }) => emptyCache(keys));
    for (const [i, cache] of caches.entries()) await cache.write(filled, evaluated.blocks[i]);
    step = decodeStep(model, tensor(next, [batch, 1]), caches, tensor(Int32Array.of(position), []), inverseTemperature);
  }
}

/** Buffers for keys like these [batch, keyValueHeads, positions, headDim], with room for the next position. */
function emptyCache({ shape: [batch, keyValueHeads, positions, headDim] }: Tensor): CacheBuffers {
  let capacity = LEAST_CAPACITY;
  while (capacity <= positions) capacity *= 2;
  return new CacheBuffers(batch, keyValueHeads, capacity, headDim);
}

function prefillStep(model: Model, tokens: Tensor, inverseTemperature: Tensor | undefined): Step {
  return stepOf(model, tokens, (index, x) => model.blocks[index].prefill(x), inverseTemperature);
}

function decodeStep(
  model: Model,
  tokens: Tensor,
  caches: readonly CacheBuffers[],
  position: Tensor,
  inverseTemperature: Tensor | undefined,
): Step {
  return stepOf(model, tokens, (index, x) => model.blocks[index].decode(x, caches[index].leaves(), position), inverseTemperature);
}

function stepOf(
  model: Model,
  tokens: Tensor,
  run: (index: number, x: Tensor) => DecodeResult,
  inverseTemperature: Tensor | undefined,
): Step {
  let x = model.embedding.forward(tokens);
  const blocks = model.blocks.map((_, index) => {
    const result = run(index, x);
    x = result.output;
    return result;
  });
  const [batch, length, width] = x.shape;
  const logits = model.logits(reshape(slice(x, 1, length - 1, length), [batch, width]));
  return { choice: inverseTemperature ? softmax(mul(logits, inverseTemperature)) : argmax(logits), blocks };
}

async function evaluateStep(backend: Backend, { choice, blocks }: Step, release: readonly Tensor[]): Promise<Step> {
  const [picked, ...stored] = await backend.evaluate([choice, ...blocks.flatMap(({ keys, values }) => [keys, values])], { release });
  return { choice: picked, blocks: blocks.map((block, i) => ({ ...block, keys: stored[2 * i], values: stored[2 * i + 1] })) };
}

async function pickTokens(
  choice: Tensor,
  sequences: readonly number[],
  position: number,
  { rng, topK, topP }: GenerateOptions,
): Promise<Int32Array> {
  if (!rng || choice.dtype === 'int32') return Int32Array.from(await read(choice));
  const probabilities = await readFloats(choice);
  const vocabulary = choice.shape[1];
  return Int32Array.from(sequences, (sequence, i) => {
    const [uniform] = rng.at('generate', sequence, position).uniform(1);
    return sampleToken(probabilities.subarray(i * vocabulary, (i + 1) * vocabulary), uniform, { topK, topP });
  });
}
