// Tuning as a method: the full-precision part of a quantized model and its scales are trained, codes stay.
import { defineMethod, type FinetuneContext, type LinearShape, LowbitError, type Model, materialize } from '@lowbit/core';
import {
  adam,
  cosineRate,
  distillationLoss,
  nextTokenLoss,
  planRounds,
  readWindows,
  Stopwatch,
  type TrainResult,
  train,
  trainingBatches,
  trainingCost,
  windowLoss,
  withParameters,
} from '@lowbit/train';
import { type TuneOptions, tuneOptions } from './options.js';
import { trainableOf } from './trainable.js';

/**
 * Parameter-efficient tuning of QUAD (arXiv 2503.19353): outlier columns and scales are trained on the calibration's text, through codes
 * and rounded activations as they are; gradients pass straight through the rounding. Nothing is added to the model. Without outlier
 * columns (QuaRot) it trains scales, without codes the columns alone: the control in full precision. Free offsets stay.
 */
export const tune = defineMethod({
  name: 'tune',
  version: 2,
  description: 'Outlier columns and scales trained on a task or towards the dense model, codes frozen (QUAD, arXiv 2503.19353)',
  options: tuneOptions,
  check: checkKind,
  cost(work) {
    const { epochs, maxTokens, batchWindows, windowsAtOnce, holdOut, loss } = work.options;
    // Outlier columns are some of the inputs of each Linear, scales one for each group: a sixteenth of the weights is more than either.
    const course = { epochs, maxTokens, batchWindows, windowsAtOnce, holdOut, parameters: work.weights / 16 };
    return trainingCost(work, { ...course, hasTeacher: loss === 'kd' });
  },
  finetune,
  aim: ({ loss }) => (loss === 'ce' ? 'text' : 'reference'),
});

/** Linears as weight quantizers see them: columns beside a dense rest can be trained, a rest of another kind has scales that nobody knows. */
function checkKind({ path, kind }: LinearShape): void {
  if (['dense', 'affine', 'low-rank'].includes(kind)) return;
  throw new LowbitError(
    'LINEAR_NOT_AFFINE',
    `${path}: is '${kind}', whose scales cannot be trained; quantize it by a method that makes affine codes, such as rtn or gptq, or narrow this step's targets`,
  );
}

async function finetune(given: Model, context: FinetuneContext<TuneOptions>): Promise<Model> {
  const { backend, options, rng } = context;
  const model = await materialize(given);
  const trainable = trainableOf(model, context);
  const windows = await readWindows(context.calibration);
  const { batches, judged, heldOut } = trainingBatches(windows, options, rng);
  const tokensPerStep = batches.size * windows.length;
  const { rounds, stepsPerRound } = planRounds(batches.length, options.epochs, Math.floor((options.maxTokens ?? Infinity) / tokensPerStep));
  const steps = rounds * stepsPerRound;
  const lossOf =
    options.loss === 'ce' ? nextTokenLoss : distillationLoss({ backend, teacher: await materialize(context.reference), distance: 'kl' });
  const loss = windowLoss({ backend, model, lossOf, windowsAtOnce: options.windowsAtOnce });
  const { learningRate: peak, warmup, weightDecay, clipNorm } = options;
  const clock = new Stopwatch();
  let stepsHere = 0;
  const result = await train({
    backend,
    parameters: trainable.parameters,
    optimizer: adam({ weightDecay, ...(clipNorm > 0 && { clipNorm }) }),
    lossOf: trainable.lossOf(backend, loss),
    batches,
    epochs: rounds,
    stepsPerEpoch: stepsPerRound,
    shuffle: options.shuffle ? rng.at('shuffle') : undefined,
    learningRate: cosineRate({ peak, warmupSteps: Math.round(warmup * steps) }),
    validation: {
      batches: judged,
      lossOf: { value: (values, batch) => clock.leaveOut(() => loss.value(values, batch)) },
      keep: options.keepBest ? 'best' : 'last',
    },
    storedAs: trainable.storedAs,
    signal: context.signal,
    progress(done, total) {
      stepsHere++;
      context.progress(done, total);
    },
    onEpoch: ({ epoch, loss: trained, validation }) => context.log({ round: epoch, loss: trained, heldOutLoss: validation }),
    saved: context.saved,
    save: context.save,
  });
  const seconds = clock.seconds();
  warnAbout(result, context);
  context.log({
    objective: options.loss,
    outlierParameters: trainable.counts.outlier,
    scaleParameters: trainable.counts.scale,
    windows: windows.count,
    heldOutWindows: heldOut,
    steps,
    tokens: steps * tokensPerStep,
    tokensPerSecond: (stepsHere * tokensPerStep) / seconds,
    losses: result.losses,
    lossBefore: result.validation?.before,
    lossAfter: result.validation?.after,
    keptRound: result.epoch,
  });
  return result.epoch === 0 ? given : withParameters(model, result.parameters);
}

function warnAbout({ diverged, epoch, losses, validation }: TrainResult, { options, warn }: FinetuneContext<TuneOptions>): void {
  if (diverged) {
    warn(
      'TUNE_DIVERGED',
      `a loss or a parameter was not finite after ${losses.length} rounds; round ${epoch} is kept. Lower learningRate, or set clipNorm`,
    );
  }
  if (!validation) return;
  const { before, after } = validation;
  if (after > before || Number.isNaN(after)) {
    const figures = `from ${before.toPrecision(4)} to ${after.toPrecision(4)} nats a token`;
    warn('TUNE_WORSE', `tuning raised the loss of the text that is judged on ${figures}; set keepBest, or lower learningRate`);
  } else if (epoch === 0 && options.keepBest && !diverged) {
    warn('TUNE_NO_GAIN', 'no round was better than the start, which is kept; lower learningRate or give more text');
  }
}
