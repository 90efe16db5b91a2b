// Log-likelihoods of many texts of different lengths: equal inputs run once, and those of about equal length together.
import {
  argmax,
  type Backend,
  cast,
  crossEntropy,
  equal,
  gather,
  LowbitError,
  type Model,
  materialize,
  readFloats,
  reshape,
  type Tensor,
  tensor,
  throwIfAborted,
} from '@lowbit/core';
import { ACTIVATION_BYTES, batchesOfWindows, finalStates, partsOf, type WindowBatch } from '../hidden-states.js';
import type { Request } from './requests.js';

export interface Likelihoods {
  /** Of each request, in nats. */
  readonly logLikelihoods: Float64Array;
  /** 1 where every scored token is the likeliest. */
  readonly isGreedy: Uint8Array;
}

export interface LikelihoodOptions {
  readonly backend: Backend;
  /** Tokens evaluated at once; 2048 by default. */
  readonly batchTokens?: number | undefined;
  readonly signal?: AbortSignal | undefined;
  readonly progress?: ((done: number, total: number) => void) | undefined;
}

/** Predictions whose logits are held at once. */
const CHUNK = 128;

/** Texts of one input length, rounded up. */
interface Bucket {
  readonly length: number;
  readonly inputs: Input[];
}

interface Input {
  readonly tokens: Int32Array;
  readonly predictions: Prediction[];
}

interface Prediction {
  readonly request: number;
  /** Position in the input whose logits are meant. */
  readonly at: number;
  readonly target: number;
}

/**
 * Sum of the log-probabilities of each request's scored tokens.
 * @throws TOKEN_RANGE and SCORE_NAN naming the record, ABORTED.
 */
export async function likelihoodsOf(model: Model, requests: readonly Request[], options: LikelihoodOptions): Promise<Likelihoods> {
  const { backend, batchTokens = 2048, signal, progress } = options;
  const { contextLength, vocabularySize } = model.config;
  const batches = bucketsOf(requests, contextLength, vocabularySize).flatMap((bucket) => batchesOf(bucket, batchTokens));
  const total = batches.reduce((sum, { chunks }) => sum + 1 + model.blocks.length + chunks.length, 0);
  let done = 0;
  const run = { backend, signal, tick: () => progress?.(++done, total) };

  const logLikelihoods = new Float64Array(requests.length);
  const isGreedy = new Uint8Array(requests.length).fill(1);
  for (const part of partsOf(batches, model.width, 1, ACTIVATION_BYTES)) {
    const states = await finalStates(model, part, run);
    const [norm, head] = [await materialize(model.norm), await materialize(model.head)];
    for (const [i, state] of states.entries()) {
      const rows = rowsOf(state);
      for (const { at, targets, predictions } of part[i].chunks) {
        throwIfAborted(signal);
        const logits = head.forward(norm.forward(gather(rows, at)));
        const results = await backend.evaluate([crossEntropy(logits, targets), cast(equal(argmax(logits), targets), 'float32')]);
        const [losses, hits] = await Promise.all(results.map(readFloats));
        for (const [k, { request }] of predictions.entries()) {
          logLikelihoods[request] -= losses[k];
          if (hits[k] === 0) isGreedy[request] = 0;
        }
        run.tick();
      }
    }
  }
  const broken = logLikelihoods.findIndex((value) => !Number.isFinite(value));
  if (broken >= 0) {
    const { where } = requests[broken];
    throw new LowbitError('SCORE_NAN', `${where}: its log-likelihood is not finite; the model's weights or activations overflow`);
  }
  return { logLikelihoods, isGreedy };
}

/** Inputs by their length, rounded up so that few shapes are compiled; the longest first. */
function bucketsOf(requests: readonly Request[], contextLength: number, vocabularySize: number): Bucket[] {
  const inputs = new Map<string, Input>();
  for (const [request, { tokens, scored, where }] of requests.entries()) {
    const outside = tokens.find((token) => token >= vocabularySize);
    if (outside !== undefined) {
      const vocabulary = `the model's vocabulary of ${vocabularySize}`;
      throw new LowbitError('TOKEN_RANGE', `${where}: token ${outside} is outside ${vocabulary}; use the model's own tokenizer`);
    }
    const own = tokens.subarray(0, -1);
    const key = own.join();
    const input = inputs.get(key) ?? { tokens: own, predictions: [] };
    inputs.set(key, input);
    for (let at = own.length - scored; at < own.length; at++) input.predictions.push({ request, at, target: tokens[at + 1] });
  }
  const buckets = new Map<number, Bucket>();
  for (const input of inputs.values()) {
    const length = Math.min(contextLength, roundedUp(input.tokens.length));
    const bucket = buckets.get(length) ?? { length, inputs: [] };
    buckets.set(length, bucket);
    bucket.inputs.push(input);
  }
  return [...buckets.values()].sort((a, b) => b.length - a.length);
}

/** To a multiple of 16, or of an eighth of the power of two above where that is more. */
function roundedUp(length: number): number {
  const step = Math.max(16, 2 ** (Math.ceil(Math.log2(length)) - 3));
  return Math.ceil(length / step) * step;
}

interface Batch extends WindowBatch {
  readonly chunks: readonly Chunk[];
}

/** Predictions of a batch, filled up to one number for all chunks. */
interface Chunk {
  /** int32 [CHUNK]: of the flattened states. */
  readonly at: Tensor;
  /** int32 [CHUNK] */
  readonly targets: Tensor;
  /** Without the filling. */
  readonly predictions: readonly Prediction[];
}

/** Batches of equal size, filled up on the right: no position sees what is behind it. */
function batchesOf({ length, inputs }: Bucket, batchTokens: number): Batch[] {
  const most = Math.max(1, Math.floor(batchTokens / length));
  const size = Math.ceil(inputs.length / Math.ceil(inputs.length / most));
  const tokens = new Int32Array(inputs.length * length);
  for (const [i, input] of inputs.entries()) tokens.set(input.tokens, i * length);
  return batchesOfWindows({ count: inputs.length, length, tokens }, size).map((batch) => {
    const rows = batch.windows.flatMap((window, row) =>
      window < 0 ? [] : inputs[window].predictions.map((prediction) => ({ ...prediction, at: row * length + prediction.at })),
    );
    return {
      ...batch,
      chunks: Array.from({ length: Math.ceil(rows.length / CHUNK) }, (_, i) => chunkOf(rows.slice(i * CHUNK, (i + 1) * CHUNK))),
    };
  });
}

function chunkOf(predictions: readonly Prediction[]): Chunk {
  const filled = (pick: (prediction: Prediction) => number): Tensor =>
    tensor(Int32Array.from({ length: CHUNK }, (_, i) => pick(predictions[Math.min(i, predictions.length - 1)])));
  return { at: filled(({ at }) => at), targets: filled(({ target }) => target), predictions };
}

/** [batch, tokens, width] → [batch · tokens, width] */
function rowsOf(state: Tensor): Tensor {
  const width = state.shape[2];
  return reshape(state, [state.size / width, width]);
}
