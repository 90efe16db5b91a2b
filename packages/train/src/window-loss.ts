// The loss of a model on batches of windows or of examples of a task, some of them at a time.
import { add, type Backend, crossEntropy, type Model, mul, read, sum, type Tensor, tensor } from '@lowbit/core';
import type { StagedLoss } from './loss.js';
import { modelGradients, modelLoss, type PositionsLoss } from './model-gradients.js';
import type { NamedTensors } from './optimizer.js';
import { portionsOf } from './portions.js';
import { type TaskBatch, taskParts } from './task-batches.js';
import { taskLoss } from './task-loss.js';
import type { WindowBatch } from './windows.js';
import { withParameters } from './with-parameters.js';

/** What a model computes on at once: some positions of it have a loss, or all. */
interface ModelBatch {
  /** int32 [rows, tokens] */
  readonly tokens: Tensor;
  readonly positions?: Int32Array | undefined;
  /** 0 for what fills up. */
  readonly weights: readonly number[] | Float32Array;
}

interface SharedRequest {
  readonly backend: Backend;
  /** In memory. */
  readonly model: Model;
  /** In place of the model, what a training step computes for a part of its batch: a model that drops inputs, for example. */
  modelAt?: ((tokens: Tensor, step: number, part: number) => Model) | undefined;
}

export interface WindowLossRequest extends SharedRequest {
  /** Loss of some windows, which counts each by its weight: those of the parts of a batch add up to the batch's. */
  lossOf(part: WindowBatch): Promise<PositionsLoss>;
  /** Windows of a batch that are computed together, the others after them. Default: all. */
  readonly windowsAtOnce?: number | undefined;
}

/** A model's loss and its gradients, each part of a batch one block at a time. */
export function windowLoss({ lossOf, windowsAtOnce = Infinity, ...shared }: WindowLossRequest): StagedLoss<WindowBatch> {
  return lossInParts({ ...shared, lossOf, partsOf: (batch) => partsOf(batch, windowsAtOnce) });
}

/** The same for a task: `examplesAtOnce` of a batch are computed together, the others after them. Default: all. */
export function stagedTaskLoss({
  examplesAtOnce = Infinity,
  ...shared
}: SharedRequest & { readonly examplesAtOnce?: number | undefined }): StagedLoss<TaskBatch> {
  return lossInParts({ ...shared, lossOf: taskLoss, partsOf: (batch) => taskParts(batch, examplesAtOnce) });
}

interface PartsRequest<Batch> extends SharedRequest {
  lossOf(part: Batch): Promise<PositionsLoss> | PositionsLoss;
  /** Their losses add up to that of the batch. */
  partsOf(batch: Batch): Promise<readonly Batch[]>;
}

function lossInParts<Batch extends ModelBatch>({
  backend,
  model,
  lossOf,
  partsOf,
  modelAt = () => model,
}: PartsRequest<Batch>): StagedLoss<Batch> {
  return {
    async value(parameters, batch) {
      const whole = withParameters(model, parameters);
      let total = 0;
      for (const part of weighedParts(await partsOf(batch))) {
        const { tokens, positions } = part;
        total += (await modelLoss({ backend, model: whole, tokens, positions, lossOf: await lossOf(part) })).loss;
      }
      return total;
    },
    async gradients(parameters, batch, step) {
      let total = 0;
      const sums = new Map<string, Tensor>();
      for (const [i, part] of weighedParts(await partsOf(batch)).entries()) {
        const { tokens, positions } = part;
        const own = modelAt(tokens, step, i);
        const found = await modelGradients({ backend, model: own, tokens, positions, parameters, lossOf: await lossOf(part) });
        total += found.loss;
        await addTo(backend, sums, found.gradients);
      }
      return { loss: total, gradients: sums };
    },
  };
}

/** The parts up to the last one that has a weight: those after it fill up the batch, and have neither a loss nor gradients. One at least. */
function weighedParts<Batch extends ModelBatch>(parts: readonly Batch[]): readonly Batch[] {
  return parts.slice(0, Math.max(1, parts.findLastIndex(({ weights }) => weights.some((weight) => weight !== 0)) + 1));
}

/** A batch in parts of so many windows. */
async function partsOf({ tokens, weights }: WindowBatch, size: number): Promise<WindowBatch[]> {
  const [windows, length] = tokens.shape;
  if (size >= windows) return [{ tokens, weights }];
  const ids = (await read(tokens)) as Int32Array;
  return Array.from({ length: Math.ceil(windows / size) }, (_, i) => {
    const own = weights.slice(i * size, (i + 1) * size);
    return { tokens: tensor(ids.slice(i * size * length, (i * size + own.length) * length), [own.length, length]), weights: own };
  });
}

/** Adds gradients to the sums of those before them, some at a time. */
async function addTo(backend: Backend, sums: Map<string, Tensor>, gradients: NamedTensors): Promise<void> {
  if (sums.size === 0) {
    for (const [name, gradient] of gradients) sums.set(name, gradient);
    return;
  }
  for (const names of portionsOf(gradients)) {
    const pairs = names.map((name) => [sums.get(name) as Tensor, gradients.get(name) as Tensor] as const);
    const added = await backend.evaluate(
      pairs.map(([sum, gradient]) => add(sum, gradient)),
      { release: pairs.flat() },
    );
    for (const [i, name] of names.entries()) sums.set(name, added[i]);
  }
}

/** Mean cross-entropy of the next token, in nats. */
export async function nextTokenLoss(batch: WindowBatch): Promise<PositionsLoss> {
  const { nextToken, next } = await positionWeights(batch);
  return (model, hidden, start, end) => {
    const errors = crossEntropy(model.logits(hidden), tensor(next.subarray(start, end)));
    return { loss: sum(mul(errors, tensor(nextToken.subarray(start, end)))) };
  };
}

export interface PositionWeights {
  /** [positions]: of a mean over all tokens of the batch. */
  readonly everyToken: Float32Array;
  /** [positions]: of a mean over those tokens that have a next one. */
  readonly nextToken: Float32Array;
  /** [positions]: that next token. */
  readonly next: Int32Array;
}

/** Weights of the positions of a batch, and the next token of each. */
export async function positionWeights({ tokens, weights }: WindowBatch): Promise<PositionWeights> {
  const length = tokens.shape[1];
  const ids = (await read(tokens)) as Int32Array;
  const windowOf = (position: number): number => Math.floor(position / length);
  const isLast = (position: number): boolean => position % length === length - 1;
  return {
    everyToken: Float32Array.from(ids, (_, i) => weights[windowOf(i)] / length),
    nextToken: Float32Array.from(ids, (_, i) => (isLast(i) ? 0 : weights[windowOf(i)] / (length - 1))),
    next: ids.map((_, i) => (isLast(i) ? 0 : ids[i + 1])),
  };
}
