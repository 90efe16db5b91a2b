// Text generation with a key-value cache: the prompt in one pass, then one evaluation a token over the whole model.
import {
  type Backend,
  LowbitError,
  type Model,
  materialize,
  type Rng,
  read,
  readFloats,
  type Tensor,
  tensor,
  throwIfAborted,
} from '@lowbit/core';
import { Decoder } from './decoder.js';
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
  /** Decodes so many prompts together, of whatever lengths: the shorter ones are filled up. Close lengths go together. */
  readonly together?: number | undefined;
  /** Tokens to add to each prompt at most. */
  readonly maxTokens: number;
  /** Divides the logits; 0 takes the most probable token. Default: 0. */
  readonly temperature?: number;
  /** Needed above temperature 0. A draw is addressed by prompt index and position, whatever is decoded beside it. */
  readonly rng?: Rng | undefined;
  /** Ends a sequence; it is the last token of its result. */
  readonly stopToken?: number | undefined;
  /** Ends a sequence too: asked after each of its tokens but the last, with all of them. */
  readonly isDone?: ((tokens: readonly number[], sequence: number) => boolean) | undefined;
  readonly signal?: AbortSignal | undefined;
  /** Called after each step with the tokens it added. */
  readonly onTokens?: ((tokens: readonly GeneratedToken[]) => void) | undefined;
}

/**
 * Continues each prompt; returns the new tokens of each, without the prompt. Quantized weights are evaluated and lazy ones read once,
 * at the start; a caller that generates often passes a model that has been through `densify` and `materialize`.
 * @throws GENERATE_OPTIONS for wrong options, CONTEXT_LENGTH when prompt and new tokens exceed the model's context.
 */
export async function generate(model: Model, backend: Backend, options: GenerateOptions): Promise<Int32Array[]> {
  checkOptions(model, options);
  const ready = await materialize(await densify(model, backend, { signal: options.signal }));
  const results: Int32Array[] = options.prompts.map(() => new Int32Array());
  const { prompts, together } = options;
  for (const sequences of together === undefined ? indicesByLength(prompts) : closeLengths(prompts, together)) {
    const batch = await continueBatch(ready, backend, sequences, options);
    sequences.forEach((sequence, i) => {
      results[sequence] = batch[i];
    });
  }
  return results;
}

function checkOptions({ config }: Model, { prompts, together, maxTokens, temperature = 0, rng, topK, topP }: GenerateOptions): void {
  const wrong = (what: string): LowbitError => new LowbitError('GENERATE_OPTIONS', `generate: ${what}`);
  if (!Number.isInteger(maxTokens) || maxTokens < 1) throw wrong(`maxTokens must be a positive integer, got ${maxTokens}`);
  if (together !== undefined && (!Number.isInteger(together) || together < 1)) {
    throw wrong(`together must be a positive integer, got ${together}`);
  }
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

/** Prompt indices, so many at a time, the longest first: what does not fit into memory does not fit at once. */
function closeLengths(prompts: readonly Int32Array[], together: number): number[][] {
  const order = prompts.map((_, i) => i).sort((a, b) => prompts[b].length - prompts[a].length || a - b);
  return Array.from({ length: Math.ceil(order.length / together) }, (_, i) => order.slice(i * together, (i + 1) * together));
}

async function continueBatch(
  model: Model,
  backend: Backend,
  sequences: readonly number[],
  options: GenerateOptions,
): Promise<Int32Array[]> {
  const { prompts, maxTokens, temperature = 0, stopToken, isDone, signal, onTokens } = options;
  const decoder = new Decoder(model, backend, temperature);
  const rows = sequences.map((sequence) => prompts[sequence]);
  const positions = Int32Array.from(rows, ({ length }) => length);
  const written = rows.map((): number[] => []);
  let tokens = stack(rows);
  // Filled up where lengths differ.
  let lengths = positions.some((length) => length !== positions[0]) ? positions.slice() : undefined;
  let unfinished = rows.map((_, row) => row);
  while (unfinished.length > 0) {
    throwIfAborted(signal);
    const next = await pickTokens(await decoder.advance(tokens, lengths), sequences, positions, options);
    for (const row of unfinished) written[row].push(next[row]);
    onTokens?.(unfinished.map((row) => ({ sequence: sequences[row], token: next[row] })));
    unfinished = unfinished.filter(
      (row) => written[row].length < maxTokens && next[row] !== stopToken && !isDone?.(written[row], sequences[row]),
    );
    tokens = tensor(next, [rows.length, 1]);
    lengths = undefined;
    positions.forEach((position, row) => {
      positions[row] = position + 1;
    });
  }
  return written.map((ids) => Int32Array.from(ids));
}

/** Rows as int32 [rows, length of the longest], zeros behind the shorter ones. */
function stack(rows: readonly Int32Array[]): Tensor {
  const longest = rows.reduce((most, { length }) => Math.max(most, length), 0);
  const stacked = new Int32Array(rows.length * longest);
  rows.forEach((row, i) => {
    stacked.set(row, i * longest);
  });
  return tensor(stacked, [rows.length, longest]);
}

/** Token ids from what a step computed: chosen already, or probabilities. */
async function pickTokens(
  choice: Tensor,
  sequences: readonly number[],
  positions: Int32Array,
  { rng, topK, topP }: GenerateOptions,
): Promise<Int32Array> {
  if (!rng || choice.dtype === 'int32') return Int32Array.from(await read(choice));
  const probabilities = await readFloats(choice);
  const vocabulary = choice.shape[1];
  return Int32Array.from(sequences, (sequence, i) => {
    const [uniform] = rng.at('generate', sequence, positions[i]).uniform(1);
    return sampleToken(probabilities.subarray(i * vocabulary, (i + 1) * vocabulary), uniform, { topK, topP });
  });
}
