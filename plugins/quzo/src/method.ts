// Zeroth-order fine-tuning as a method.
import { checkDense, defineMethod, type FinetuneContext, type LinearShape, LowbitError, type Model } from '@lowbit/core';
import { quzoCost } from './cost.js';
import type { Progress } from './log/progress.js';
import { reopenRun, replaySteps } from './log/replay.js';
import { logRecord } from './log/text.js';
import type { Trajectory, TrajectoryHeader } from './log/trajectory.js';
import { type QuzoOptions, quzoOptions } from './options.js';
import { planOf } from './perturbation/parameters.js';
import { openRun } from './run.js';
import { train } from './train.js';

/**
 * QuZO (arXiv 2502.12346) and its relatives: fine-tuning by forward passes alone. Codes stay codes; activations are those of one block; what a
 * step leaves behind is a few numbers, and the log of a run rebuilds its result.
 */
export const quzo = defineMethod({
  name: 'quzo',
  version: 1,
  description: 'Zeroth-order fine-tuning of codes, scales, adapters or dense weights: forward passes alone (QuZO, arXiv 2502.12346)',
  options: quzoOptions,
  check,
  cost: quzoCost,
  finetune,
  aim: 'task',
});

function check(shape: LinearShape, { parameters, rank }: QuzoOptions): void {
  const { path, kind, inFeatures, outFeatures } = shape;
  if (parameters === 'weights' && kind === 'affine') checkDense(shape);
  if ((parameters === 'codes' || parameters === 'scales') && kind === 'dense') {
    throw new LowbitError(
      'LINEAR_NOT_AFFINE',
      `${path}: is dense and has no ${parameters}; quantize it before this step, by rtn or gptq for example, or narrow this step's targets`,
    );
  }
  if (parameters === 'adapters' && rank > Math.min(inFeatures, outFeatures)) {
    throw new LowbitError('ADAPTER_RANK', `${path}: [${outFeatures}, ${inFeatures}] has no adapter of rank ${rank}; lower rank`);
  }
}

async function finetune(given: Model, context: FinetuneContext<QuzoOptions>): Promise<Model> {
  const { options, rng, signal } = context;
  const plan = planOf(given, context.optionsFor);
  const [low, high] = [rng.at('run', 'low').integers(1, 2 ** 31 - 1)[0], rng.at('run', 'high').integers(1, 2 ** 21)[0]];
  const header: TrajectoryHeader = { format: 'lowbit-quzo', version: 1, runSeed: high * 2 ** 32 + low, options: { ...options }, ...plan };
  const run = await openRun(given, header);
  const start = { ...header, start: await run.digest() };
  const { progress, ...spent } = await train(run, start, context);
  const { records, judged } = progress;
  const kept = options.keepBest ? progress.best.step : records.length;
  const [before, after] = [judged[0], judged.find(({ step }) => step === kept)];
  warnAbout(context, progress, kept);
  context.log({
    parameters: plan.parameters.length,
    elements: run.trained.parameters.reduce((total, { parameter }) => total + parameter.size, 0),
    steps: records.length,
    keptStep: kept,
    skippedSteps: progress.skipped,
    ...spent,
    lossBefore: before.loss,
    lossAfter: after?.loss,
    accuracyBefore: before.accuracy,
    accuracyAfter: after?.accuracy,
  });
  const trajectory: Trajectory = { ...start, records: records.slice(0, kept) };
  let made = run;
  if (kept < records.length) {
    // The best state is not kept beside the last one: its steps are taken again, which costs memory nothing and forward passes none.
    made = await reopenRun(given, trajectory);
    replaySteps(made, trajectory.records, { signal });
  }
  context.log(logRecord({ trajectory, end: await made.digest() }));
  return kept > 0 ? made.trained.stored() : given;
}

function warnAbout({ options, warn }: FinetuneContext<QuzoOptions>, { judged, skipped, hasDiverged }: Progress, kept: number): void {
  if (skipped > 0) {
    const end = hasDiverged ? '; the run ended after many of them in a row' : '';
    warn(
      'QUZO_NOT_FINITE',
      `${skipped} steps had a loss or a derivative that was not finite and were left out${end}; lower learningRate, or change epsilon`,
    );
  }
  const before = judged[0].loss;
  const after = judged.find(({ step }) => step === kept)?.loss ?? Number.NaN;
  if (kept === 0) {
    warn('QUZO_NO_GAIN', 'no state was judged better than the start, which is kept; change learningRate or take more steps');
  } else if (!(after <= before)) {
    const figures = `from ${before.toPrecision(4)} to ${after.toPrecision(4)} nats`;
    warn('QUZO_WORSE', `the loss that is judged on rose ${figures}; set keepBest, or lower learningRate`);
  }
  if (options.estimator === 'rge2' && options.parameters === 'codes' && options.epsilon < 0.5) {
    warn(
      'QUZO_ROUNDING',
      `two independent roundings of a direction of ${options.epsilon} codes hardly overlap, and little signal is left; use estimator 'rge1-debiased'`,
    );
  }
}
