// What the runner's walk over the blocks takes: weights read, statistics folded, forward passes between blocks, layers judged.
import { type Block, type Cost, flattenRows, gram, type Tensor } from '@lowbit/core';
import { graphCost, shapesOf, sumCosts, timesCost } from './estimate-graph.js';
import { type EstimateOptions, FLOAT, stream, streamBytes } from './estimate-options.js';
import { JUDGED_BATCHES } from './judge-linears.js';
import { type PlannedStep, statisticsOf } from './plan.js';

/** Of a weight, as the runner goes over it: read, converted, rounded to nearest for comparison, compared, packed. */
const PASSES = 12;

/** Float32 copies of a block that exist at one time: as it was, and dequantized for a pass. */
const BLOCK_COPIES = 2;

/** Programs of an engine, each of which keeps its working memory: they add up. */
function sumOfPrograms(costs: readonly Cost[]): Cost {
  return { ...sumCosts(costs), bytes: costs.reduce((total, { bytes }) => total + bytes, 0) };
}

export interface WalkEstimate {
  readonly cost: Cost;
  readonly evaluations: number;
}

/** Of a step that transforms or tunes the whole model alone, only reading and writing its weights. */
export function walkCost(planned: PlannedStep, options: EstimateOptions): WalkEstimate {
  const { model } = options;
  const { method } = planned.step;
  const isWalk = method.quantizeLinear !== undefined || method.refineBlock !== undefined;
  const readers = model.blocks.map((block) => readsActivations(planned, block));
  const last = options.calibration ? readers.lastIndexOf(true) : -1;
  const known = new Map<string, WalkEstimate>();
  const parts = model.blocks.map((block, index): WalkEstimate => {
    const targets = targetsIn(planned, block);
    if (!isWalk) return { cost: { flops: 0, elements: 2 * weightsOf(block), bytes: FLOAT * weightsOf(block) }, evaluations: 1 };
    if (targets.length === 0 && index > last) return nothing;
    // Blocks of one shape with the same targets take the same.
    const key = JSON.stringify([
      shapesOf(block),
      targets,
      targets.map((name) => planned.options.get(`${block.path}.${name}`)),
      index < last,
    ]);
    const found = known.get(key) ?? blockCost(planned, block, options, index < last);
    known.set(key, found);
    return found;
  });
  const cost = sumCosts(parts.map((part) => part.cost));
  const evaluations = parts.reduce((total, part) => total + part.evaluations, 0);
  // The embedding in float32 while tokens are embedded; then two streams at most, for a moment, and what they leave.
  const refines = method.refineBlock !== undefined ? 1 : 0;
  const streams = last < 0 ? 0 : Math.min(options.memory, (1 + refines) * streamBytes(planned, options));
  const embedding = last < 0 ? 0 : FLOAT * model.embedding.weight.size;
  return { cost: { ...cost, bytes: streams + Math.max(embedding, cost.bytes) }, evaluations };
}

const nothing: WalkEstimate = { cost: { flops: 0, elements: 0, bytes: 0 }, evaluations: 0 };

function blockCost(planned: PlannedStep, block: Block, options: EstimateOptions, leavesStream: boolean): WalkEstimate {
  const { calibration, model } = options;
  const { method } = planned.step;
  const targets = targetsIn(planned, block);
  const weights = weightsOf(block);
  const parts: Cost[] = [{ flops: 0, elements: PASSES * weights, bytes: 0 }];
  const judging: Cost[] = [];
  let evaluations = targets.length;
  if (calibration) {
    const batches = calibration.windows / calibration.batch;
    const x = stream(calibration.batch, calibration.tokens, model.width);
    for (const group of block.groups) {
      const statistics = new Set(targets.filter((name) => group.linears.includes(name)).flatMap((name) => foldedBy(planned, block, name)));
      if (statistics.size === 0) continue;
      const rows = flattenRows(block.trace(x).inputs[group.name]);
      const folded = [...statistics].map((statistic): Tensor => statistic.of(rows));
      // Beside what a batch gives, the totals before it and after it.
      const totals = 2 * FLOAT * folded.reduce((total, { size }) => total + size, 0);
      const fold = graphCost(folded);
      parts.push(timesCost({ ...fold, bytes: fold.bytes + totals }, batches));
      evaluations += batches;
    }
    const passes = (method.refineBlock && targets.length > 0 ? 1 : 0) + (leavesStream ? 1 : 0);
    if (passes > 0) parts.push(timesCost(graphCost([block.forward(x)]), passes * batches));
    evaluations += passes * batches;
    for (const name of targets) if (foldedBy(planned, block, name).includes(gram)) judging.push(errorCost(block, name));
    if (method.refineBlock && targets.length > 0) parts.push(judgeCost(block, targets, x, batches));
  }
  parts.push(sumCosts(judging));
  const cost = sumOfPrograms(parts);
  return { cost: { ...cost, bytes: cost.bytes + BLOCK_COPIES * FLOAT * weights }, evaluations };
}

/** tr(E G Eᵀ) of the weight, of what it has become, and of rounding to nearest. */
function errorCost({ linears }: Block, name: string): Cost {
  const { inFeatures, outFeatures } = linears[name];
  const size = outFeatures * inFeatures;
  return { flops: 3 * 2 * size * inFeatures, elements: 6 * size, bytes: FLOAT * (6 * size + inFeatures ** 2) };
}

/** Of telling how far Linears of a block are from the dense ones after a stage that worked on many. `x`: a batch that enters the block. */
export function judgeCost(block: Block, targets: readonly string[], x: Tensor, batches: number): Cost {
  const groups = block.groups.filter(({ linears }) => linears.some((name) => targets.includes(name)));
  const { inputs } = block.trace(x);
  const folds = groups.map(({ name }) => timesCost(graphCost([gram.of(flattenRows(inputs[name]))]), Math.min(batches, JUDGED_BATCHES)));
  return sumCosts([...folds, ...targets.map((name) => errorCost(block, name))]);
}

export function targetsIn({ options }: PlannedStep, { path, linears }: Block): string[] {
  return Object.keys(linears).filter((name) => options.has(`${path}.${name}`));
}

function foldedBy(planned: PlannedStep, { path }: Block, name: string) {
  return planned.step.method.quantizeLinear ? Object.values(statisticsOf(planned, planned.options.get(`${path}.${name}`))) : [];
}

/** Whether a step looks at what enters a block. */
export function readsActivations(planned: PlannedStep, block: Block): boolean {
  const targets = targetsIn(planned, block);
  if (planned.step.method.refineBlock) return targets.length > 0;
  return targets.some((name) => foldedBy(planned, block, name).length > 0);
}

function weightsOf({ linears }: Block): number {
  return Object.values(linears).reduce((total, { inFeatures, outFeatures }) => total + inFeatures * outFeatures, 0);
}
