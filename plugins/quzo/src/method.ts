// Zeroth-order fine-tuning as a method.
import { checkDense, defineMethod, type FinetuneContext, type LinearShape, LowbitError, type Model, throwIfAborted } from '@lowbit/core';
import { calibrationTask, judgeTask, Stopwatch, type TaskResult, taskTraining } from '@lowbit/train';
import { derivativesOf } from './derivatives.js';
import { Progress, resumedFrom } from './log/progress.js';
import { reopenRun, replaySteps } from './log/replay.js';
import { LOG_FILE, logLines } from './log/text.js';
import type { Trajectory, TrajectoryHeader } from './log/trajectory.js';
import { type QuzoOptions, quzoOptions } from './options.js';
import { planOf } from './perturbation/parameters.js';
import { openRun } from './run.js';
import { RoundStatistics } from './statistics.js';

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

/** Steps in a row whose losses are not finite, after which a run ends. */
const MOST_SKIPPED = 16;

async function finetune(given: Model, context: FinetuneContext<QuzoOptions>): Promise<Model> {
  const { backend, options, rng, signal } = context;
  const plan = planOf(given, context.optionsFor);
  const [low, high] = [rng.at('run', 'low').integers(1, 2 ** 31 - 1)[0], rng.at('run', 'high').integers(1, 2 ** 21)[0]];
  const header: TrajectoryHeader = { format: 'lowbit-quzo', version: 1, runSeed: high * 2 ** 32 + low, options: { ...options }, ...plan };
  const run = await openRun(given, header);
  const start = await run.digest();
  const task = context.task ?? (await calibrationTask(context.calibration, options.holdOut, rng.at('held-out')));
  const { train, dev } = taskTraining(task, options.batchWindows, rng.at('order'));
  const clock = new Stopwatch();
  const judge = (): Promise<TaskResult> => clock.leaveOut(() => judgeTask(backend, run.trained.stored(), dev, signal));

  const progress = context.saved ? resumedFrom(context.saved, { ...header, start }) : new Progress();
  replaySteps(run, progress.records, { signal });
  if (progress.judged.length === 0) progress.judge(0, await judge());
  let round = new RoundStatistics();
  let [resolved, noisy, skipped, skippedNow, taken] = [0, 0, 0, 0, 0];
  for (let step = progress.records.length + 1; step <= options.steps; step++) {
    throwIfAborted(signal);
    const { loss, mu } = await derivativesOf(backend, run, step, await train.at(batchAt(step, train.length, rng)));
    const record = { step, mu: mu ?? [] };
    const applied = run.apply(record);
    progress.records.push(record);
    taken++;
    if (mu) round.add(loss, mu, applied, options.epsilon);
    else round.skip();
    skippedNow = mu ? 0 : skippedNow + 1;
    context.progress(step, options.steps);
    const isOver = step === options.steps || skippedNow === MOST_SKIPPED;
    if (!isOver && step % options.judgeEvery !== 0) continue;
    const result = await judge();
    progress.judge(step, result);
    const tokens = taken * train.size * task.train.length;
    context.log({
      step,
      ...round.record(),
      heldOutLoss: result.loss,
      heldOutAccuracy: result.accuracy,
      learningRate: options.learningRate * run.rateShare(step),
      tokensPerSecond: tokens / clock.seconds(),
    });
    await context.save(progress.entry({ ...header, start }));
    const { resolution } = round;
    resolved += resolution.count;
    noisy += resolution.noisy;
    skipped += round.skipped;
    round = new RoundStatistics();
    if (isOver || progress.judgementsWithoutGain >= (options.patience ?? Infinity)) break;
  }
  const seconds = clock.seconds();

  const kept = options.keepBest ? progress.best.step : progress.records.length;
  warnAbout(context, progress, { kept, resolved, noisy, skipped, hasDiverged: skippedNow === MOST_SKIPPED });
  const trajectory: Trajectory = { ...header, start, records: progress.records.slice(0, kept) };
  context.log({
    parameters: plan.parameters.length,
    elements: run.trained.parameters.reduce((total, { parameter }) => total + parameter.size, 0),
    steps: progress.records.length,
    keptStep: kept,
    skippedSteps: skipped,
    forwardPasses: taken * options.queries * run.hooks.estimator.radii(run.draws).length,
    tokens: taken * train.size * task.train.length,
    tokensPerSecond: (taken * train.size * task.train.length) / seconds,
    lossBefore: progress.judged[0].loss,
    lossAfter: progress.judged.find(({ step }) => step === kept)?.loss,
    accuracyBefore: progress.judged[0].accuracy,
    accuracyAfter: progress.judged.find(({ step }) => step === kept)?.accuracy,
  });
  let made = run;
  if (kept < progress.records.length) {
    // The best state is not kept beside the last one: its steps are taken again, which costs memory nothing and forward passes none.
    made = await reopenRun(given, trajectory);
    replaySteps(made, trajectory.records, { signal });
  }
  context.log({ file: LOG_FILE, lines: logLines({ trajectory, end: await made.digest() }) });
  return kept > 0 ? made.trained.stored() : given;
}

/** The batch of a step, counted from 1: all batches in a drawn order, then in another. */
function batchAt(step: number, count: number, rng: FinetuneContext<QuzoOptions>['rng']): number {
  const pass = Math.floor((step - 1) / count);
  return rng.at('pass', pass).permutation(count)[(step - 1) % count];
}

interface Outcome {
  readonly kept: number;
  readonly resolved: number;
  readonly noisy: number;
  readonly skipped: number;
  readonly hasDiverged: boolean;
}

function warnAbout({ options, warn }: FinetuneContext<QuzoOptions>, { judged }: Progress, outcome: Outcome): void {
  const { kept, resolved, noisy, skipped, hasDiverged } = outcome;
  if (skipped > 0) {
    const end = hasDiverged ? `; the run ended after ${MOST_SKIPPED} of them in a row` : '';
    warn('QUZO_NOT_FINITE', `${skipped} steps had a loss that was not finite and were left out${end}; lower learningRate or epsilon`);
  }
  if (noisy > resolved / 2) {
    warn(
      'QUZO_RESOLUTION',
      `in ${noisy} of ${resolved} queries the two losses differed by little more than float32 can tell; raise epsilon or give larger batches`,
    );
  }
  const before = judged[0].loss;
  const after = judged.find(({ step }) => step === kept)?.loss ?? Number.NaN;
  if (kept === 0) warn('QUZO_NO_GAIN', 'no state was judged better than the start, which is kept; change learningRate or take more steps');
  else if (!(after <= before)) {
    warn(
      'QUZO_WORSE',
      `the loss that is judged on rose from ${before.toPrecision(4)} to ${after.toPrecision(4)} nats; set keepBest, or lower learningRate`,
    );
  }
  if (options.estimator === 'rge2' && options.parameters === 'codes' && options.epsilon < 0.5) {
    warn(
      'QUZO_ROUNDING',
      `two independent roundings of a direction of ${options.epsilon} codes hardly overlap: little signal is left; use estimator 'rge1-debiased'`,
    );
  }
}
