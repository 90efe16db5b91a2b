// The Linears of one block: statistics of each group's inputs, the method's rounding, and how good it came out.
import {
  type Block,
  gram,
  type Linear,
  type LinearGroup,
  LowbitError,
  type Model,
  type QuantizablePart,
  type Statistic,
  type Tensor,
  throwIfAborted,
} from '@lowbit/core';
import { relativeOutputErrors } from './output-error.js';
import { type PlannedStep, statisticsOf } from './plan.js';
import { evaluateTree, resolveTree } from './resolve.js';
import { inStage, methodContext, type Run } from './run.js';
import { type FoldedStatistics, foldStatistics } from './statistics.js';
import type { WalkProgress } from './walk-progress.js';

/** A block that the step works on, with what its methods may read. */
export interface BlockWork {
  readonly run: Run;
  readonly planned: PlannedStep;
  /** The whole model as the walk was given it. */
  readonly model: Model;
  /** Inputs of the block in the stream that is propagated; empty when the step reads no activations. */
  readonly inputs: readonly Tensor[];
  /** The block in full precision, in the same basis; undefined when a quantized model was transformed. */
  readonly dense: Block | undefined;
  /** What each targeted Linear folds, by path. */
  readonly statistics: ReadonlyMap<string, Readonly<Record<string, Statistic>>>;
  readonly progress: WalkProgress;
}

/** What each targeted Linear folds; Linears that fold nothing are left out. One call of the method's function for each set of options. */
export function statisticsByPath(planned: PlannedStep): Map<string, Readonly<Record<string, Statistic>>> {
  if (!planned.step.method.quantizeLinear) return new Map();
  const byOptions = new Map<unknown, Readonly<Record<string, Statistic>>>();
  const byPath = new Map<string, Readonly<Record<string, Statistic>>>();
  for (const [path, options] of planned.options) {
    const known = byOptions.get(options) ?? statisticsOf(planned, options);
    byOptions.set(options, known);
    if (Object.keys(known).length > 0) byPath.set(path, known);
  }
  return byPath;
}

/** The block with its targeted Linears quantized, group by group in the order of computation. */
export async function quantizeLinears(work: BlockWork, original: Block): Promise<Block> {
  const { run, planned, inputs, progress } = work;
  let block = original;
  for (const group of block.groups) {
    const names = group.linears.filter((name) => planned.options.has(`${block.path}.${name}`));
    const wanted = groupStatistics(work.statistics, block, group);
    const onBatch = (): void => progress.advance(`${block.path} ${group.name}`);
    const folded = wanted.size > 0 ? await foldStatistics(run, block, group, [...wanted], inputs, onBatch) : undefined;
    const restricted = restrictions(run, group, folded);
    for (const name of names) {
      throwIfAborted(run.signal);
      block = block.with({ linears: { [name]: await quantizeOne(work, block, name, folded?.rows ?? 0, restricted) } });
      progress.advance(`${block.path}.${name}`);
    }
  }
  return block;
}

/** Everything that the group's targeted Linears fold, each statistic once. */
export function groupStatistics(byPath: BlockWork['statistics'], block: Block, group: LinearGroup): Set<Statistic> {
  return new Set(group.linears.flatMap((name) => Object.values(byPath.get(`${block.path}.${name}`) ?? {})));
}

async function quantizeOne(work: BlockWork, block: Block, name: string, rows: number, restricted: Restrictions): Promise<Linear> {
  const { run, planned, model, statistics, progress } = work;
  const { method } = planned.step;
  const path = `${block.path}.${name}`;
  const whole = block.linears[name];
  // A wrapper names its inner layer and the inputs that one reads; methods see nothing of the wrapper.
  const part = whole.quantizable ?? { linear: whole, start: 0, end: whole.inFeatures, replace: (linear: Linear) => linear };
  const original = part.linear;
  const reference = once(() => referenceLinear(work, block, name));
  const wanted = Object.entries(statistics.get(path) ?? {});
  const stats: Record<string, Tensor> = {};
  for (const [key, statistic] of wanted) stats[key] = await restricted(statistic, part, whole.inFeatures);
  const started = performance.now();
  const shared = await methodContext(run, planned, 'quantize', path, planned.options.get(path), progress.within(path, 1));
  const context = { ...shared, path, stats, rows, reference, model, optionsFor: (other: string) => planned.options.get(other) };
  const made = await inStage(planned, path, async () => method.quantizeLinear?.(original, context) ?? original);
  const quantized = await evaluateTree(run.backend, made);
  const milliseconds = performance.now() - started;
  if (quantized.inFeatures !== original.inFeatures || quantized.outFeatures !== original.outFeatures) {
    const shape = ({ outFeatures, inFeatures }: Linear): string => `[${outFeatures}, ${inFeatures}]`;
    throw new LowbitError(
      'METHOD_SHAPE',
      `${path}: ${method.name} made ${shape(quantized)} of ${shape(original)}; a Linear keeps its shape`,
    );
  }
  const folds = wanted.find(([, statistic]) => statistic === gram);
  const error = folds && (await judge(work, path, work.dense ? await reference() : original, quantized, stats[folds[0]]));
  const linear = part.replace(quantized);
  const bitsPerWeight = linear.storageBits / (whole.inFeatures * whole.outFeatures);
  run.emit({ type: 'linear-done', step: planned.index, path, error, bitsPerWeight, milliseconds });
  return linear;
}

/** The Linear, or the part of it that methods see, as it is in the dense block. */
async function referenceLinear({ run, dense }: BlockWork, block: Block, name: string): Promise<Linear> {
  if (!dense) {
    throw new LowbitError(
      'REFERENCE_LOST',
      `${block.path}.${name}: there is no full-precision weight to compare with, because the model was transformed after it had been quantized; put transforms first`,
    );
  }
  const whole = dense.linears[name];
  return resolveTree(run.backend, whole.quantizable?.linear ?? whole);
}

function once<T>(make: () => Promise<T>): () => Promise<T> {
  let made: Promise<T> | undefined;
  return () => (made ??= make());
}

/** A group's statistic for the inputs that a Linear's part reads, one leaf for all that read the same: methods share work by it. */
type Restrictions = (statistic: Statistic, part: QuantizablePart, inFeatures: number) => Promise<Tensor>;

function restrictions(run: Run, group: LinearGroup, folded: FoldedStatistics | undefined): Restrictions {
  const known = new Map<Statistic, Map<string, Tensor>>();
  return async (statistic, { start, end }, inFeatures) => {
    const whole = valueOf(folded, statistic, group);
    if (start === 0 && end === inFeatures) return whole;
    const ofStatistic = known.get(statistic) ?? new Map<string, Tensor>();
    known.set(statistic, ofStatistic);
    const key = `${start}:${end}`;
    const found = ofStatistic.get(key);
    if (found) return found;
    const [made] = await run.backend.evaluate([statistic.restrict(whole, start, end)]);
    ofStatistic.set(key, made);
    return made;
  };
}

function valueOf(folded: FoldedStatistics | undefined, statistic: Statistic, group: LinearGroup): Tensor {
  const value = folded?.values.get(statistic);
  if (!value) throw new LowbitError('INTERNAL', `statistic '${statistic.name}' of group '${group.name}' was not folded`);
  return value;
}

/**
 * The relative output error, with a warning when quantizing has done more harm than a plain method would.
 * @throws NOT_FINITE when the activations or the new weights hold NaN or Infinity.
 */
async function judge({ run, planned }: BlockWork, path: string, original: Linear, quantized: Linear, gramMatrix: Tensor): Promise<number> {
  const { name } = planned.step.method;
  const nearest = await run.nearest?.(original, quantized, path);
  const candidates = nearest ? [quantized, nearest] : [quantized];
  const [error, baseline] = await relativeOutputErrors(run.backend, original, candidates, gramMatrix);
  if (!Number.isFinite(error)) {
    throw new LowbitError(
      'NOT_FINITE',
      `${path}: the relative output error of ${name} is ${error}; the calibration activations or the new weights hold NaN or Infinity`,
    );
  }
  const warn = (code: string, message: string): void => run.emit({ type: 'warning', step: planned.index, path, code, message });
  if (error >= 1) warn('ERROR_ABOVE_ONE', `relative output error ${error.toPrecision(3)}: zeros would be no worse`);
  if (nearest && error >= baseline && error > 0) {
    warn('NOT_BELOW_NEAREST', `relative output error ${error.toPrecision(3)} is not below round-to-nearest's ${baseline.toPrecision(3)}`);
  }
  return error;
}
