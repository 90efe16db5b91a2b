// What a block is trained on: its inputs, and what it is to make of them.
import { type Batches, type BlockContext, batchesOf, createRng, type Tensor, tensor } from '@lowbit/core';
import { filledBatch, gatherWindows, type Indexed, splitWindows, windowCount } from '@lowbit/train';
import type { QatBlocksOptions } from './options.js';

/** Windows to compute on at once. All batches of a step have one shape, so that blocks share programs. */
export interface BlockBatch {
  /** [windows, tokens, width] */
  readonly input: Tensor;
  /** [windows, tokens, width] */
  readonly target: Tensor;
  /** [windows]: 0 for one that fills up the last batch. The mean over all batches weighs all windows alike. */
  readonly weights: Tensor;
}

export interface BlockWindows {
  readonly batches: Indexed<BlockBatch>;
  /** Held-out windows, or those that are trained on where none are. */
  readonly judged: Indexed<BlockBatch>;
  readonly count: number;
  readonly heldOut: number;
  readonly tokensPerStep: number;
}

type Context = BlockContext<QatBlocksOptions>;

/**
 * What windows are held out is drawn from this, and not from the rng of a block: were it another draw for each, a block would be judged on windows
 * that the blocks before it have been trained on.
 */
const SPLIT_SEED = 0;

/** The windows of a block, a share of them held out, the same of every block. @throws CALIBRATION_WINDOWS when they differ in length. */
export async function blockWindows(context: Context): Promise<BlockWindows> {
  const { inputs, options, rng } = context;
  const count = await windowCount(inputs);
  const targets = await targetsOf(context);
  const { trained, heldOut } = splitWindows(count, options.holdOut, createRng(SPLIT_SEED).at('held-out'));
  const size = Math.min(options.batchWindows, trained.length);
  const order = options.shuffle ? Array.from(rng.at('windows').permutation(trained.length), (i) => trained[i]) : trained;
  const [, tokens] = (await inputs.at(0)).shape;
  return {
    batches: batchesIn(inputs, targets, order, size),
    judged: batchesIn(inputs, targets, heldOut.length > 0 ? heldOut : trained, size),
    count,
    heldOut: heldOut.length,
    tokensPerStep: size * tokens,
  };
}

async function targetsOf({ backend, inputs, options, denseTargets, reference }: Context): Promise<Batches> {
  if (options.target === 'dense-stream') return denseTargets();
  // What the runner has as targets is what the block gave before this step: an earlier one may have quantized it.
  const block = await reference();
  const outputs: Tensor[] = [];
  for (let i = 0; i < inputs.length; i++) outputs.push(...(await backend.evaluate([block.forward(await inputs.at(i))])));
  return batchesOf(outputs);
}

function batchesIn(inputs: Batches, targets: Batches, indices: readonly number[], size: number): Indexed<BlockBatch> {
  return {
    length: Math.ceil(indices.length / size),
    async at(batch) {
      const { rows, weights } = filledBatch(indices, size, batch);
      return { input: await gatherWindows(inputs, rows), target: await gatherWindows(targets, rows), weights: tensor(weights) };
    },
  };
}
