// How well a model does a task: accuracy and loss on the examples of its dev part.
import {
  argmax,
  cast,
  crossEntropy,
  type Evaluator,
  equal,
  type FinetuneTask,
  gather,
  LowbitError,
  type Model,
  materialize,
  readFloats,
  reshape,
  type Score,
  type TaskExamples,
  type Tensor,
  tensor,
  throwIfAborted,
} from '@lowbit/core';
import { ACTIVATION_BYTES, batchesOfWindows, finalStates, partsOf, type Run, type WindowBatch } from './hidden-states.js';
import { meanPerToken } from './ratio.js';

const VERSION = 1;

export interface TaskEvaluatorOptions {
  /** Tokens evaluated at once; 2048 by default. */
  readonly batchTokens?: number;
}

/**
 * Scores on the dev part: 'task-accuracy', the share of predictions whose logit is the largest, and 'task-loss', their mean cross-entropy in
 * nats; both over the label words where the task has some, over the vocabulary otherwise. Standard errors are between examples.
 */
export function taskEvaluator(task: FinetuneTask, { batchTokens = 2048 }: TaskEvaluatorOptions = {}): Evaluator {
  const { dev, candidates } = task;
  const size = Math.min(dev.count, Math.max(1, Math.floor(batchTokens / dev.length)));
  const batches = batchesOfWindows(dev, size);
  const predictions = predictionsOf(dev, batches, candidates);
  const candidateLeaf = candidates && tensor(candidates, [candidates.length]);
  return {
    name: 'task',
    version: VERSION,
    async evaluate(model, { backend, signal, progress }) {
      checkModel(model, task);
      const total = batches.length * (2 + model.blocks.length);
      let done = 0;
      const run: Run = { backend, signal, tick: () => progress?.(++done, total) };
      const [loss, hits, counts] = [new Float64Array(dev.count), new Float64Array(dev.count), new Float64Array(dev.count)];
      const squares = { loss: 0, hits: 0 };
      let batch = 0;
      for (const part of partsOf(batches, model.width, 1, ACTIVATION_BYTES)) {
        const states = await finalStates(model, part, run);
        const [norm, head] = [await materialize(model.norm), await materialize(model.head)];
        for (const state of states) {
          throwIfAborted(signal);
          const { at, targets, examples, weights } = predictions[batch++];
          const logits = head.forward(norm.forward(gather(rowsOf(state), at)));
          const among = candidateLeaf ? gather(logits, candidateLeaf, 1) : logits;
          const [errors, right] = await Promise.all(
            (await backend.evaluate([crossEntropy(among, targets), cast(equal(argmax(among), targets), 'float32')])).map(readFloats),
          );
          for (const [i, example] of examples.entries()) {
            loss[example] += weights[i] * errors[i];
            hits[example] += weights[i] * right[i];
            counts[example] += weights[i];
            squares.loss += weights[i] * errors[i] ** 2;
            squares.hits += weights[i] * right[i] ** 2;
          }
          run.tick();
        }
      }
      const broken = loss.findIndex((value) => !Number.isFinite(value));
      if (broken >= 0) {
        throw new LowbitError(
          'SCORE_NAN',
          `task evaluator: the loss of example ${broken} is not finite; the model's weights or activations overflow`,
        );
      }
      const measured = {
        dtype: 'float32',
        backend: backend.name,
        standardError: dev.count > 1 ? 'between examples' : 'between tokens of the one example',
      };
      const protocol = {
        task: task.description,
        part: 'dev',
        predicts: candidates ? 'label words' : 'tokens',
        ...task.protocol,
        ...measured,
      };
      const scoreOf = (evaluator: string, sums: Float64Array, squared: number, higherIsBetter: boolean): Score => {
        const { value, stderr } = meanPerToken({ sums, squares: squared }, counts);
        return { evaluator, version: VERSION, value, stderr, samples: dev.count, higherIsBetter, protocol };
      };
      return [scoreOf('task-accuracy', hits, squares.hits, true), scoreOf('task-loss', loss, squares.loss, false)];
    },
  };
}

/** [batch, tokens, width] → [batch · tokens, width] */
function rowsOf(state: Tensor): Tensor {
  const width = state.shape[2];
  return reshape(state, [state.size / width, width]);
}

/** What is predicted in a batch, filled up to one number for all of them. */
interface Predictions {
  /** int32 [rows]: of the flattened states. */
  readonly at: Tensor;
  /** int32 [rows] */
  readonly targets: Tensor;
  /** Of each row, without the filling. */
  readonly examples: readonly number[];
  readonly weights: readonly number[];
}

/** Fills a batch without predictions. */
const NOTHING = { example: 0, weight: 0, at: 0, target: 0 };

function predictionsOf(
  { length, tokens, weights }: TaskExamples,
  batches: readonly WindowBatch[],
  candidates: Int32Array | undefined,
): Predictions[] {
  const found = batches.map((batch) =>
    batch.windows.flatMap((example, row) => {
      const own = example < 0 ? [] : Array.from({ length: length - 1 }, (_, t) => t).filter((t) => weights[example * length + t] !== 0);
      return own.map((t) => {
        const target = tokens[example * length + t + 1];
        return {
          example,
          weight: weights[example * length + t],
          at: row * length + t,
          target: candidates ? candidates.indexOf(target) : target,
        };
      });
    }),
  );
  const most = found.reduce((largest, rows) => Math.max(largest, rows.length), 0);
  return found.map((rows) => {
    const filled = (pick: (row: (typeof rows)[number]) => number): Tensor =>
      tensor(Int32Array.from({ length: most }, (_, i) => pick(rows[Math.min(i, rows.length - 1)] ?? NOTHING)));
    return {
      at: filled(({ at }) => at),
      targets: filled(({ target }) => target),
      examples: rows.map(({ example }) => example),
      weights: rows.map(({ weight }) => weight),
    };
  });
}

function checkModel({ config }: Model, { description, dev }: FinetuneTask): void {
  if (dev.length > config.contextLength) {
    const context = `the model's context of ${config.contextLength}`;
    throw new LowbitError(
      'CONTEXT_LENGTH',
      `${description}: examples of ${dev.length} tokens exceed ${context}; build it with shorter ones`,
    );
  }
  const highest = dev.tokens.reduce((a, b) => Math.max(a, b), 0);
  if (highest >= config.vocabularySize) {
    const vocabulary = `the model's vocabulary of ${config.vocabularySize}`;
    throw new LowbitError(
      'TOKEN_RANGE',
      `${description}: token ${highest} is outside ${vocabulary}; build it with the model's own tokenizer`,
    );
  }
}
