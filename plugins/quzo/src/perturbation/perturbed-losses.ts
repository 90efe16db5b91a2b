// The loss of a model at points along one direction: every block is evaluated at all of them before the next one, so that the direction of
// one block exists at a time. Nothing is written into the model, so there is nothing to restore.
import {
  add,
  type Backend,
  type Block,
  cast,
  crossEntropy,
  gather,
  type Model,
  mul,
  readFloats,
  reshape,
  type Tensor,
  tensor,
} from '@lowbit/core';
import type { TaskBatch } from '@lowbit/train';
import { selectedDirection } from '../direction/masked.js';
import type { Draws, Hooks } from '../hooks.js';
import type { ReusedScratch } from './scratch.js';
import type { TrainedModel, TrainedParameter } from './trained.js';

export interface LossRequest {
  readonly backend: Backend;
  readonly trained: TrainedModel;
  readonly batch: TaskBatch;
}

export interface PerturbedLossRequest extends LossRequest {
  readonly hooks: Pick<Hooks, 'direction' | 'selector'>;
  readonly draws: Draws;
  /** Multiples of ε·q. */
  readonly radii: readonly number[];
  readonly scratch: ReusedScratch;
}

/** The mean loss of a batch at each radius, in nats, summed in float64. All steps of a run share their programs. */
export async function perturbedLosses(request: PerturbedLossRequest): Promise<number[]> {
  const { backend, trained, radii, scratch, batch } = request;
  const { model, byBlock } = trained;
  const [embedded] = await backend.evaluate([model.embedding.forward(batch.tokens)]);
  let streams: Tensor[] = radii.map(() => embedded);
  for (const [index, block] of model.blocks.entries()) {
    scratch.reset();
    const directions = directionsOf(byBlock[index], request);
    const isShared = directions.size === 0 && streams.every((x) => x === streams[0]);
    const next: Tensor[] = [];
    for (const [i, x] of streams.entries()) {
      if (isShared && i > 0) {
        next.push(next[0]);
        continue;
      }
      const isReadAgain = !isShared && streams.includes(x, i + 1);
      const [y] = await backend.evaluate([perturbed(block, directions, radii[i]).forward(x)], { release: isReadAgain ? [] : [x] });
      next.push(y);
    }
    streams = next;
  }
  const losses: number[] = [];
  for (const hidden of streams) losses.push(await batchLoss(backend, model, hidden, batch));
  return losses;
}

/** The same at the model itself. */
export async function centerLoss({ backend, trained: { model }, batch }: LossRequest): Promise<number> {
  let [x] = await backend.evaluate([model.embedding.forward(batch.tokens)]);
  for (const block of model.blocks) [x] = await backend.evaluate([block.forward(x)], { release: [x] });
  return batchLoss(backend, model, x, batch);
}

/** A direction in a leaf of the parameter's layout, and ε · factor: what a radius of 1 multiplies it by. */
interface Shift {
  readonly values: Tensor;
  readonly perRadius: number;
}

function directionsOf(parameters: ReadonlyMap<Tensor, TrainedParameter>, request: PerturbedLossRequest): Map<Tensor, Shift> {
  const { hooks, draws, scratch } = request;
  return new Map(
    [...parameters].map(([leaf, trained]) => {
      const { values, factor } = selectedDirection(hooks, trained, draws, 'round1', scratch);
      return [leaf, { values: tensor(values, trained.layout), perRadius: factor * trained.parameter.settings.epsilon }];
    }),
  );
}

/**
 * The block with t + radius · ε · q in place of every parameter t; codes become float32 between and beyond the points of their grid. They
 * are perturbed in the shape in which they are dequantized: the engine uses a buffer again for values of its own shape alone.
 */
function perturbed(block: Block, directions: ReadonlyMap<Tensor, Shift>, radius: number): Block {
  return block.map((t) => {
    const shift = directions.get(t);
    if (!shift) return t;
    const values = cast(reshape(t, shift.values.shape), 'float32');
    return reshape(add(values, mul(cast(shift.values, 'float32'), tensor(radius * shift.perRadius))), t.shape);
  });
}

/** Logits that exist at one time. */
const LOGITS = 2 ** 23;

/** Σ weights · cross-entropy over the positions of a batch that predict something. */
async function batchLoss(backend: Backend, model: Model, hidden: Tensor, batch: TaskBatch): Promise<number> {
  const { positions, targets, weights, candidates } = batch;
  const rows = reshape(hidden, [-1, model.width]);
  const most = Math.max(1, Math.floor(LOGITS / model.config.vocabularySize));
  // Pieces of equal size share a program.
  const size = Math.ceil(positions.length / Math.ceil(positions.length / most));
  let total = 0;
  for (let start = 0; start < positions.length; start += size) {
    const end = Math.min(start + size, positions.length);
    const logits = model.logits(gather(rows, tensor(positions.subarray(start, end)), 0));
    const errors = crossEntropy(candidates ? gather(logits, candidates, 1) : logits, tensor(targets.subarray(start, end)));
    const isLast = end === positions.length;
    const [found] = await backend.evaluate([errors], { release: isLast ? [hidden] : [] });
    const values = await readFloats(found);
    for (let i = 0; i < values.length; i++) total += weights[start + i] * values[i];
  }
  return total;
}
