// A run as it stands after some steps: what training, resuming and replaying share.
import type { Model } from '@lowbit/core';
import { checkNames, createDraws } from './direction/keys.js';
import type { Applied, Draws, Hooks } from './hooks.js';
import { hooksOf } from './hooks-of.js';
import { digestOf } from './log/digest.js';
import type { StepRecord, TrajectoryHeader } from './log/trajectory.js';
import { isReplayed, type QuzoOptions, quzoOptions } from './options.js';
import { withAdapters } from './perturbation/adapters.js';
import { createScratch, type ReusedScratch } from './perturbation/scratch.js';
import { type TrainedModel, trainedModel } from './perturbation/trained.js';
import { rateShareOf } from './schedule.js';
import { type LoggedStep, takeStep } from './update/take-step.js';

export interface Run {
  readonly options: QuzoOptions;
  readonly hooks: Hooks;
  readonly draws: Draws;
  readonly trained: TrainedModel;
  readonly scratch: ReusedScratch;
  /** Digest of the model as it is. */
  digest(): Promise<string>;
  rateShare(step: number): number;
  /** Takes a step whose derivatives are known. One without any changes nothing. */
  apply(record: StepRecord): Applied;
}

/** A run before its first step, on the model that its header is about. */
export async function openRun(given: Model, header: TrajectoryHeader): Promise<Run> {
  const { runSeed, parameters, adapters } = header;
  checkNames(
    parameters.map(({ name }) => name),
    runSeed,
  );
  const options = quzoOptions.parse(header.options);
  const trained = await trainedModel(withAdapters(given, adapters, runSeed), { parameters });
  const hooks = hooksOf(options);
  const draws = createDraws(runSeed);
  const scratch = createScratch();
  const rateShare = rateShareOf(options);
  const { epsilon, carryDecay: decay, carryWindow } = options;
  const steps: LoggedStep[] = [];
  const past = isReplayed(options) ? { steps, decay } : undefined;
  return {
    options,
    hooks,
    draws,
    trained,
    scratch,
    rateShare,
    digest: () => digestOf(trained.model),
    apply({ step, mu }) {
      if (mu.length === 0) return { changed: 0, clamped: 0 };
      const logged: LoggedStep = { draws: draws.at(step, 0), mu, rateShare: rateShare(step) };
      const applied = takeStep({ ...logged, trained, hooks, epsilon, scratch, past });
      if (past && steps.push(logged) > carryWindow) steps.shift();
      return applied;
    },
  };
}
