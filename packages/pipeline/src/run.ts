// What all stages of a run share, and the context that a stage of a method is given.
import { setImmediate } from 'node:timers/promises';
import {
  type Backend,
  type FinetuneTask,
  type Linear,
  LowbitError,
  type MethodContext,
  type Rng,
  type RunEvent,
  type TokenBatches,
  throwIfAborted,
} from '@lowbit/core';
import type { PlannedStep } from './plan.js';
import type { RunStorage } from './run-storage.js';

/** What feeds the next block: outputs of the block as quantized, or as it was before the step. */
export type Propagation = 'quantized' | 'dense';

/** The same layer rounded to nearest in the representation of `quantized`, where that can be told. */
export type NearestRounding = (original: Linear, quantized: Linear, path: string) => Promise<Linear | undefined> | Linear | undefined;

export interface Run {
  /** Yields to the event loop and checks the signal before every evaluation. */
  readonly backend: Backend;
  readonly rng: Rng;
  readonly calibration: TokenBatches;
  readonly task: FinetuneTask | undefined;
  readonly propagate: Propagation;
  readonly signal: AbortSignal | undefined;
  readonly nearest: NearestRounding | undefined;
  /** A Linear that fewer calibration tokens reach is rounded to nearest. */
  readonly minTokens: number;
  /** Where finished blocks go. */
  readonly storage: RunStorage | undefined;
  /** Bytes of activations that are kept in memory; more go to the store. */
  readonly memory: number;
  emit(event: RunEvent): void;
  /** What was told about the weights since the last call. */
  told(): RunEvent[];
}

export type Stage = 'transform' | 'quantize' | 'refine' | 'finetune';

/** Store key of what a run keeps for one stage of one step. */
export function entryKey(step: number, stage: string, path: string): string {
  return `step-${step}/${stage}/${path}`;
}

/** The part of the context that all stages share. */
export async function methodContext<Options>(
  run: Run,
  { index }: PlannedStep,
  stage: Stage,
  path: string,
  options: Options,
  progress?: MethodContext<Options>['progress'],
): Promise<MethodContext<Options>> {
  const { storage, signal, emit } = run;
  const key = entryKey(index, `${stage}-state`, path);
  const saved = await storage?.get(key);
  // Once its block, or the model it makes, has been stored, the stage is not entered again; a transform is, and any without kinds.
  const outdate = (): void => {
    if (storage?.kinds && stage !== 'transform') storage.outdate(key);
  };
  if (saved) outdate();
  return {
    backend: run.backend,
    options,
    rng: run.rng.at('step', index, path, stage),
    signal,
    progress: progress ?? ((done, total) => emit({ type: 'progress', step: index, stage, path, done, total })),
    saved,
    save: async (entry) => {
      await storage?.put(key, entry);
      outdate();
    },
    log: (record) => emit({ type: 'log', step: index, path, record }),
    warn: (code, message) => emit({ type: 'warning', step: index, path, code, message }),
  };
}

/** Runs a stage and says in its errors which step and path they come from. */
export async function inStage<T>({ index, step }: PlannedStep, path: string, stage: () => Promise<T>): Promise<T> {
  try {
    return await stage();
  } catch (error) {
    if (error instanceof LowbitError && (error.code === 'ABORTED' || error.message.includes(path))) throw error;
    const code = error instanceof LowbitError ? error.code : 'METHOD_FAILED';
    const message = error instanceof Error ? error.message.replace(`${code}: `, '') : String(error);
    throw new LowbitError(code, `step ${index} (${step.method.name}) at ${path}: ${message}`, { cause: error });
  }
}

/**
 * The backend as stages see it. An engine may block the event loop while it computes, so each evaluation first lets timers,
 * signals and the progress bar run, then stops if the run was cancelled.
 */
export function interruptible(backend: Backend, signal: AbortSignal | undefined): Backend {
  return {
    name: backend.name,
    fingerprint: backend.fingerprint,
    get statistics() {
      return backend.statistics;
    },
    async evaluate(tensors, options) {
      await setImmediate();
      throwIfAborted(signal);
      return backend.evaluate(tensors, options);
    },
    dispose: () => backend.dispose(),
  };
}
