// The loop: losses along directions, steps, judgements, and a log of them.
import { type FinetuneContext, throwIfAborted } from '@lowbit/core';
import { calibrationTask, judgeTask, Stopwatch, taskTraining } from '@lowbit/train';
import { derivativesOf } from './derivatives.js';
import { Progress, resumedFrom, type Start } from './log/progress.js';
import { replaySteps } from './log/replay.js';
import { logRecord } from './log/text.js';
import type { QuzoOptions } from './options.js';
import type { Run } from './run.js';
import { RoundStatistics } from './statistics.js';

export interface Training {
  readonly progress: Progress;
  /** Of this process: an interrupted run has spent more. */
  readonly forwardPasses: number;
  readonly tokens: number;
  /** Tokens of the batches, each counted once, in the time of steps alone. */
  readonly tokensPerSecond: number;
}

/** Takes the run to its last step, from where an interrupted one has come. */
export async function train(run: Run, start: Start, context: FinetuneContext<QuzoOptions>): Promise<Training> {
  const { backend, options, rng, signal } = context;
  const task = context.task ?? (await calibrationTask(context.calibration, options.holdOut, rng.at('held-out')));
  const { train: batches, dev } = taskTraining(task, options.batchWindows, rng.at('order'));
  const tokensPerStep = batches.size * task.train.length;
  const progress = context.saved ? resumedFrom(context.saved, start) : new Progress();
  replaySteps(run, progress.records, { signal });

  const { radii, needsCenter } = run.hooks.estimator;
  const passesPerStep = options.queries * radii(run.draws).length + (needsCenter ? 1 : 0);
  const clock = new Stopwatch();
  const spent = (steps: number): Omit<Training, 'progress'> => ({
    forwardPasses: steps * passesPerStep,
    tokens: steps * tokensPerStep,
    tokensPerSecond: (steps * tokensPerStep) / clock.seconds(),
  });
  let round = new RoundStatistics();
  let [taken, resolved, noisy] = [0, 0, 0];
  const judge = async (): Promise<void> => {
    const step = progress.records.length;
    const { loss, accuracy } = await clock.leaveOut(() => judgeTask(backend, run.trained.stored(), dev, signal));
    progress.judge(step, { loss, accuracy });
    if (step === 0) return;
    const rates = { learningRate: options.learningRate * run.rateShare(step), tokensPerSecond: spent(taken).tokensPerSecond };
    context.log({ step, ...round.record(), heldOutLoss: loss, heldOutAccuracy: accuracy, ...rates });
    await clock.leaveOut(() => context.save(progress.entry(start)));
    resolved += round.queries;
    noisy += round.noisy;
    round = new RoundStatistics();
  };
  const takeStep = async (): Promise<void> => {
    throwIfAborted(signal);
    const step = progress.records.length + 1;
    const found = await derivativesOf(backend, run, step, await batches.at(batchAt(step, batches.length, rng)));
    const record = { step, mu: found.mu ?? [] };
    round.add(found, run.apply(record));
    progress.records.push(record);
    taken++;
    context.progress(step, options.steps);
  };
  try {
    // A run may have been stopped between a step and its judgement.
    if (progress.isDue(options)) await judge();
    while (!progress.isOver(options)) {
      await takeStep();
      if (progress.isDue(options)) await judge();
    }
  } catch (error) {
    // What Ctrl-C stops goes on from the last step that was taken, and leaves a log up to it; what is killed, from its last judgement.
    if (signal?.aborted) {
      await context.save(progress.entry(start));
      if (progress.records.length > 0)
        context.log(logRecord({ trajectory: { ...start, records: progress.records }, end: await run.digest() }));
    }
    throw error;
  }
  if (noisy > resolved / 2) {
    context.warn(
      'QUZO_RESOLUTION',
      `in ${noisy} of ${resolved} queries the losses differed by little more than float32 can tell; raise epsilon or give larger batches`,
    );
  }
  return { progress, ...spent(taken) };
}

/** The batch of a step, counted from 1: all batches in a drawn order, then in another. */
function batchAt(step: number, count: number, rng: FinetuneContext<QuzoOptions>['rng']): number {
  const pass = Math.floor((step - 1) / count);
  return rng.at('pass', pass).permutation(count)[(step - 1) % count];
}
