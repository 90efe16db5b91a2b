// What a block is trained on: its inputs, and what it is to make of them.
import { type Batches, type BlockContext, batchesOf, createRng, read, type Tensor, tensor } from '@lowbit/core';
import {
  gatherWindows,
  type Indexed,
  splitWindows,
  trainingBatches,
  type WindowBatch,
  type Windows,
  windowBatches,
  windowCount,
} from '@lowbit/train';
import type { QatBlocksOptions } from './options.js';

/** Windows that are computed together. */
export interface BlockPart {
  /** [windows, tokens, width] */
  readonly input: Tensor;
  /** [windows, tokens, width] */
  readonly target: Tensor;
  /** [windows]: 0 for one that fills up the last batch. The mean over all batches weighs all windows alike. */
  readonly weights: Tensor;
}

/**
 * The windows of a step in parts, one of which is in memory at a time: their losses add up to that of the batch. All batches are divided
 * alike, so that blocks share programs.
 */
export type BlockBatch = Indexed<BlockPart>;

export interface BlockWindows {
  readonly batches: Indexed<BlockBatch>;
  /** Held-out windows, or those that are trained on where none are; no more than a training of the whole model is judged on. */
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
  // Windows of one number, their index: they are drawn as those of a whole model are.
  const indices: Windows = { tokens: Int32Array.from({ length: count }, (_, i) => i), count, length: 1 };
  const shared = createRng(SPLIT_SEED);
  const { batches, judged, heldOut } = trainingBatches(indices, options, shared);
  // The order is another one for each block.
  const { trained } = splitWindows(count, options.holdOut, shared.at('held-out'));
  const order = options.shuffle ? Array.from(rng.at('windows').permutation(trained.length), (i) => trained[i]) : trained;
  const gathered = (drawn: Indexed<WindowBatch>): Indexed<BlockBatch> => batchesIn(inputs, targets, drawn, options.windowsAtOnce);
  const [, tokens] = (await inputs.at(0)).shape;
  return {
    batches: gathered(windowBatches(indices, order, batches.size)),
    judged: gathered(judged),
    count,
    heldOut,
    tokensPerStep: batches.size * tokens,
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

/** @param drawn batches of indices of windows. */
function batchesIn(inputs: Batches, targets: Batches, drawn: Indexed<WindowBatch>, atOnce: number): Indexed<BlockBatch> {
  return {
    length: drawn.length,
    async at(batch) {
      const { tokens, weights } = await drawn.at(batch);
      const rows = Array.from(await read(tokens));
      const weighed = weights.findLastIndex((weight) => weight !== 0) + 1;
      return {
        // Those after it would fill up the batch, and have neither a loss nor gradients.
        length: Math.ceil(weighed / atOnce),
        async at(part) {
          const [start, end] = [part * atOnce, (part + 1) * atOnce];
          const own = rows.slice(start, end);
          return {
            input: await gatherWindows(inputs, own),
            target: await gatherWindows(targets, own),
            weights: tensor(weights.slice(start, end)),
          };
        },
      };
    },
  };
}
