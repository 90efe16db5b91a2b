// What EMEF trains on and judges by: windows of the calibration, or a task.
import type { Backend, FinetuneContext, Model, Tensor } from '@lowbit/core';
import {
  type Indexed,
  nextTokenLoss,
  readWindows,
  type StagedLoss,
  stagedTaskLoss,
  type TaskBatch,
  taskTraining,
  trainingBatches,
  type WindowBatch,
  windowLoss,
} from '@lowbit/train';
import type { EmefOptions } from './options.js';

/** Batches with the loss over them. */
export interface Material<Batch> {
  readonly batches: Indexed<Batch>;
  readonly judged: Indexed<Batch>;
  readonly tokensPerStep: number;
  /** The loss of a model or, in training steps, of what `modelAt` gives in its place. */
  lossOf(backend: Backend, model: Model, modelAt?: (tokens: Tensor, step: number, part: number) => Model): StagedLoss<Batch>;
  /** What the log says about the data. */
  readonly record: Readonly<Record<string, unknown>>;
}

/** Every next token of the calibration's windows; a share of them is held out. */
export async function windowMaterial({ calibration, options, rng }: FinetuneContext<EmefOptions>): Promise<Material<WindowBatch>> {
  const windows = await readWindows(calibration);
  const { batches, judged, heldOut } = trainingBatches(windows, options, rng);
  const { windowsAtOnce } = options;
  return {
    batches,
    judged,
    tokensPerStep: batches.size * windows.length,
    lossOf: (backend, model, modelAt) => windowLoss({ backend, model, windowsAtOnce, lossOf: nextTokenLoss, modelAt }),
    record: { windows: windows.count, heldOutWindows: heldOut },
  };
}

/** What a task predicts; an example is a window. */
export function taskMaterial(
  task: NonNullable<FinetuneContext<EmefOptions>['task']>,
  { options, rng }: FinetuneContext<EmefOptions>,
): Material<TaskBatch> {
  const { train, dev } = taskTraining(task, options.batchWindows, options.shuffle ? rng.at('windows') : undefined);
  const { windowsAtOnce: examplesAtOnce } = options;
  return {
    batches: train,
    judged: dev,
    tokensPerStep: train.size * task.train.length,
    lossOf: (backend, model, modelAt) => stagedTaskLoss({ backend, model, examplesAtOnce, modelAt }),
    record: { task: task.description, examples: task.train.count, devExamples: task.dev.count },
  };
}
