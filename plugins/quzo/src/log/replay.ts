// Rebuilds what a run made, without data and without a forward pass.
import { LowbitError, type Model, throwIfAborted } from '@lowbit/core';
import { openRun, type Run } from '../run.js';
import { parseTrajectory, type StepRecord, type Trajectory } from './trajectory.js';

export interface ReplayOptions {
  readonly signal?: AbortSignal | undefined;
  /** Digest of the model after the last step, if it is to be verified. */
  readonly end?: string | undefined;
  progress?(done: number, total: number): void;
}

/**
 * The model that a run ended with, bit for bit: the same steps on the model that the run was given. Draws are addressed, so neither threads
 * nor the order of tensors matter.
 * @throws REPLAY_LOG for what is not a log; REPLAY_PARAMETER and REPLAY_MODEL when the model is not the one that the run was given;
 * REPLAY_END when the steps lead elsewhere.
 */
export async function replayLog(model: Model, log: unknown, options: ReplayOptions = {}): Promise<Model> {
  const trajectory = parseTrajectory(log);
  const run = await reopenRun(model, trajectory);
  replaySteps(run, trajectory.records, options);
  if (options.end !== undefined) await verifyEnd(run, options.end);
  return trajectory.records.length > 0 ? run.trained.stored() : model;
}

async function verifyEnd(run: Run, end: string): Promise<void> {
  const digest = await run.digest();
  if (digest === end) return;
  throw new LowbitError(
    'REPLAY_END',
    `quzo: the run ended with a model of digest ${end}, the steps of the log lead to ${digest}; its options or a step were changed, or another version of quzo wrote it`,
  );
}

/** The run before its first step. */
export async function reopenRun(model: Model, { start, records: _, ...header }: Trajectory): Promise<Run> {
  const run = await openRun(model, header);
  const digest = await run.digest();
  if (digest === start) return run;
  throw new LowbitError(
    'REPLAY_MODEL',
    `quzo: the run began with a model of digest ${start}, this one has ${digest}; give the model that the run was given, with the same earlier steps`,
  );
}

export function replaySteps(run: Run, records: readonly StepRecord[], { signal, progress }: ReplayOptions): void {
  for (const [i, record] of records.entries()) {
    throwIfAborted(signal);
    run.apply(record);
    progress?.(i + 1, records.length);
  }
}
