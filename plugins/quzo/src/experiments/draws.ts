// Parameters, buffers and seeds for experiments that draw directions without a model.
import type { Rng } from '@lowbit/core';
import type { Parameter, ParameterKind, ParameterSettings, Scratch } from '../hooks.js';

/** New buffers each time: what is drawn is kept. */
export const freshScratch: Scratch = {
  int8: (size) => new Int8Array(size),
  float32: (size) => new Float32Array(size),
};

/** A parameter that stands for any of its size. */
export function parameterOf(name: string, kind: ParameterKind, size: number, settings: Partial<ParameterSettings>): Parameter {
  const defaults: ParameterSettings = { epsilon: 1, learningRate: 0, perturbBits: 8, sparsity: 0 };
  return { name, kind, shape: [size], size, maxCode: kind === 'codes' ? 255 : 0, settings: { ...defaults, ...settings } };
}

export function runSeedOf(rng: Rng): number {
  return rng.at('directions').integers(1, 2 ** 31)[0];
}

export function dot(a: Float64Array, b: Float64Array): number {
  let sum = 0;
  for (let i = 0; i < a.length; i++) sum += a[i] * b[i];
  return sum;
}
