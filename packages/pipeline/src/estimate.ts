// What a recipe takes in operations, memory and disk, from shapes alone: the runner's own walk, and what each method says of its steps.
import type { Cost, LinearShape, Model, Workload } from '@lowbit/core';
import { graphCost, shapesOf, sumCosts, timesCost } from './estimate-graph.js';
import { type EstimateOptions, FLOAT, stream, streamBytes } from './estimate-options.js';
import { walkCost } from './estimate-walk.js';
import { linearShapes, type PlannedStep, planRecipe } from './plan.js';
import { aimsAtTask } from './task.js';

/** One step. */
export interface StepEstimate {
  readonly index: number;
  readonly method: string;
  /** Linears. */
  readonly targets: number;
  /** `bytes`: everything beside the process and the finished blocks. */
  readonly cost: Cost;
  /** Of the engine. */
  readonly evaluations: number;
}

export interface RunEstimate {
  readonly steps: readonly StepEstimate[];
  /** Finished blocks that stay in memory until the checkpoint is written. */
  readonly heldBytes: number;
  /** Of the checkpoint. */
  readonly outputBytes: number;
  /** Of the store at its largest, next to the finished checkpoint; 0 without one. */
  readonly storeBytes: number;
}

/** A code in memory, with its share of scales: a byte, and some. */
const CODE_BYTES = 1.25;

/** Bits of weights that no step says anything about, as checkpoints hold them. */
const DENSE_BITS = 16;

/**
 * Resolves and checks the recipe as a run does, and counts what it takes. A step that changes shapes is counted with those that the model has before.
 * @throws what `checkRecipe` throws.
 */
export function estimateRun(options: EstimateOptions): RunEstimate {
  const { model, recipe, hasStore } = options;
  const planned = planRecipe(recipe, model);
  const shapes = linearShapes(model);
  const steps = planned.map((step): StepEstimate => estimateStep(step, shapes, options));
  const bits = storedBits(planned, shapes);
  const rest = restElements(model);
  const linears = bits.reduce((total, [elements, each]) => total + (elements * each) / 8, 0);
  // In memory codes take a byte, whatever their bits; what stays dense is read from the model's files when it is written.
  const held = bits.reduce((total, [elements, each]) => total + (each < DENSE_BITS ? elements * CODE_BYTES : 0), 0);
  const streams = Math.max(0, ...steps.map(({ index }) => streamBytes(planned[index], options)));
  return {
    steps,
    heldBytes: hasStore ? 0 : held,
    outputBytes: linears + (rest * DENSE_BITS) / 8,
    storeBytes: hasStore ? held + 2 * streams : 0,
  };
}

function estimateStep(planned: PlannedStep, shapes: readonly LinearShape[], options: EstimateOptions): StepEstimate {
  const { index, step } = planned;
  const { method } = step;
  const walk = walkCost(planned, options);
  const own = method.cost?.(workloadOf(planned, shapes, options)) ?? { flops: 0, elements: 0, bytes: 0 };
  const judged = method.finetune ? divergenceCost(options) : undefined;
  const whole = method.finetune ? FLOAT * shapes.reduce((total, shape) => total + sizeOf(shape), restElements(options.model)) : 0;
  const { flops, elements } = sumCosts([walk.cost, own, ...(judged ? [judged] : [])]);
  const bytes = Math.max(walk.cost.bytes + (method.finetune ? 0 : own.bytes), whole + Math.max(own.bytes, judged?.bytes ?? 0));
  return { index, method: method.name, targets: planned.options.size, cost: { flops, elements, bytes }, evaluations: walk.evaluations };
}

/** The whole model's work on the windows of a step, for `method.cost`. */
function workloadOf(planned: PlannedStep, shapes: readonly LinearShape[], options: EstimateOptions): Workload<unknown> {
  const { model, calibration, task } = options;
  const data = (aimsAtTask(planned.step) ? task : undefined) ?? calibration ?? { windows: 0, tokens: 0 };
  const paths = [...planned.options.keys()];
  return {
    options: planned.step.options,
    linears: shapes.flatMap((shape) => (planned.options.has(shape.path) ? [{ ...shape, options: planned.options.get(shape.path) }] : [])),
    blocks: model.blocks.filter(({ path }) => paths.some((one) => one.startsWith(`${path}.`))).length,
    weights: shapes.reduce((total, shape) => total + sizeOf(shape), 0),
    width: model.width,
    vocabularySize: model.config.vocabularySize,
    windows: data.windows,
    tokens: data.tokens,
    forward: data.tokens > 0 ? forwardCost(model, 1, data.tokens) : { flops: 0, elements: 0, bytes: 0 },
  };
}

/** A forward pass of some windows through all blocks. */
function forwardCost(model: Model, windows: number, tokens: number): Cost {
  const x = stream(windows, tokens, model.width);
  const known = new Map<string, Cost>();
  const costs = model.blocks.map((block): Cost => {
    const key = shapesOf(block);
    const found = known.get(key) ?? graphCost([block.forward(x)]);
    known.set(key, found);
    return found;
  });
  return sumCosts(costs);
}

/** Batches that a finetune is judged on by the runner. */
const JUDGED_BATCHES = 4;

/** Logits that exist at one time, of either model. */
const LOGITS = 2 ** 23;

/** The runner's comparison before and after a finetune: three passes, and logits of two models each time. */
function divergenceCost({ model, calibration }: EstimateOptions): Cost | undefined {
  if (!calibration) return undefined;
  const windows = Math.min(calibration.windows, JUDGED_BATCHES * calibration.batch);
  const logits = windows * calibration.tokens * model.config.vocabularySize;
  return sumCosts([
    timesCost(forwardCost(model, calibration.batch, calibration.tokens), (3 * windows) / calibration.batch),
    { flops: 4 * 2 * logits * model.width, elements: 2 * 8 * logits, bytes: 6 * FLOAT * Math.min(LOGITS, logits) },
  ]);
}

function sizeOf({ inFeatures, outFeatures }: LinearShape): number {
  return inFeatures * outFeatures;
}

/** Elements of embedding, head and norms. */
function restElements({ embedding, head, norm, config, width, blocks }: Model): number {
  const ofHead = config.tiedEmbeddings ? 0 : head.inFeatures * head.outFeatures;
  return embedding.size + ofHead + (norm.weight?.size ?? 0) + 2 * blocks.length * width;
}

/** Elements of each Linear and the bits that the last step which says so gives them: `bits` and `groupSize`, as weight quantizers call them. */
function storedBits(planned: readonly PlannedStep[], shapes: readonly LinearShape[]): [number, number][] {
  return shapes.map((shape) => {
    let bits = DENSE_BITS;
    for (const { options } of planned) bits = weightBits(options.get(shape.path), shape) ?? bits;
    return [sizeOf(shape), bits];
  });
}

/** Codes, and for each group a scale in float16 and a zero point or offset. */
function weightBits(options: unknown, { inFeatures }: LinearShape): number | undefined {
  if (typeof options !== 'object' || options === null || !('bits' in options) || !('groupSize' in options)) return undefined;
  const { bits, groupSize } = options;
  if (typeof bits !== 'number' || typeof groupSize !== 'number') return undefined;
  return bits + 32 / (groupSize === -1 ? inFeatures : groupSize);
}
