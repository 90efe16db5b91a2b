// Quantization-aware training block by block as a method: the first phase of EfficientQAT.
import { type Block, type BlockContext, defineMethod } from '@lowbit/core';
import { inMemory, meanLoss, type RateSearchResult, searchRates, type TrainResult, train } from '@lowbit/train';
import { qatCost } from '../cost.js';
import { optimizerOf, ratesOf, roundsOf, scheduleOf } from '../course.js';
import { checkLinear } from '../method.js';
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
export const qatBlocks = defineMethod({
  name: 'qat-blocks',
  version: 1,
  description: 'Quantization-aware training block by block, towards the dense output of each (EfficientQAT, Block-AP)',
  options: qatBlocksOptions,
  check: checkLinear,
  // The dense stream is computed beside the other one.
  cost: (work) => qatCost(work, { hasTeacher: work.options.target === 'dense-stream', oneByOne: true }),
  refineBlock,
});

type Context = BlockContext<QatBlocksOptions>;

async function refineBlock(block: Block, context: Context): Promise<Block> {
  const { backend, options, signal, path, log, rng } = context;
  const optionsFor = (whole: string): QatBlocksOptions | undefined => context.optionsFor(whole.slice(path.length + 1));
  const prepared = await prepareBlock(block, { backend, optionsFor, trainNorms: options.trainNorms }, context.reference);
  const parameters = await inMemory(prepared.parameters);
  const { batches, judged, count, heldOut, tokensPerStep } = await blockWindows(context);
  const canKeep = options.keepBest && !hasDenseTarget(block, (whole) => optionsFor(whole) !== undefined);
  const given = canKeep ? await meanLoss(backend, new Map(), blockLoss(backend, block), judged, signal) : undefined;
  const start = await meanLoss(backend, parameters, prepared.lossOf(blockLoss(backend, prepared.shell)), judged, signal);
  const { rounds, stepsPerRound } = roundsOf(options, batches.length, tokensPerStep);
  if (start === 0 || !Number.isFinite(start)) {
    if (start !== 0)
      context.warn('QAT_BLOCK_NOT_FINITE', `${path}: the block's output is off by ${start} before training; it is not trained`);
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
  const { result, rate } = found.best;
  const after = validated(result) * start;
  const keepsGiven = given !== undefined && !(after < given);
  warnAbout(found, { given, start, after }, context);
  log({
    target: options.target,
    windows: count,
    heldOutWindows: heldOut,
    learningRate: rate,
    divergedRates: found.diverged,
    steps: rounds * stepsPerRound,
    losses: result.losses.map((value) => value * start),
    lossGiven: given,
    lossBefore: start,
    lossAfter: keepsGiven ? given : after,
    keptRound: keepsGiven ? 'given' : result.epoch,
  });
  return keepsGiven ? block : prepared.convert(result.parameters);
}

/** Relative to the start. */
function validated({ validation }: TrainResult): number {
  return (validation as NonNullable<typeof validation>).after;
}

function warnAbout(
  { best: { result }, diverged }: RateSearchResult,
  { given, start, after }: { readonly given: number | undefined; readonly start: number; readonly after: number },
  { options, path, warn }: Context,
): void {
  if (result.diverged) {
    const kept = `a loss or a parameter was not finite after ${result.losses.length} rounds; round ${result.epoch} is kept`;
    warn('QAT_DIVERGED', `${path}: ${kept}. Lower learningRate and scaleLearningRate, or set clipNorm`);
  } else if (diverged.length > 0) {
    warn('QAT_DIVERGED', `${path}: learning rates ${diverged.join(', ')} left the finite numbers; leave them out`);
  }
  const before = given ?? start;
  if (after < before) return;
  const figures = `${before.toPrecision(4)} to ${after.toPrecision(4)}`;
  if (options.keepBest) {
    const what = given === undefined ? 'the start, dense weights rounded to their grid' : 'what was given';
    const message = `no round had less error than ${what} (${figures}), which is kept; lower learningRate or give more text`;
    warn('QAT_NO_GAIN', `${path}: ${message}`);
  } else {
    warn('QAT_WORSE', `${path}: training raised the error of the block from ${figures}; set keepBest, or lower learningRate`);
  }
}
