// Block-wise minimisation: scales, offsets and norms of a quantized block are trained towards what the dense block gives; codes stay.
import { type Block, type BlockContext, mean, mul, square, sub, type Tensor, tensor } from '@lowbit/core';
import {
  adam,
  constantRate,
  cosineRate,
  gatherWindows,
  type Indexed,
  meanLoss,
  type NamedTensors,
  type RateSearchResult,
  type Resumption,
  searchRates,
  splitWindows,
  type TrainResult,
  train,
  windowCount,
  withParameters,
} from '@lowbit/train';
import type { DecoupleqOptions } from './options.js';
import { affineLayerOf, biasOf, normTensors, scalesOf, type Trainable, type TrainableTensors, trainableOf } from './trainable.js';
import { windowBatches } from './windows.js';

/** What a block is trained on: inputs from the quantized prefix, and what the dense block makes of them, [windows, tokens, width]. */
interface Windows {
  readonly input: Tensor;
  readonly target: Tensor;
}

/** Adam as published. */
const ADAM = { beta1: 0.9, beta2: 0.99, epsilon: 2e-5, decay: 'l2' } as const;

/**
 * min over scales, offsets, norm weights (and biases) of mean((Block(h) − Block_fp(h))²), where h comes from the quantized prefix
 * (arXiv 2404.12759, block-wise minimization). Where windows are held out, the epoch that is best on them is kept, the start among them; of several
 * learning rates the best. The outcome is logged.
 */
export async function refineBlock(block: Block, context: BlockContext<DecoupleqOptions>): Promise<Block> {
  const { options, backend, signal, inputs, rng, path, log, warn } = context;
  const trainable = await trainableOf(block, trainableTensors(block, context));
  const count = await windowCount(inputs);
  if (options.blockEpochs === 0 || trainable.parameters.size === 0 || count === 0) return block;

  const split = splitWindows(count, options.blockHoldOut, rng.at('hold-out'));
  const [trained, heldOut] = [split.trained, split.heldOut].map((indices) => batchesOf(context, indices));
  const lossWith = (values: NamedTensors, { input, target }: Windows): Tensor =>
    mean(square(sub(withParameters(block, values).forward(input), target)));
  const measure = (values: NamedTensors): Promise<number> => meanLoss(backend, values, lossWith, trained, signal);

  const blockLossBefore = await measure(trainable.original);
  if (!Number.isFinite(blockLossBefore)) {
    warn('DECOUPLEQ_BLOCK_NOT_FINITE', `${path}: the block's output is off by ${blockLossBefore} before training; it is left as it is`);
  }
  if (blockLossBefore === 0 || !Number.isFinite(blockLossBefore)) return block;
  const scale = options.blockLoss === 'relative' ? 1 / blockLossBefore : 1;
  const { best, diverged } = await bestRate({ context, trainable, trained, heldOut, lossWith, scale, measure });
  for (const rate of diverged) {
    warn('DECOUPLEQ_BLOCK_DIVERGED', `${path}: block-wise training with learning rate ${rate} left the finite numbers; use a lower one`);
  }
  const { result, rate } = best;
  log({
    blockLossBefore,
    blockLossAfter: await measure(result.parameters),
    blockHeldOutBefore: result.validation ? result.validation.before / scale : null,
    blockHeldOutAfter: result.validation ? result.validation.after / scale : null,
    learningRate: rate,
    epoch: result.epoch,
    losses: result.losses.map((loss) => loss / scale),
  });
  return result.epoch === 0 ? block : withParameters(block, result.parameters);
}

/** Scales and offsets of the targeted layers, norms, biases: as the options have it. */
function trainableTensors({ linears, norms }: Block, { options, optionsFor }: BlockContext<DecoupleqOptions>): TrainableTensors {
  const layers = Object.entries(linears).flatMap(([name, linear]) => (optionsFor(name) && affineLayerOf(linear)) ?? []);
  return new Map([
    ...layers.flatMap((layer) => [...scalesOf(layer), ...(options.trainBiases ? biasOf(layer) : [])]),
    ...(options.trainNorms ? Object.values(norms).flatMap((norm) => [...normTensors(norm)]) : []),
  ]);
}

function batchesOf({ inputs, targets, options }: BlockContext<DecoupleqOptions>, indices: readonly number[]): Indexed<Windows> {
  return windowBatches(indices, options.blockBatch, async (some) => ({
    input: await gatherWindows(inputs, some),
    target: await gatherWindows(targets, some),
  }));
}

interface RateTraining {
  readonly context: BlockContext<DecoupleqOptions>;
  readonly trainable: Trainable;
  readonly trained: Indexed<Windows>;
  readonly heldOut: Indexed<Windows>;
  /** Mean square error of the block with some tensors in place of its own. */
  readonly lossWith: (tensors: NamedTensors, windows: Windows) => Tensor;
  /** Factor of the loss that is trained on. */
  readonly scale: number;
  /** Loss on the windows that are trained on. */
  measure(tensors: NamedTensors): Promise<number>;
}

/** Trains from the start with each learning rate; the best is the one of least loss on held-out windows, or on the others without them. */
function bestRate(search: RateTraining): Promise<RateSearchResult> {
  const { context, measure } = search;
  return searchRates({
    rates: [context.options.blockLearningRate].flat(),
    train: (rate, resumption) => trainOnce(search, rate, resumption),
    lossOf: ({ validation, parameters }) => validation?.after ?? measure(parameters),
    saved: context.saved,
    save: (entry) => context.save(entry),
    progress: (done, total) => context.progress(done, total),
  });
}

function trainOnce(
  { context, trainable, trained, heldOut, lossWith, scale }: RateTraining,
  rate: number,
  resumption: Resumption,
): Promise<TrainResult> {
  const { backend, signal, options } = context;
  // A leaf, so that blocks share a compiled program.
  const scaled = (tensors: NamedTensors, windows: Windows): Tensor => mul(lossWith(tensors, windows), tensor(scale));
  return train<Windows>({
    backend,
    signal,
    parameters: trainable.parameters,
    optimizer: adam({ ...ADAM, weightDecay: options.blockWeightDecay }),
    lossOf: (values, windows) => scaled(trainable.tensorsFor(values), windows),
    batches: trained,
    epochs: options.blockEpochs,
    learningRate: options.blockSchedule === 'cosine' ? cosineRate({ peak: rate }) : constantRate(rate),
    validation: heldOut.length > 0 ? { batches: heldOut, lossOf: scaled } : undefined,
    storedAs: trainable.storedAs,
    ...resumption,
  });
}
