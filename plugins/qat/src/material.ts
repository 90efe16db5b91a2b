// What training minimises and on what: windows of the calibration, or a task.
import { type Block, type FinetuneContext, type FinetuneTask, LowbitError, type Model, materialize, read, tensorsOf } from '@lowbit/core';
import {
  distillationLoss,
  type Indexed,
  nextTokenLoss,
  type PositionsLoss,
  readWindows,
  type StagedLoss,
  stagedTaskLoss,
  type TaskBatch,
  taskTraining,
  teacherConfidence,
  trainingBatches,
  type WindowBatch,
  windowLoss,
} from '@lowbit/train';
import type { QatOptions } from './options.js';

/** Batches with the loss over them. */
export interface Material<Batch> {
  readonly batches: Indexed<Batch>;
  readonly judged: Indexed<Batch>;
  readonly tokensPerStep: number;
  lossOf(model: Model): StagedLoss<Batch>;
  /** What the log says about the data. */
  readonly record: Readonly<Record<string, unknown>>;
}

type Context = FinetuneContext<QatOptions>;

/** Windows of the calibration, a share of them held out. @throws CALIBRATION_EMPTY when there are none. */
export async function windowMaterial(model: Model, context: Context): Promise<Material<WindowBatch>> {
  const { calibration, options, rng, backend } = context;
  if (calibration.length === 0) {
    throw new LowbitError('CALIBRATION_EMPTY', 'qat: trains on text and got none; pass calibration data');
  }
  const windows = await readWindows(calibration);
  const { batches, judged, heldOut } = trainingBatches(windows, options, rng);
  warnOfNoneHeldOut(heldOut, context);
  const lossOf = await windowLossOf(model, batches, context);
  const { windowsAtOnce } = options;
  return {
    batches,
    judged,
    tokensPerStep: batches.size * windows.length,
    lossOf: (trained) => windowLoss({ backend, model: trained, windowsAtOnce, lossOf }),
    record: { windows: windows.count, heldOutWindows: heldOut },
  };
}

/** One window cannot be divided. @param where a prefix of the message: which block. */
export function warnOfNoneHeldOut(
  heldOut: number,
  { options, warn }: { readonly options: { readonly holdOut: number }; warn(code: string, message: string): void },
  where = '',
): void {
  if (heldOut > 0 || options.holdOut === 0) return;
  const reason = 'one window leaves none to hold out, and is trained on and judged on';
  warn('QAT_NOT_HELD_OUT', `${where}${reason}; give more text, or set holdOut to 0 if that is meant`);
}

async function windowLossOf(
  model: Model,
  batches: Indexed<WindowBatch>,
  context: Context,
): Promise<(part: WindowBatch) => Promise<PositionsLoss>> {
  const { backend, options, signal } = context;
  const { objective: distance, lambdaCe } = options;
  if (distance === 'ce') return nextTokenLoss;
  const teacher = await teacherOf(model, context);
  const beta = distance === 'cakld' ? await teacherConfidence(backend, teacher, batches, signal) : undefined;
  return distillationLoss({ backend, teacher, distance, lambdaCe, beta });
}

/** The model before the recipe; where hidden states are compared, the full-precision model in the basis of the trained one. */
function teacherOf(model: Model, { options, reference, referenceBlock }: Context): Promise<Model> {
  return options.objective === 'hidden' ? hiddenTeacher(model, reference, referenceBlock) : materialize(reference);
}

/**
 * The full-precision model with the residual stream of a model, both in memory. Its last norm is that of the reference where nothing has
 * changed the basis: a step before may have trained it. In another basis it is the model's, whatever has been trained of it.
 */
export async function hiddenTeacher(model: Model, reference: Model, referenceBlock: (index: number) => Promise<Block>): Promise<Model> {
  const blocks: Block[] = [];
  for (const index of model.blocks.keys()) blocks.push(await referenceBlock(index));
  const isSame = (await isEqual(model.embedding, reference.embedding)) && (await isEqual(model.head, reference.head));
  return model.with({ blocks, ...(isSame && { norm: await materialize(reference.norm) }) });
}

type Tree = Parameters<typeof tensorsOf>[0];

/** Whether two trees have the same elements. */
async function isEqual(one: Tree, other: Tree): Promise<boolean> {
  const [own, others] = [tensorsOf(one), tensorsOf(other)];
  for (const [name, t] of own) {
    const found = others.get(name);
    if (found === t) continue;
    if (found === undefined || found.size !== t.size) return false;
    const [a, b] = [await read(t), await read(found)];
    if (!a.every((x, i) => x === b[i])) return false;
  }
  return own.size === others.size;
}

/** What a task predicts; an example is a window. */
export function taskMaterial(task: FinetuneTask, { backend, options, rng }: Context): Material<TaskBatch> {
  const { train, dev } = taskTraining(task, options.batchWindows, options.shuffle ? rng.at('windows') : undefined);
  const { windowsAtOnce: examplesAtOnce } = options;
  return {
    batches: train,
    judged: dev,
    tokensPerStep: train.size * task.train.length,
    lossOf: (model) => stagedTaskLoss({ backend, model, examplesAtOnce }),
    record: { task: task.description, examples: task.train.count, devExamples: task.dev.count },
  };
}
