// Quantization-aware training block by block as a method: the first phase of EfficientQAT.
import { type Block, type BlockContext, defineMethod } from '@lowbit/core';
import {
  inMemory,
  meanLoss,
  type NamedTensors,
  type RateSearchResult,
  Stopwatch,
  searchRates,
  type TrainResult,
  train,
} from '@lowbit/train';
import { qatCost } from '../cost.js';
import { optimizerOf, ratesOf, ratesRead, roundsOf, scheduleOf } from '../course.js';
import { keptGrids } from '../kept-grids.js';
import { warnOfNoneHeldOut } from '../material.js';
import { checkLinear } from '../method.js';
import { countsOf, type Judged, keepsGiven, outcomeRecord, warnAbout } from '../outcome.js';
import { withLinearOverrides } from '../overrides.js';
import { hasDenseTarget } from '../parts.js';
import { type Prepared, prepareBlock } from '../prepare.js';
import { blockLoss } from './loss.js';
import { type QatBlocksOptions, qatBlocksOptions } from './options.js';
import { untrainedRecord } from './record.js';
import { type BlockWindows, blockWindows } from './windows.js';

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
    makes: 'affine',
    check: checkLinear,
    // The dense stream is computed beside the other one.
    cost(work) {
      const { target, windowsAtOnce } = work.options;
      return qatCost(work, { hasTeacher: target === 'dense-stream', oneByOne: true, windowsAtOnce });
    },
    refineBlock,
  }),
);

type Context = BlockContext<QatBlocksOptions>;

async function refineBlock(block: Block, context: Context): Promise<Block> {
  const { backend, options, signal, path, log, warn } = context;
  const optionsFor = (whole: string): QatBlocksOptions | undefined => context.optionsFor(whole.slice(path.length + 1));
  const kept = keptGrids([block], optionsFor, qatBlocksOptions.parse({ preset: options.preset }));
  if (kept !== undefined) warn('QAT_GRID_KEPT', kept);
  const prepared = await prepareBlock(block, { backend, signal, optionsFor, trainNorms: options.trainNorms }, context.reference);
  const parameters = await inMemory(prepared.parameters);
  const windows = await blockWindows(context);
  const { judged, heldOut } = windows;
  warnOfNoneHeldOut(heldOut, context, `${path}: `);
  const canKeep = options.keepBest && !hasDenseTarget(block, (whole) => optionsFor(whole) !== undefined);
  const given = canKeep ? await meanLoss(backend, new Map(), blockLoss(backend, block), judged, signal) : undefined;
  const start = await meanLoss(backend, parameters, prepared.lossOf(blockLoss(backend, prepared.shell)), judged, signal);
  const material = { target: options.target, windows: windows.count, heldOutWindows: heldOut };
  if (start === 0 || !Number.isFinite(start)) {
    if (start !== 0) warn('QAT_BLOCK_NOT_FINITE', `${path}: the block's output is off by ${start} before training; it is not trained`);
    log({ ...material, ...untrainedRecord(given, start) });
    return canKeep ? block : prepared.convert(parameters);
  }
  const { found, tokensPerSecond, stepsPerRound } = await trainBlock({ context, prepared, parameters, windows, start });
  const { result } = found.best;
  const outcome: Judged = { given, start, after: validated(result) * start };
  const counts = countsOf(prepared);
  const rates = ratesRead(options, counts, found.best.rate);
  warnAbout(found, outcome, { options, warn, rates }, `${path}: `);
  log({
    ...material,
    parameters: counts,
    tokens: result.losses.length * stepsPerRound * windows.tokensPerStep,
    tokensPerSecond,
    ...outcomeRecord(found, outcome, { rates, stepsPerRound }),
    losses: result.losses.map((value) => value * start),
  });
  return keepsGiven(outcome) ? block : prepared.convert(result.parameters);
}

/** What a block is trained from and on. */
interface Work {
  readonly context: Context;
  readonly prepared: Prepared<Block>;
  /** In memory. */
  readonly parameters: NamedTensors;
  readonly windows: BlockWindows;
  /** Loss of the parameters on what is judged. */
  readonly start: number;
}

interface Trained {
  /** Losses relative to the start. */
  readonly found: RateSearchResult;
  /** Of training, judgements left out. */
  readonly tokensPerSecond: number;
  readonly stepsPerRound: number;
}

/** Relative to the start, errors of all blocks are of one size, whatever the stream has grown to: so are rates of SGD and norms to clip. */
async function trainBlock({ context, prepared, parameters, windows, start }: Work): Promise<Trained> {
  const { backend, options, signal, rng } = context;
  const { batches, judged, tokensPerStep } = windows;
  const { rounds, stepsPerRound } = roundsOf(options, batches.length, tokensPerStep);
  const loss = prepared.lossOf(blockLoss(backend, prepared.shell, 1 / start));
  const clock = new Stopwatch();
  let stepsHere = 0;
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
          lossOf: { value: (values, batch) => clock.leaveOut(() => loss.value(values, batch)) },
          keep: options.keepBest ? 'best' : 'last',
          patience: options.patience > 0 ? options.patience : undefined,
        },
        onEpoch({ epoch, loss: trained, validation }) {
          // Every round is judged.
          const losses = { loss: trained * start, heldOutLoss: (validation as number) * start };
          context.log({ round: epoch, step: epoch * stepsPerRound, ...ratesRead(options, countsOf(prepared), rate), ...losses });
        },
        ...resumption,
        progress(done, total) {
          stepsHere++;
          resumption.progress?.(done, total);
        },
      }),
    lossOf: validated,
    saved: context.saved,
    save: (entry) => context.save(entry),
    progress: (done, total) => context.progress(done, total),
  });
  return { found, tokensPerSecond: (stepsHere * tokensPerStep) / clock.seconds(), stepsPerRound };
}

/** Relative to the start. */
function validated({ validation }: TrainResult): number {
  return (validation as NonNullable<typeof validation>).after;
}
