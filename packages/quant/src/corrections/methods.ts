// The closed-form corrections by name, as data: what each reads of the inputs, and the norm it measures the error in.
import { type Backend, energy, gram, peakMeanMagnitude, readFloats, type Statistic, type Tensor } from '@lowbit/core';
import { energyRoot, gramRoot, type InputRoot, identityRoot, magnitudeRoot } from './input-root.js';

export interface ClosedForm {
  /** What a method that uses it must fold over the inputs, by the name under which `root` finds it. */
  readonly statistics: Readonly<Record<string, Statistic>>;
  /**
   * The root for `bestCorrection`. Depends on the inputs alone: Linears that read the same inputs share it.
   * @param dampening that of `gramRoot`; norms that know no more than one number an input have no use for it.
   */
  root(backend: Backend, stats: Readonly<Record<string, Tensor>>, dampening?: number): Promise<InputRoot>;
}

const exact: ClosedForm = {
  statistics: { gram },
  root: async (backend, { gram }, dampening) => gramRoot(backend, await readFloats(gram), gram.shape[0], dampening),
};

/**
 * From the error of the weight to the error of the outputs. 'qera-exact' and 'eora' minimise the same objective and have the same
 * minimum (see `bestCorrection`): two names of one solver. EoRA's truncated eigenvalues stand for directions without inputs, which need
 * no treatment where nothing is inverted.
 */
export const closedForms = {
  svd: { statistics: {}, root: async () => identityRoot },
  l2qer: {
    statistics: { peakMeanMagnitude },
    root: async (_, { peakMeanMagnitude }) => magnitudeRoot(await readFloats(peakMeanMagnitude)),
  },
  'qera-approx': { statistics: { energy }, root: async (_, { energy }) => energyRoot(await readFloats(energy)) },
  'qera-exact': exact,
  eora: exact,
} as const satisfies Readonly<Record<string, ClosedForm>>;

export type ClosedFormName = keyof typeof closedForms;
