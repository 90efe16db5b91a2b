// What a recipe takes in operations and memory, from shapes alone: the runner's own walk, and what each method says of its steps.
import type { Cost, LinearShape, Model, Workload } from '@lowbit/core';
import { type DiskEstimate, diskEstimate, restElements } from './estimate-disk.js';
import { graphCost, shapesOf, sumCosts, timesCost } from './estimate-graph.js';
import { type EstimateOptions, FLOAT, stream } from './estimate-options.js';
import { judgeCost, targetsIn, walkCost } from './estimate-walk.js';
import { JUDGED_BATCHES } from './judge-linears.js';
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

export interface RunEstimate extends DiskEstimate {
  readonly steps: readonly StepEstimate[];
}

/**
 * Resolves and checks the recipe as a run does, and counts what it takes. A step that changes shapes is counted with those that the model has before.
 * @throws what `checkRecipe` throws.
 */
export function estimateRun(options: EstimateOptions): RunEstimate {
  const planned = planRecipe(options.recipe, options.model);
  const shapes = linearShapes(options.model);
  const steps = planned.map((step): StepEstimate => estimateStep(step, shapes, options));
  return { steps, ...diskEstimate(planned, options) };
}

function estimateStep(planned: PlannedStep, shapes: readonly LinearShape[], options: EstimateOptions): StepEstimate {
  const { index, step } = planned;
  const { method } = step;
  const walk = walkCost(planned, options);
  const own = method.cost?.(workloadOf(planned, shapes, options)) ?? NOTHING;
  const judged = method.finetune ? sumCosts([divergenceCost(options), linearsCost(planned, options)]) : undefined;
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
    forward: data.tokens > 0 ? forwardCost(model, 1, data.tokens) : NOTHING,
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

const NOTHING: Cost = { flops: 0, elements: 0, bytes: 0 };

/** Logits that exist at one time, of either model. */
const LOGITS = 2 ** 23;

/** The runner's comparison before and after a finetune: three passes, and logits of two models each time. */
function divergenceCost({ model, calibration }: EstimateOptions): Cost {
  if (!calibration) return NOTHING;
  const windows = Math.min(calibration.windows, JUDGED_BATCHES * calibration.batch);
  const logits = windows * calibration.tokens * model.config.vocabularySize;
  return sumCosts([
    timesCost(forwardCost(model, calibration.batch, calibration.tokens), (3 * windows) / calibration.batch),
    { flops: 4 * 2 * logits * model.width, elements: 2 * 8 * logits, bytes: 6 * FLOAT * Math.min(LOGITS, logits) },
  ]);
}

/** The runner's errors of each Linear after a finetune, on a pass through the model. */
function linearsCost(planned: PlannedStep, { model, calibration }: EstimateOptions): Cost {
  if (!calibration) return NOTHING;
  const { windows, tokens, batch } = calibration;
  const batches = Math.min(windows / batch, JUDGED_BATCHES);
  const x = stream(batch, tokens, model.width);
  const known = new Map<string, Cost>();
  const blocks = model.blocks.map((block): Cost => {
    const targets = targetsIn(planned, block);
    const key = JSON.stringify([shapesOf(block), targets]);
    const found = known.get(key) ?? judgeCost(block, targets, x, batches);
    known.set(key, found);
    return found;
  });
  return sumCosts([timesCost(forwardCost(model, batch, tokens), batches), ...blocks]);
}

function sizeOf({ inFeatures, outFeatures }: LinearShape): number {
  return inFeatures * outFeatures;
}
