// Examples of a task in batches of one shape.
import { type FinetuneTask, LowbitError, type Rng, read, type TaskExamples, type Tensor, type TokenBatches, tensor } from '@lowbit/core';
import type { Indexed } from './loss.js';
import { splitWindows } from './split-windows.js';
import { readWindows, type Windows } from './windows.js';

/** Examples to compute on at once. All batches of a task that have equally many share programs. */
export interface TaskBatch {
  /** int32 [examples, tokens] */
  readonly tokens: Tensor;
  /** Where something is predicted, counted through all examples; filled up to the same number for all batches of a task. */
  readonly positions: Int32Array;
  /** [positions]: what each predicts, an index into the candidates, or a token where there are none. */
  readonly targets: Int32Array;
  /** [positions]: 0 for what fills up. The mean over all batches of Σ weights · values is the mean over all that is predicted. */
  readonly weights: Float32Array;
  /** int32 [candidates] */
  readonly candidates: Tensor | undefined;
}

/**
 * The examples at `indices` of one part of a task, `size` at a time. The last batch is filled up with examples of weight 0.
 * @throws TASK_EMPTY when nothing is to be predicted.
 */
export function taskBatches(task: FinetuneTask, part: 'train' | 'dev', indices: readonly number[], size: number): Indexed<TaskBatch> {
  const { count, length, tokens, weights } = task[part];
  const most = Math.max(mostPredicted(task.train), mostPredicted(task.dev));
  const predicted = indices.map((index) => predictionsOf(weights.subarray(index * length, (index + 1) * length)));
  const total = indices.reduce((sum, index, i) => predicted[i].reduce((a, t) => a + weights[index * length + t], sum), 0);
  if (total === 0) {
    throw new LowbitError(
      'TASK_EMPTY',
      `${task.description}: nothing is to be predicted in ${indices.length} of ${count} ${part} examples`,
    );
  }
  const batches = Math.ceil(indices.length / size);
  const labels = task.candidates && new Map(Array.from(task.candidates, (token, i) => [token, i]));
  const candidates = task.candidates && tensor(task.candidates, [task.candidates.length]);
  return {
    length: batches,
    at(batch) {
      const own = indices.slice(batch * size, (batch + 1) * size);
      const rows = new Int32Array(size * length);
      const positions = new Int32Array(size * most);
      const targets = new Int32Array(size * most);
      const weighted = new Float32Array(size * most);
      for (let row = 0; row < size; row++) {
        const index = own[row % own.length];
        const example = tokens.subarray(index * length, (index + 1) * length);
        rows.set(example, row * length);
        for (const [i, t] of predicted[batch * size + (row % own.length)].entries()) {
          const at = row * most + i;
          positions[at] = row * length + t;
          targets[at] = labels ? labelOf(labels, example[t + 1], task) : example[t + 1];
          weighted[at] = row < own.length ? (weights[index * length + t] * batches) / total : 0;
        }
      }
      return { tokens: tensor(rows, [size, length]), positions, targets, weights: weighted, candidates };
    },
  };
}

/** A batch in parts of so many examples, whose weighted sums add up to that of the batch. */
export async function taskParts(batch: TaskBatch, size: number): Promise<TaskBatch[]> {
  const [examples, length] = batch.tokens.shape;
  if (size >= examples) return [batch];
  const ids = (await read(batch.tokens)) as Int32Array;
  const perExample = batch.positions.length / examples;
  return Array.from({ length: Math.ceil(examples / size) }, (_, i) => {
    const [first, end] = [i * size, Math.min((i + 1) * size, examples)];
    const of = <T extends Int32Array | Float32Array>(values: T): T => values.slice(first * perExample, end * perExample) as T;
    return {
      tokens: tensor(ids.slice(first * length, end * length), [end - first, length]),
      // What fills up points before its part's first row.
      positions: of(batch.positions).map((position) => Math.max(0, position - first * length)),
      targets: of(batch.targets),
      weights: of(batch.weights),
      candidates: batch.candidates,
    };
  });
}

function labelOf(labels: ReadonlyMap<number, number>, token: number, { description }: FinetuneTask): number {
  const label = labels.get(token);
  if (label !== undefined) return label;
  throw new LowbitError('TASK_LABEL', `${description}: token ${token} is to be predicted and is no candidate; weigh label words alone`);
}

/** Positions with a weight. */
function predictionsOf(weights: Float32Array): number[] {
  return Array.from(weights.keys()).filter((t) => weights[t] !== 0);
}

function mostPredicted({ count, length, weights }: TaskExamples): number {
  let most = 0;
  for (let i = 0; i < count; i++) {
    most = Math.max(
      most,
      weights.subarray(i * length, (i + 1) * length).reduce((sum, w) => sum + (w === 0 ? 0 : 1), 0),
    );
  }
  return most;
}

/** Both parts of a task for a training: its examples in a drawn order where there is an `rng`. Batches are no larger than the training part. */
export function taskTraining(
  task: FinetuneTask,
  size: number,
  rng?: Rng,
): { readonly train: Indexed<TaskBatch> & { readonly size: number }; readonly dev: Indexed<TaskBatch> } {
  const all = (count: number): number[] => Array.from({ length: count }, (_, i) => i);
  const order = rng ? Array.from(rng.permutation(task.train.count)) : all(task.train.count);
  const fitting = Math.min(size, task.train.count);
  return {
    train: { ...taskBatches(task, 'train', order, fitting), size: fitting },
    dev: taskBatches(task, 'dev', all(task.dev.count), fitting),
  };
}

/** Calibration windows as a task, every next token of weight 1; a share of the windows, drawn by `rng`, is the dev part, or all with 0. */
export async function calibrationTask(calibration: TokenBatches, holdOut: number, rng: Rng): Promise<FinetuneTask> {
  const windows = await readWindows(calibration);
  const { trained, heldOut } = splitWindows(windows.count, holdOut, rng);
  const { description, hash } = calibration;
  const dev = heldOut.length > 0 ? heldOut : trained;
  return { description, hash, train: pick(windows, trained), dev: pick(windows, dev), protocol: { holdOut } };
}

function pick({ tokens, length }: Windows, indices: readonly number[]): TaskExamples {
  const rows = new Int32Array(indices.length * length);
  for (const [row, index] of indices.entries()) rows.set(tokens.subarray(index * length, (index + 1) * length), row * length);
  const weights = Float32Array.from(rows, (_, i) => (i % length === length - 1 ? 0 : 1));
  return { count: indices.length, length, tokens: rows, weights };
}
