// Perplexity, KL divergence from the reference, top-1 agreement and loss gap, in one pass over a text.
import {
  argmax,
  type Backend,
  cast,
  crossEntropy,
  type Evaluator,
  equal,
  exp,
  gather,
  type Linear,
  LowbitError,
  logSoftmax,
  type Model,
  materialize,
  mul,
  type Norm,
  neg,
  readFloats,
  reshape,
  type Score,
  sub,
  sum,
  type Tensor,
  takeAlongLast,
  tensor,
  throwIfAborted,
} from '@lowbit/core';
import type { TokenWindows } from '@lowbit/data';
import { ACTIVATION_BYTES, batchesOfWindows, finalStates, partsOf, type Run, type WindowBatch } from './hidden-states.js';
import { type Estimate, exponentiate, meanPerToken, standardErrorRule } from './ratio.js';

export interface TextEvaluatorOptions {
  /** Tokens evaluated at once; 2048 by default. */
  readonly batchTokens?: number;
  /** Activations kept in memory between blocks, in bytes; 1 GiB by default. A text that needs more is done in parts, and weights are read once a part. */
  readonly activationBytes?: number;
}

/** Logits computed at once: 32 MiB of them. Only losses leave the graph. */
const LOGITS_AT_ONCE = 2 ** 23;

const VERSION = 1;

/**
 * Scores of a model on a text. With a reference model in the context: 'perplexity', 'kl', 'top1-agreement' and 'loss-gap'; else
 * 'perplexity' alone. All are over the scored tokens of `windows`:
 *
 * - perplexity: exp of the mean of −log q(token), q the model's prediction.
 * - kl: mean of Σ_v p(v) log(p(v)/q(v)) in nats, p the reference's prediction.
 * - top1-agreement: share of positions where both find the same token the most probable.
 * - loss-gap: mean of log p(token) − log q(token) in nats; its error is that of the paired difference, much smaller than that of
 *   either perplexity.
 */
export function textEvaluator(windows: TokenWindows, options: TextEvaluatorOptions = {}): Evaluator {
  const { batchTokens = 2048, activationBytes = ACTIVATION_BYTES } = options;
  const size = Math.min(windows.count, Math.max(1, Math.floor(batchTokens / windows.length)));
  const batches = batchesOfWindows(windows, size);
  // A benchmark judges many models against one reference: what the reference's blocks give is kept while it fits.
  let kept: { readonly backend: Backend; readonly model: Model; readonly states: readonly Tensor[] } | undefined;

  return {
    name: 'text',
    version: VERSION,
    async evaluate(model, context) {
      const { backend, reference, signal } = context;
      checkModel(model, windows);
      if (reference) checkVocabulary(model, reference);
      const width = Math.max(model.width, reference?.width ?? 0);
      const parts = partsOf(batches, width, reference && reference !== model ? 2 : 1, activationBytes);
      const known = parts.length === 1 && kept?.model === reference && kept?.backend === backend ? kept?.states : undefined;
      const chunks = chunksOf(batches, windows, model.config.vocabularySize);
      const total = evaluationsOf(batches, model, known ? undefined : reference) + chunks.flat().length;
      let done = 0;
      const run: Run = { backend, signal, tick: () => context.progress?.(++done, total) };

      const totals = new Totals(windows.count, reference ? 4 : 1);
      let first = 0;
      for (const part of parts) {
        const referenceStates = reference && (known ?? (await finalStates(reference, part, run)));
        if (reference && referenceStates && parts.length === 1) kept = { backend, model: reference, states: referenceStates };
        const states = reference === model && referenceStates ? referenceStates : await finalStates(model, part, run);
        const pair = reference && referenceStates ? { model: reference, states: referenceStates } : undefined;
        await score({ model, states }, pair, chunks.slice(first, first + part.length), totals, run);
        first += part.length;
      }
      return scoresOf(totals, windows, backend, reference !== undefined);
    },
  };
}

/** Some scored positions of a batch; all chunks have one size. */
interface Chunk {
  /** Row of the flattened states that predicts each token; the last is repeated to fill the chunk. int32 [rows]. */
  readonly at: Tensor;
  /** int32 [rows]. */
  readonly targets: Tensor;
  /** Window of each row, without the filling. */
  readonly windows: Int32Array;
}

/** The chunks of each batch. */
function chunksOf(batches: readonly WindowBatch[], windows: TokenWindows, vocabularySize: number): Chunk[][] {
  const positions = batches.map((batch) => batch.windows.flatMap((window, row) => (window < 0 ? [] : scoredRows(windows, window, row))));
  const most = positions.reduce((a, { length }) => Math.max(a, length), 0);
  const chunkCount = Math.ceil(most / Math.max(1, Math.floor(LOGITS_AT_ONCE / vocabularySize)));
  const size = Math.ceil(most / chunkCount);
  return positions.map((all) =>
    Array.from({ length: Math.ceil(all.length / size) }, (_, i) => {
      const rows = all.slice(i * size, (i + 1) * size);
      const filled = (pick: (row: ScoredRow) => number): Tensor =>
        tensor(Int32Array.from({ length: size }, (_, j) => pick(rows[Math.min(j, rows.length - 1)])));
      return { at: filled((row) => row.at), targets: filled((row) => row.target), windows: Int32Array.from(rows, (row) => row.window) };
    }),
  );
}

interface ScoredRow {
  readonly at: number;
  readonly target: number;
  readonly window: number;
}

/** What is scored of a window that is row `row` of its batch: the state at position p − 1 predicts the token at p. */
function scoredRows({ tokens, length, scoredFrom, scoredTo }: TokenWindows, window: number, row: number): ScoredRow[] {
  return Array.from({ length: scoredTo[window] - scoredFrom[window] }, (_, i) => {
    const position = scoredFrom[window] + i;
    return { at: row * length + position - 1, target: tokens[window * length + position], window };
  });
}

/** Sums by window of each quantity: loss, then with a reference KL, agreement and loss gap. */
class Totals {
  readonly counts: Float64Array;
  readonly sums: readonly Float64Array[];
  readonly squares: Float64Array;

  constructor(windows: number, quantities: number) {
    this.counts = new Float64Array(windows);
    this.sums = Array.from({ length: quantities }, () => new Float64Array(windows));
    this.squares = new Float64Array(quantities);
  }

  add(windows: Int32Array, values: readonly Float32Array[]): void {
    windows.forEach((window, i) => {
      this.counts[window]++;
      values.forEach((column, quantity) => {
        this.sums[quantity][window] += column[i];
        this.squares[quantity] += column[i] ** 2;
      });
    });
  }

  /** @throws SCORE_NAN when the model's logits were not numbers. */
  estimate(quantity: number): Estimate {
    const window = this.sums[quantity].findIndex(Number.isNaN);
    if (window >= 0)
      throw new LowbitError(
        'SCORE_NAN',
        `text evaluator: the loss of window ${window} is not a number; the model's weights or activations overflow`,
      );
    return meanPerToken({ sums: this.sums[quantity], squares: this.squares[quantity] }, this.counts);
  }
}

interface Predictor {
  readonly norm: Norm;
  readonly head: Linear;
}

async function predictorOf({ norm, head }: Model): Promise<Predictor> {
  return { norm: await materialize(norm), head: await materialize(head) };
}

/** A model with its last block's output for each batch. */
interface Forwarded {
  readonly model: Model;
  readonly states: readonly Tensor[];
}

async function score(
  own: Forwarded,
  reference: Forwarded | undefined,
  chunks: readonly (readonly Chunk[])[],
  totals: Totals,
  run: Run,
): Promise<void> {
  const predictor = await predictorOf(own.model);
  const referencePredictor = reference?.model === own.model ? predictor : reference && (await predictorOf(reference.model));
  for (const [i, ofBatch] of chunks.entries()) {
    for (const { at, targets, windows } of ofBatch) {
      throwIfAborted(run.signal);
      const logits = logitsAt(predictor, own.states[i], at);
      const quantities =
        reference && referencePredictor
          ? compare(logitsAt(referencePredictor, reference.states[i], at), logits, targets)
          : [crossEntropy(logits, targets)];
      const values = await run.backend.evaluate(quantities);
      totals.add(windows, await Promise.all(values.map(readFloats)));
      run.tick();
    }
  }
}

/** Logits [rows, vocabulary] at some rows of the states [batch, tokens, width]. */
function logitsAt({ norm, head }: Predictor, states: Tensor, at: Tensor): Tensor {
  const width = states.shape[2];
  return head.forward(norm.forward(gather(reshape(states, [states.size / width, width]), at)));
}

/** Loss, KL(p‖q), agreement and loss gap of each row, from logits of the reference p and the model q. */
function compare(referenceLogits: Tensor, logits: Tensor, targets: Tensor): Tensor[] {
  const logP = logSoftmax(referenceLogits);
  const logQ = logSoftmax(logits);
  const difference = sub(logP, logQ);
  return [
    neg(takeAlongLast(logQ, targets)),
    sum(mul(exp(logP), difference), [-1]),
    cast(equal(argmax(referenceLogits), argmax(logits)), 'float32'),
    takeAlongLast(difference, targets),
  ];
}

function scoresOf(totals: Totals, windows: TokenWindows, backend: Backend, isCompared: boolean): Score[] {
  const protocol = { ...windows.protocol, dtype: 'float32', backend: backend.name, standardError: standardErrorRule(windows.count) };
  const make = (evaluator: string, { value, stderr, byWindow }: Estimate, higherIsBetter = false): Score => ({
    evaluator,
    version: VERSION,
    value,
    stderr,
    samples: windows.scoredTokens,
    higherIsBetter,
    ...(byWindow && { byWindow }),
    protocol,
  });
  const perplexity = make('perplexity', exponentiate(totals.estimate(0)));
  if (!isCompared) return [perplexity];
  return [
    perplexity,
    make('kl', totals.estimate(1)),
    make('top1-agreement', totals.estimate(2), true),
    make('loss-gap', totals.estimate(3)),
  ];
}

function checkModel({ config }: Model, windows: TokenWindows): void {
  if (windows.length > config.contextLength) {
    throw new LowbitError(
      'CONTEXT_LENGTH',
      `text evaluator: windows of ${windows.length} tokens exceed the model's context of ${config.contextLength}; use a protocol with shorter windows`,
    );
  }
  const highest = windows.tokens.reduce((a, b) => Math.max(a, b), 0);
  if (highest >= config.vocabularySize) {
    throw new LowbitError(
      'TOKEN_RANGE',
      `text evaluator: token ${highest} is outside the model's vocabulary of ${config.vocabularySize}; encode the text with the model's own tokenizer`,
    );
  }
}

function checkVocabulary(model: Model, reference: Model): void {
  const [own, others] = [model.config.vocabularySize, reference.config.vocabularySize];
  if (own !== others) {
    throw new LowbitError(
      'VOCABULARY',
      `text evaluator: the model predicts ${own} tokens and the reference ${others}; KL needs one vocabulary`,
    );
  }
}

/** Forward evaluations that a pass takes. */
function evaluationsOf(batches: readonly WindowBatch[], model: Model, reference: Model | undefined): number {
  const forward = (of: Model): number => batches.length * (1 + of.blocks.length);
  return forward(model) + (reference && reference !== model ? forward(reference) : 0);
}
