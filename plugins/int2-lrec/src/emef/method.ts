// EMEF as a method: adapters trained on a task, straight on packed codes.
import { defineMethod, type FinetuneContext, type Model } from '@lowbit/core';
import { adam, planRounds, Stopwatch, type TrainResult, train, withParameters } from '@lowbit/train';
import { attachAdapters } from '../adapters/attach.js';
import { sizedByOverrides } from '../adapters/overrides.js';
import { checkRank } from '../adapters/ranks.js';
import { storedFactors } from '../adapters/stored-factors.js';
import { adapterTrainingCost } from '../cost.js';
import { learningRateOf } from '../lrec/learning-rate.js';
import { finetuningLoss } from './finetuning-loss.js';
import { type Material, taskMaterial, windowMaterial } from './material.js';
import { type EmefOptions, emefOptions } from './options.js';
import { packedModel } from './packed-model.js';
import { skippingZeros } from './skip-step.js';

/**
 * EMEF (arXiv 2306.08162): LoRA fine-tuning of a quantized model on the run's task, or on the calibration's text where there is none. In memory are packed codes, scales and adapters;
 * weights are dequantized some rows at a time, in the forward and again in the backward pass. Layers that are not quantized are trained on
 * as they are.
 *
 * A run without a store keeps the codes of the steps before in memory too, a byte each; with one they are read from it, block by block.
 */
export const emef = sizedByOverrides(
  defineMethod({
    name: 'emef',
    version: 1,
    description: 'LoRA fine-tuning on packed codes, in the memory of the codes',
    options: emefOptions,
    check: checkRank,
    cost: (work) => adapterTrainingCost(work, false),
    finetune: tune,
    aim: 'task',
  }),
);

async function tune(given: Model, context: FinetuneContext<EmefOptions>): Promise<Model> {
  return context.task ? tuneOn(given, context, taskMaterial(context.task, context)) : tuneOn(given, context, await windowMaterial(context));
}

async function tuneOn<Batch>(given: Model, context: FinetuneContext<EmefOptions>, material: Material<Batch>): Promise<Model> {
  const { backend, options, rng } = context;
  const { batches, judged, tokensPerStep } = material;
  const adapters = attachAdapters(given, context.optionsFor, rng.at('adapters'));
  const packed = await packedModel(adapters.model);
  const { rounds, stepsPerRound } = planRounds(batches.length, options.epochs, Math.floor((options.maxTokens ?? Infinity) / tokensPerStep));
  let [steps, skipped] = [0, 0];
  const loss = finetuningLoss({
    model: packed.model,
    lossWith: (modelAt) => material.lossOf(backend, packed.model, modelAt),
    dropout: (path) => context.optionsFor(path)?.dropout ?? 0,
    rng: rng.at('dropout'),
    onSkip: () => skipped++,
  });
  const clock = new Stopwatch();
  const { weightDecay, clipNorm } = options;
  const result = await train({
    backend,
    parameters: adapters.parameters,
    optimizer: skippingZeros(adam({ weightDecay, ...(clipNorm > 0 && { clipNorm }) })),
    lossOf: loss,
    batches,
    epochs: rounds,
    stepsPerEpoch: stepsPerRound,
    shuffle: options.shuffle ? rng.at('shuffle') : undefined,
    learningRate: learningRateOf(options, rounds * stepsPerRound),
    validation: {
      batches: judged,
      lossOf: { value: (factors, batch) => clock.leaveOut(() => loss.value(factors, batch)) },
      keep: options.keepBest ? 'best' : 'last',
    },
    storedAs: (factors) => storedFactors(factors, adapters.dtypes),
    signal: context.signal,
    progress(done, total) {
      steps++;
      context.progress(done, total);
    },
    onEpoch: ({ epoch, loss: trained, validation }) => context.log({ round: epoch, loss: trained, heldOutLoss: validation }),
    saved: context.saved,
    save: context.save,
  });
  const seconds = clock.seconds();
  warnAbout(result, skipped, context);
  context.log({
    ...material.record,
    steps: rounds * stepsPerRound,
    skippedSteps: skipped,
    tokens: rounds * stepsPerRound * tokensPerStep,
    tokensPerSecond: (steps * tokensPerStep) / seconds,
    losses: result.losses,
    lossBefore: result.validation?.before,
    lossAfter: result.validation?.after,
    keptRound: result.epoch,
    adapterBits: adapters.bits,
    overhead: adapters.overhead,
    ranks: [...new Set(adapters.ranks.values())].sort((a, b) => a - b),
    packedLinears: packed.linears,
    packedBytes: packed.bytes,
  });
  return withParameters(adapters.model, result.parameters);
}

function warnAbout(
  { diverged, epoch, losses, validation }: TrainResult,
  skipped: number,
  { options, warn }: FinetuneContext<EmefOptions>,
): void {
  if (skipped > 0) warn('EMEF_SKIPPED', `${skipped} steps had gradients that were not finite and were left out; lower learningRate`);
  if (diverged) {
    warn(
      'EMEF_DIVERGED',
      `a loss or an adapter was not finite after ${losses.length} rounds; round ${epoch} is kept. Lower learningRate, or set clipNorm`,
    );
  }
  if (!validation) return;
  const { before, after } = validation;
  if (after > before || Number.isNaN(after)) {
    const figures = `from ${before.toPrecision(4)} to ${after.toPrecision(4)} nats a token`;
    warn(
      'EMEF_WORSE',
      `fine-tuning raised the cross-entropy of the text that is judged on ${figures}; set keepBest, or lower learningRate`,
    );
  } else if (epoch === 0 && options.keepBest && !diverged) {
    warn('EMEF_NO_GAIN', 'no round was better than the start, which is kept; lower learningRate or give more text');
  }
}
