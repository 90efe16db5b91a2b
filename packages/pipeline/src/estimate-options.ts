// What an estimate is made from, and the sizes that follow from it at once.
import { lazyTensor, type Model, type Recipe, type Tensor } from '@lowbit/core';
import type { PlannedStep } from './plan.js';
import type { Propagation } from './run.js';

/** Data that a run computes on. */
export interface WindowCounts {
  readonly windows: number;
  /** Of each window. */
  readonly tokens: number;
}

export interface EstimateOptions {
  readonly model: Model;
  readonly recipe: Recipe;
  /** Windows that the recipe is given, and how many are computed on at once; undefined when it reads none. */
  readonly calibration: (WindowCounts & { readonly batch: number }) | undefined;
  /** Examples of the task that steps are tuned for. */
  readonly task?: WindowCounts | undefined;
  readonly propagate: Propagation;
  /** Whether finished blocks go to a store; without one they stay in memory. */
  readonly hasStore: boolean;
  /** Bytes of activations that stay in memory; those beyond lie in the store. */
  readonly memory: number;
}

/** Bytes of a float32. */
export const FLOAT = 4;

/** A stand-in for activations, which are never read. */
export function stream(windows: number, tokens: number, width: number): Tensor {
  return lazyTensor([windows, tokens, width], 'float32', () => new Float32Array());
}

/** Bytes of the activations between two blocks, all windows. */
export function streamBytes({ step }: PlannedStep, { model, calibration }: EstimateOptions): number {
  if (!calibration || !(step.method.quantizeLinear || step.method.refineBlock)) return 0;
  return FLOAT * calibration.windows * calibration.tokens * model.width;
}
