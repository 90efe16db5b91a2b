// Quantization-aware training block by block as a method: the first phase of EfficientQAT.
import { type Block, type BlockContext, defineMethod } from '@lowbit/core';
import { inMemory, meanLoss, searchRates, type TrainResult, train } from '@lowbit/train';
import { qatCost } from '../cost.js';
import { optimizerOf, ratesOf, roundsOf, scheduleOf } from '../course.js';
import { keptGrids } from '../kept-grids.js';
import { warnOfNoneHeldOut } from '../material.js';
import { checkLinear } from '../method.js';
import { type Judged, keepsGiven, outcomeRecord, warnAbout } from '../outcome.js';
import { withLinearOverrides } from '../overrides.js';
import { hasDenseTarget } from '../parts.js';
import { prepareBlock } from '../prepare.js';
import { blockLoss } from './loss.js';
import { type QatBlocksOptions, qatBlocksOptions } from './options.js';
import { blockWindows } from './windows.js';

/**
 * Weights behind codes, scales and offsets of one block after the other, trained through the rounding until the block gives what the dense
 * model gives there (Block-AP of EfficientQAT, arXiv 2407.11062). Inputs come from the blocks that are done, and memory holds one block's
 * training at a time. From dense Linears, or from what a post-training method has made of them.
 */
export const qatBlocks = withLinearOverrides(
  defineMethod({
    name: 'qat-blocks',
    version: 1,
    description: 'Quantization-aware training block by block, towards the dense output of each (EfficientQAT, Block-AP)',
    options: qatBlocksOptions,
    check: checkLinear,
    // The dense stream is computed beside the other one.
    cost: (work) => qatCost(work, { hasTeacher: work.options.target === 'dense-stream', oneByOne: true }),
    refineBlock,
  }),
);

type Context = BlockContext<QatBlocksOptions>;

async function refineBlock(block: Block, context: Context): Promise<Block> {
  const { backend, options, signal, path, log, warn, rng } = context;
  const optionsFor = (whole: string): QatBlocksOptions | undefined => context.optionsFor(whole.slice(path.length + 1));
  const kept = keptGrids([block], optionsFor, qatBlocksOptions.parse({ preset: options.preset }));
  if (kept !== undefined) warn('QAT_GRID_KEPT', kept);
  const prepared = await prepareBlock(block, { backend, signal, optionsFor, trainNorms: options.trainNorms }, context.reference);
  const parameters = await inMemory(prepared.parameters);
  const { batches, judged, count, heldOut, tokensPerStep } = await blockWindows(context);
  warnOfNoneHeldOut(heldOut, context, `${path}: `);
  const canKeep = options.keepBest && !hasDenseTarget(block, (whole) => optionsFor(whole) !== undefined);
  const given = canKeep ? await meanLoss(backend, new Map(), blockLoss(backend, block), judged, signal) : undefined;
  const start = await meanLoss(backend, parameters, prepared.lossOf(blockLoss(backend, prepared.shell)), judged, signal);
  const { rounds, stepsPerRound } = roundsOf(options, batches.length, tokensPerStep);
  if (start === 0 || !Number.isFinite(start)) {
    if (start !== 0) warn('QAT_BLOCK_NOT_FINITE', `${path}: the block's output is off by ${start} before training; it is not trained`);
    return canKeep ? block : prepared.convert(parameters);
  }
  // Relative to the start, errors of all blocks are of one size, whatever the stream has grown to: so are rates of SGD and norms to clip.
  const loss = prepared.lossOf(blockLoss(backend, prepared.shell, 1 / start));
  const found = await searchRates({
    rates: ratesOf(options),
    train: (rate, resumption) =>
      train({
        backend,
        signal,
        parameters,
        optimizer: optimizerOf(options, prepared),
        lossOf: loss,
        batches,
        epochs: rounds,
        stepsPerEpoch: stepsPerRound,
        shuffle: options.shuffle ? rng.at('shuffle') : undefined,
        learningRate: scheduleOf(options, rate, rounds * stepsPerRound),
        validation: {
          batches: judged,
          keep: options.keepBest ? 'best' : 'last',
          patience: options.patience > 0 ? options.patience : undefined,
        },
        ...resumption,
      }),
    lossOf: validated,
    saved: context.saved,
    save: (entry) => context.save(entry),
    progress: (done, total) => context.progress(done, total),
  });
  const { result } = found.best;
  const outcome: Judged = { given, start, after: validated(result) * start };
  warnAbout(found, outcome, context, `${path}: `);
  log({
    target: options.target,
    windows: count,
    heldOutWindows: heldOut,
    ...outcomeRecord(found, outcome, stepsPerRound),
    losses: result.losses.map((value) => value * start),
  });
  return keepsGiven(outcome) ? block : prepared.convert(result.parameters);
}

/** Relative to the start. */
function validated({ validation }: TrainResult): number {
  return (validation as NonNullable<typeof validation>).after;
}
