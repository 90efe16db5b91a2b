// The Linears of one block: statistics of each group's inputs, the method's rounding, and how good it came out.
import {
  type Block,
  gram,
  type Linear,
  LowbitError,
  type Model,
  materialize,
  quantizablePart,
  type Statistic,
  type Tensor,
  throwIfAborted,
} from '@lowbit/core';
import type { Stream } from './activations.js';
import { relativeOutputErrors } from './output-error.js';
import { type PlannedStep, statisticsOf } from './plan.js';
import { evaluateTree, resolveTree } from './resolve.js';
import { inStage, methodContext, type Run } from './run.js';
import { foldStatistics, foldsStatistics, type GroupStatistics, type StatisticsByPath } from './statistics.js';
import type { WalkProgress } from './walk-progress.js';

/** A block that the step works on, with what its methods may read. */
export interface BlockWork {
  readonly run: Run;
  readonly planned: PlannedStep;
  /** The whole model as the walk was given it. */
  readonly model: Model;
  /** The block as the step was given it, in memory but for Linears that wait for their turn. */
  readonly original: Block;
  /** Inputs of the block in the stream that is propagated; empty when the step reads no activations. */
  readonly inputs: Stream;
  /** The block in full precision, in the same basis; undefined when a quantized model was transformed. */
  readonly dense: Block | undefined;
  /** What each targeted Linear folds, by path. */
  readonly statistics: StatisticsByPath;
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

/** A block whose Linears have been quantized. */
export interface QuantizedBlock {
  readonly block: Block;
  /** Linears that too few tokens reached: rounded to nearest, and to be left at that. */
  readonly starved: ReadonlySet<string>;
}

/** The block with its targeted Linears quantized, group by group in the order of computation. */
export async function quantizeLinears(work: BlockWork): Promise<QuantizedBlock> {
  const { run, planned, inputs, progress } = work;
  const starved = new Set<string>();
  let block = work.original;
  for (const group of block.groups) {
    const names = group.linears.filter((name) => planned.options.has(`${block.path}.${name}`));
    const onBatch = (): void => progress.advance(`${block.path} ${group.name}`);
    const folded = foldsStatistics(work.statistics, block, group)
      ? await foldStatistics(run, work.statistics, block, group, inputs, onBatch)
      : undefined;
    for (const name of names) {
      throwIfAborted(run.signal);
      const { linear, isStarved } = await quantizeOne(work, block, name, folded);
      if (isStarved) starved.add(name);
      block = block.with({ linears: { [name]: linear } });
      progress.advance(`${block.path}.${name}`);
    }
  }
  return { block, starved };
}

async function quantizeOne(
  work: BlockWork,
  block: Block,
  name: string,
  folded: GroupStatistics | undefined,
): Promise<Pick<Judgement, 'linear' | 'isStarved'>> {
  const { run, planned, model, statistics, progress } = work;
  const { method } = planned.step;
  const path = `${block.path}.${name}`;
  const whole = await materialize(block.linears[name]);
  // A wrapper names its inner layer and the inputs that one reads; methods see nothing of the wrapper.
  const part = quantizablePart(whole);
  const original = part.linear;
  const reference = once(async () => (work.dense === work.original ? original : referenceLinear(work, block, name)));
  const wanted = Object.entries(statistics.get(path) ?? {});
  const stats: Record<string, Tensor> = {};
  if (folded) for (const [key, statistic] of wanted) stats[key] = await folded.of(name, statistic);
  const started = performance.now();
  const shared = await methodContext(run, planned, 'quantize', path, planned.options.get(path), progress.within(path, 1));
  const context = {
    ...shared,
    path,
    stats,
    rows: folded?.rows ?? 0,
    reference,
    model,
    optionsFor: (other: string) => planned.options.get(other),
  };
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
  const tokens = folded && wanted.length > 0 ? folded.tokens(name) : undefined;
  const comparand = async (): Promise<Linear> => (work.dense ? reference() : original);
  const judged = await judge(work, { path, comparand, quantized, gram: folds && stats[folds[0]], tokens });
  const linear = part.replace(judged.linear);
  const bitsPerWeight = linear.storageBits / (whole.inFeatures * whole.outFeatures);
  const { error, nearestError, isStarved } = judged;
  run.emit({ type: 'linear-done', step: planned.index, path, error, nearestError, tokens, bitsPerWeight, milliseconds });
  return { linear, isStarved };
}

/** The Linear, or the part of it that methods see, as it is in the dense block. */
async function referenceLinear({ run, dense }: BlockWork, block: Block, name: string): Promise<Linear> {
  const whole = requireReference(dense, `${block.path}.${name}`).linears[name];
  return resolveTree(run.backend, quantizablePart(whole).linear);
}

/** The block in full precision. @throws REFERENCE_LOST when there is none, naming what asked for it. */
export function requireReference(dense: Block | undefined, path: string): Block {
  if (dense) return dense;
  throw new LowbitError(
    'REFERENCE_LOST',
    `${path}: there is no full-precision weight to compare with, because the model was transformed after it had been quantized; put transforms first`,
  );
}

/** The same promise at every call. */
export function once<T>(make: () => Promise<T>): () => Promise<T> {
  let made: Promise<T> | undefined;
  return () => (made ??= make());
}

/** What a method made of a Linear. */
interface Outcome {
  readonly path: string;
  /** What it is compared with. */
  comparand(): Promise<Linear>;
  readonly quantized: Linear;
  /** Of its inputs; undefined when the step folds none. */
  readonly gram: Tensor | undefined;
  /** That reached it; undefined when the step folds nothing. */
  readonly tokens: number | undefined;
}

/** What becomes of it, and its relative output errors. */
interface Judgement {
  readonly linear: Linear;
  /** Whether too few tokens reached it. */
  readonly isStarved: boolean;
  readonly error: number | undefined;
  readonly nearestError: number | undefined;
}

/**
 * The relative output error, with a warning when quantizing has done more harm than a plain method would. A Linear that too few tokens
 * reached for statistics to mean anything is rounded to nearest instead, in the representation that the method chose.
 * @throws NOT_FINITE when the new weights hold NaN or Infinity.
 */
async function judge({ run, planned }: BlockWork, { path, comparand, quantized, gram, tokens }: Outcome): Promise<Judgement> {
  const { name } = planned.step.method;
  const warn = (code: string, message: string): void => run.emit({ type: 'warning', step: planned.index, path, code, message });
  const isStarved = tokens !== undefined && tokens < run.minTokens;
  if (!gram && !isStarved) return { linear: quantized, isStarved, error: undefined, nearestError: undefined };
  const original = await comparand();
  const nearest = await run.nearest?.(original, quantized, path);
  if (isStarved) {
    const fate = nearest ? 'it is rounded to nearest' : `it stays as ${name} made it, since nobody knows how to round it to nearest`;
    warn('FEW_TOKENS', `${tokens} calibration tokens reach it, fewer than ${run.minTokens}; ${fate}; calibrate on more text`);
  } else if (gram && tokens !== undefined && tokens < gram.shape[0]) {
    const gap = `${tokens} calibration tokens for ${gram.shape[0]} inputs leave their Gram matrix singular`;
    warn('GRAM_SINGULAR', `${gap}, and dampening decides the rest; calibrate on more text`);
  }
  const linear = isStarved && nearest ? await evaluateTree(run.backend, nearest) : quantized;
  if (!gram) return { linear, isStarved, error: undefined, nearestError: undefined };
  const [ofMethod, nearestError] = await relativeOutputErrors(run.backend, original, nearest ? [quantized, nearest] : [quantized], gram);
  if (!Number.isFinite(ofMethod)) {
    throw new LowbitError(
      'NOT_FINITE',
      `${path}: the relative output error of ${name} is ${ofMethod}; the weights, old or new, hold NaN or Infinity`,
    );
  }
  const error = linear === quantized ? ofMethod : nearestError;
  if (error >= 1) warn('ERROR_ABOVE_ONE', `relative output error ${error.toPrecision(3)}: zeros would be no worse`);
  if (nearest && linear === quantized && error >= nearestError && error > 0) {
    warn(
      'NOT_BELOW_NEAREST',
      `relative output error ${error.toPrecision(3)} is not below round-to-nearest's ${nearestError.toPrecision(3)}`,
    );
  }
  return { linear, isStarved, error, nearestError };
}
