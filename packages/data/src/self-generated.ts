// Text that the dense model writes itself, for calibration and judging where no text of its kind is at hand.
// LLM-QAT, arXiv 2305.17888, section 2.1: next-token generation from the full-precision model.
import { LowbitError, type Rng, throwIfAborted } from '@lowbit/core';
import { type TokenWindows, windowsOf } from './windows.js';

/** What the generator of @lowbit/models is asked for; `(request) => generate(model, backend, request)` fits. */
export interface SampleRequest {
  readonly prompts: readonly Int32Array[];
  readonly maxTokens: number;
  /** 0: the most probable token. */
  readonly temperature: number;
  readonly topK?: number | undefined;
  readonly topP?: number | undefined;
  readonly rng: Rng;
  readonly signal?: AbortSignal | undefined;
}

/** Continues each prompt by `maxTokens` tokens and returns the continuations, in order. */
export type SampleTokens = (request: SampleRequest) => Promise<readonly Int32Array[]>;

export interface SelfGeneratedOptions {
  readonly sample: SampleTokens;
  /** Windows to write. */
  readonly windows: number;
  /** Tokens in each, the start token among them; not more than the model's context. */
  readonly window: number;
  readonly rng: Rng;
  /** Two sets of one seed share no random number. */
  readonly split: 'calibration' | 'held-out';
  readonly vocabularySize: number;
  /** First token of each window. Without it the first token is drawn uniformly from the vocabulary, as LLM-QAT does. */
  readonly bosToken?: number | undefined;
  /** Tokens after the first that are the most probable ones; 0 after BOS, else 3 (LLM-QAT takes 3 to 5). */
  readonly greedyTokens?: number;
  /** 1 by default: the model's own distribution. */
  readonly temperature?: number;
  readonly topK?: number;
  readonly topP?: number;
  /** Windows written at once; 64 by default. A decoding step costs little more for many than for one. */
  readonly batch?: number;
  readonly signal?: AbortSignal | undefined;
  readonly progress?: ((done: number, total: number) => void) | undefined;
}

/**
 * Windows sampled from a model. Equal seed, split and options give equal windows, whatever else was drawn.
 * @throws SELF_GENERATED_REPEATS when windows come out equal (a temperature too low), SELF_GENERATED_SHORT when the sampler stops early.
 */
export async function selfGeneratedWindows(options: SelfGeneratedOptions): Promise<TokenWindows> {
  const {
    windows,
    window,
    split,
    bosToken,
    greedyTokens = bosToken === undefined ? 3 : 0,
    temperature = 1,
    topK,
    topP,
    batch = 64,
  } = options;
  if (
    ![windows, window - 1, batch].every((value) => Number.isInteger(value) && value >= 1) ||
    !(greedyTokens >= 0 && greedyTokens < window - 1)
  ) {
    throw new LowbitError(
      'OPTIONS_INVALID',
      `self-generated: ${windows} windows of ${window} tokens, ${greedyTokens} of them greedy, ${batch} at once, cannot be written; needs positive integers with greedyTokens < window − 1`,
    );
  }
  const rng = options.rng.at('self-generated', split);
  const rows: Int32Array[] = [];
  for (let start = 0; start < windows; start += batch) {
    throwIfAborted(options.signal);
    const count = Math.min(batch, windows - start);
    const draws = rng.at(start);
    const first = bosToken === undefined ? draws.at('first').integers(count, options.vocabularySize) : new Int32Array(count).fill(bosToken);
    let texts: Int32Array[] = Array.from(first, (token) => Int32Array.of(token));
    for (const [stage, tokens, heat] of [
      ['greedy', greedyTokens, 0],
      ['sampled', window - 1 - greedyTokens, temperature],
    ] as const) {
      if (tokens === 0) continue;
      const request = { prompts: texts, maxTokens: tokens, temperature: heat, topK, topP, rng: draws.at(stage), signal: options.signal };
      const continuations = await options.sample(request);
      texts = texts.map((text, i) => join(text, continuations[i], tokens));
    }
    rows.push(...texts);
    options.progress?.(rows.length, windows);
  }
  const distinct = new Set(rows.map((row) => row.join(' '))).size;
  if (distinct < rows.length) {
    throw new LowbitError(
      'SELF_GENERATED_REPEATS',
      `self-generated ${split}: ${rows.length - distinct} of ${rows.length} windows repeat others; raise the temperature, topK or topP`,
    );
  }
  const protocol = {
    corpus: 'self-generated',
    split,
    start: bosToken === undefined ? 'random token' : 'BOS',
    greedyTokens,
    temperature,
    ...(topK !== undefined && { topK }),
    ...(topP !== undefined && { topP }),
  };
  return windowsOf(rows, { description: `self-generated ${split}, ${windows} windows of ${window}`, protocol });
}

function join(prompt: Int32Array, continuation: Int32Array | undefined, expected: number): Int32Array {
  if (continuation?.length !== expected) {
    throw new LowbitError(
      'SELF_GENERATED_SHORT',
      `self-generated: the sampler returned ${continuation?.length ?? 'no'} of ${expected} tokens; it must return continuations of full length, without a stop token`,
    );
  }
  const text = new Int32Array(prompt.length + expected);
  text.set(prompt);
  text.set(continuation, prompt.length);
  return text;
}
