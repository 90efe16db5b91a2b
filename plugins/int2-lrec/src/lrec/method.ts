// LREC as a method: adapters on the quantized model, trained until it answers as the dense one does.
import { defineMethod, type FinetuneContext, type Model } from '@lowbit/core';
import {
  adam,
  type Indexed,
  planRounds,
  readWindows,
  Stopwatch,
  type TrainResult,
  train,
  trainingBatches,
  type WindowBatch,
  withParameters,
} from '@lowbit/train';
import { sizedByOverrides } from '../adapters/overrides.js';
import { checkRank } from '../adapters/ranks.js';
import { storedFactors } from '../adapters/stored-factors.js';
import { adapterTrainingCost } from '../cost.js';
import { adaptersOn, oldAdapters } from './adapters.js';
import { type Distillation, judgedDivergence, lossWeights, trainedLoss } from './distillation.js';
import { materializeBoth } from './in-memory.js';
import { learningRateOf } from './learning-rate.js';
import { type LrecOptions, lrecOptions } from './options.js';
import { cachedTeacher, liveTeacher, type Teacher } from './teacher.js';

/**
 * LREC (arXiv 2306.08162): low-rank adapters on any quantized model, trained to minimise the KL divergence to the dense model and a
 * share of the next token's cross-entropy. Codes and scales stay. Adapters that a Linear has already are trained on; with `stack` they stay too.
 * Dense Linears among the targeted ones get none.
 */
export const lrec = sizedByOverrides(
  defineMethod({
    name: 'lrec',
    version: 1,
    description: 'Low-rank adapters trained until the quantized model answers as the dense one',
    options: lrecOptions,
    check(linear, options) {
      // An adapter that is trained on keeps its rank.
      if (options.stack || linear.kind !== 'low-rank') checkRank(linear, options);
    },
    cost: (work) => adapterTrainingCost(work, true),
    finetune: correct,
  }),
);

async function correct(given: Model, context: FinetuneContext<LrecOptions>): Promise<Model> {
  const { backend, options, rng } = context;
  const windows = await readWindows(context.calibration);
  const adapters = adaptersOn(given, context);
  const { batches, judged, heldOut, all } = trainingBatches(windows, options, rng);
  const { student, teacher } = await studentAndTeacher(adapters.model, context, all);
  const distillation: Distillation = {
    backend,
    student,
    teacher,
    weights: lossWeights(options, windows.length),
    dropout: (path) => context.optionsFor(path)?.dropout ?? 0,
    rng: rng.at('dropout'),
  };
  const tokensPerStep = batches.size * windows.length;
  const { rounds, stepsPerRound } = planRounds(batches.length, options.epochs, Math.floor((options.maxTokens ?? Infinity) / tokensPerStep));
  const judge = judgedDivergence(distillation);
  const clock = new Stopwatch();
  let steps = 0;
  const result = await train({
    backend,
    parameters: adapters.parameters,
    optimizer: adam({
      weightDecay: options.weightDecay,
      decay: options.decay,
      ...(options.clipNorm > 0 && { clipNorm: options.clipNorm }),
    }),
    lossOf: trainedLoss(distillation),
    batches,
    epochs: rounds,
    stepsPerEpoch: stepsPerRound,
    shuffle: options.shuffle ? rng.at('shuffle') : undefined,
    learningRate: learningRateOf(options, rounds * stepsPerRound),
    validation: {
      batches: judged,
      lossOf: { value: (factors, batch) => clock.leaveOut(() => judge.value(factors, batch)) },
      keep: options.keepBest ? 'best' : 'last',
    },
    storedAs: (factors) => storedFactors(factors, adapters.dtypes),
    signal: context.signal,
    progress(done, total) {
      steps++;
      context.progress(done, total);
    },
    onEpoch: ({ epoch, loss, validation }) => context.log({ round: epoch, loss, kl: validation }),
    saved: context.saved,
    save: context.save,
  });
  const seconds = clock.seconds();
  warnAbout(result, context);
  const kept = result.epoch === 0 ? oldAdapters(given, context) : adapters;
  context.log({
    windows: windows.count,
    heldOutWindows: heldOut,
    steps: rounds * stepsPerRound,
    tokens: rounds * stepsPerRound * tokensPerStep,
    tokensPerSecond: (steps * tokensPerStep) / seconds,
    losses: result.losses,
    klBefore: result.validation?.before,
    klAfter: result.validation?.after,
    keptRound: result.epoch,
    adapterBits: kept.bits,
    overhead: kept.overhead,
    ranks: [...new Set(kept.ranks.values())].sort((a, b) => a - b),
  });
  if (kept === adapters) return withParameters(student, result.parameters);
  // A new adapter's factors are called as those of the one beneath it will be without it.
  return withParameters(kept.model, new Map([...result.parameters].filter(([name]) => kept.parameters.has(name))));
}

/** The dense model's weights stay in memory with a live teacher alone; a cache is made here and they are free again. */
async function studentAndTeacher(
  corrected: Model,
  { backend, reference, options }: FinetuneContext<LrecOptions>,
  all: Indexed<WindowBatch>,
): Promise<{ readonly student: Model; readonly teacher: Teacher }> {
  const { student, dense } = await materializeBoth(corrected, reference);
  const teacher = options.teacher === 'live' ? liveTeacher(backend, dense) : cachedTeacher(backend, dense, all, options.topK);
  return { student, teacher: await teacher };
}

function warnAbout({ diverged, epoch, losses, validation }: TrainResult, { options, warn }: FinetuneContext<LrecOptions>): void {
  if (diverged) {
    warn(
      'LREC_DIVERGED',
      `a loss or an adapter was not finite after ${losses.length} rounds; round ${epoch} is kept. Lower learningRate, or set clipNorm`,
    );
  }
  if (!validation) return;
  const { before, after } = validation;
  if (after > before || Number.isNaN(after)) {
    const figures = `from ${before.toPrecision(4)} to ${after.toPrecision(4)} nats a token`;
    warn('LREC_WORSE', `training raised the KL divergence to the dense model ${figures}; set keepBest, or lower learningRate`);
  } else if (epoch === 0 && options.keepBest && !diverged) {
    warn(
      'LREC_NO_GAIN',
      'no round came closer to the dense model than the start, which is kept, without new adapters; lower learningRate or give more text',
    );
  }
}
