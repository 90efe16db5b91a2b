// Quantization-aware fine-tuning of the whole model as a method.
import { defineMethod, type FinetuneContext, type FinetuneTask, type LinearShape, type Model, materialize } from '@lowbit/core';
import { checkGroups } from '@lowbit/quant';
import { meanLoss, type Resumption, Stopwatch, searchRates, type TrainResult, train } from '@lowbit/train';
import { qatCost } from './cost.js';
import { optimizerOf, ratesOf, ratesRead, roundsOf, scheduleOf } from './course.js';
import { keptGrids } from './kept-grids.js';
import { type Material, taskMaterial, windowMaterial } from './material.js';
import { type QatOptions, qatOptions } from './options.js';
import { countsOf, type Judged, keepsGiven, outcomeRecord, warnAbout } from './outcome.js';
import { withLinearOverrides } from './overrides.js';
import { hasDenseTarget } from './parts.js';
import { type Prepared, prepareModel } from './prepare.js';
import { checkTrainable } from './quantizer/select.js';

/**
 * Weights behind codes, scales and offsets are trained together, through the rounding (straight-through, LSQ); or scales alone, codes
 * frozen. From dense Linears, or from what a post-training method has made of them.
 */
export const qat = withLinearOverrides(
  defineMethod({
    name: 'qat',
    version: 1,
    description: 'Quantization-aware fine-tuning: weights, scales and offsets trained through the rounding, end to end',
    options: qatOptions,
    makes: 'affine',
    check: checkLinear,
    cost: (work) => qatCost(work, { hasTeacher: work.options.objective !== 'ce', windowsAtOnce: work.options.windowsAtOnce }),
    finetune: (model, context) =>
      context.task && context.options.objective === 'ce'
        ? tune(model, context, () => Promise.resolve(taskMaterial(context.task as FinetuneTask, context)))
        : tune(model, context, windowMaterial),
    aim: ({ objective }) => (objective === 'ce' ? 'task' : 'reference'),
  }),
);

/** @throws LINEAR_NOT_AFFINE, LINEAR_NOT_DENSE or GROUP_SIZE, naming the path. */
export function checkLinear(shape: LinearShape, options: Pick<QatOptions, 'train' | 'quantizer' | 'groupSize'>): void {
  // What lies within a low-rank correction is known later.
  if (shape.kind === 'low-rank') return;
  checkTrainable(shape, options);
  if (shape.kind === 'dense') checkGroups(shape, options.groupSize);
}

type Context = FinetuneContext<QatOptions>;

async function tune<Batch>(
  lazy: Model,
  shared: Context,
  materialOf: (model: Model, context: Context) => Promise<Material<Batch>>,
): Promise<Model> {
  const model = await materialize(lazy);
  // The first step of a recipe is given the reference itself, which is read once then.
  const context = shared.reference === lazy ? { ...shared, reference: model } : shared;
  const { backend, options, signal, log, warn } = context;
  const kept = keptGrids(model.blocks, context.optionsFor, qatOptions.parse({ preset: options.preset }));
  if (kept !== undefined) warn('QAT_GRID_KEPT', kept);
  const prepared = await prepareModel(
    model,
    { backend, signal, optionsFor: context.optionsFor, trainNorms: options.trainNorms },
    context.referenceBlock,
  );
  const material = await materialOf(model, context);
  const { rounds, stepsPerRound } = roundsOf(options, material.batches.length, material.tokensPerStep);
  const given = canKeep(model, context) ? await meanLoss(backend, new Map(), material.lossOf(model), material.judged, signal) : undefined;
  const clock = new Stopwatch();
  const work: Work<Batch> = { context, material, prepared, rounds, stepsPerRound, clock, stepsHere: 0 };
  const found = await searchRates({
    rates: ratesOf(options),
    train: (rate, resumption) => trainAt(work, rate, resumption),
    lossOf: ({ validation }) => validation?.after ?? Number.NaN,
    saved: context.saved,
    save: context.save,
    progress: context.progress,
  });
  const { result } = found.best;
  const { before: start, after } = result.validation as NonNullable<TrainResult['validation']>;
  const judged: Judged = { given, start, after };
  const counts = countsOf(prepared);
  const rates = ratesRead(options, counts, found.best.rate);
  warnAbout(found, judged, { options, warn, rates });
  log({
    objective: options.objective,
    parameters: counts,
    ...material.record,
    tokens: result.losses.length * stepsPerRound * material.tokensPerStep,
    tokensPerSecond: (work.stepsHere * material.tokensPerStep) / clock.seconds(),
    ...outcomeRecord(found, judged, { rates, stepsPerRound }),
  });
  return keepsGiven(judged) ? lazy : prepared.convert(result.parameters);
}

/** Whether the model that was given may be handed back: nothing of it was to be quantized. */
function canKeep({ blocks }: Model, { options, optionsFor }: Context): boolean {
  return options.keepBest && !blocks.some((block) => hasDenseTarget(block, (path) => optionsFor(path) !== undefined));
}

/** What trainings with several rates share. */
interface Work<Batch> {
  readonly context: Context;
  readonly material: Material<Batch>;
  readonly prepared: Prepared<Model>;
  readonly rounds: number;
  readonly stepsPerRound: number;
  /** Of training, judgements left out. */
  readonly clock: Stopwatch;
  /** Steps taken by this process. */
  stepsHere: number;
}

function trainAt<Batch>(work: Work<Batch>, rate: number, resumption: Resumption): Promise<TrainResult> {
  const { context, material, prepared, rounds, stepsPerRound, clock } = work;
  const { backend, options, rng, signal } = context;
  const loss = prepared.lossOf(material.lossOf(prepared.shell));
  return train({
    backend,
    signal,
    parameters: prepared.parameters,
    optimizer: optimizerOf(options, prepared),
    lossOf: loss,
    batches: material.batches,
    epochs: rounds,
    stepsPerEpoch: stepsPerRound,
    shuffle: options.shuffle ? rng.at('shuffle') : undefined,
    learningRate: scheduleOf(options, rate, rounds * stepsPerRound),
    validation: {
      batches: material.judged,
      lossOf: { value: (values, batch) => clock.leaveOut(() => loss.value(values, batch)) },
      keep: options.keepBest ? 'best' : 'last',
      patience: options.patience > 0 ? options.patience : undefined,
    },
    onEpoch({ epoch, loss: trained, validation }) {
      const rates = ratesRead(options, countsOf(prepared), rate);
      context.log({ round: epoch, step: epoch * stepsPerRound, ...rates, loss: trained, heldOutLoss: validation });
    },
    ...resumption,
    progress(done, total) {
      work.stepsHere++;
      resumption.progress?.(done, total);
    },
  });
}
