// What a zeroth-order run is made of: four functions. A variant replaces some of them.
import type { Shape } from '@lowbit/core';
import type { Slots } from './update/slots.js';

/**
 * What is trained of a Linear: the integer codes of an affine weight, the scales of its groups, the factors of a low-rank adapter, or a dense
 * float weight.
 */
export type ParameterKind = 'codes' | 'scales' | 'adapters' | 'weights';

/** What may differ from parameter to parameter. */
export interface ParameterSettings {
  /** Perturbation size ε in the parameter's own units; codes: σ, in codes. */
  readonly epsilon: number;
  /** Step size η, before the schedule, in the parameter's own units. */
  readonly learningRate: number;
  /** Bits that a direction of float elements is rounded to. */
  readonly perturbBits: number;
  /** Share of the elements, the largest magnitudes of each tensor, that stay as they are. */
  readonly sparsity: number;
}

/** One tensor that is trained. */
export interface Parameter {
  /** In the model, as `Model.map` calls it. */
  readonly name: string;
  readonly kind: ParameterKind;
  readonly shape: Shape;
  /** Elements. */
  readonly size: number;
  /** Codes: the largest one; they lie in 0 … maxCode. 0 for float tensors. */
  readonly maxCode: number;
  readonly settings: ParameterSettings;
}

/**
 * What numbers are drawn for. 'noise': the direction u; 'round1' and 'round2': two independent roundings of it; 'update': rounding of the
 * step; 'mask': elements that are left out; 'radius': one number for a whole query; 'lazy': what a variant keeps for several steps.
 */
export type Stream = 'noise' | 'round1' | 'round2' | 'update' | 'mask' | 'radius' | 'lazy';

/** The key of a stream: two 32-bit words. The functions of direction/noise.ts draw from it, by index of the element. */
export interface StreamKey {
  readonly low: number;
  readonly high: number;
}

/** Draws of one query of one step. Equal addresses give equal numbers, whatever was drawn elsewhere. */
export interface Draws {
  /** Counted from 1. */
  readonly step: number;
  /** Counted from 0. */
  readonly query: number;
  /** @param tensor a parameter's name; '' for what all parameters share. */
  key(stream: Stream, tensor: string): StreamKey;
  /** Draws of another query. */
  at(step: number, query: number): Draws;
}

/** Buffers for a moment: handed out again after the block, or the parameter, they were taken for. Their contents are arbitrary. */
export interface Scratch {
  int8(size: number): Int8Array;
  float32(size: number): Float32Array;
}

/** Elements `start` to `end` − 1 of a tensor, row by row. */
export interface Part {
  /** A multiple of 32. */
  readonly start: number;
  readonly end: number;
}

/** A direction of one parameter, q = factor · values. */
export interface DirectionValues {
  /** As many as the parameter, or the part of it that was asked for, has elements. */
  readonly values: Int8Array | Float32Array;
  readonly factor: number;
  /** s of E[q qᵀ] = s·I: 1 before rounding, 1 + E[f(1 − f)]·Δ² after it (f: the fraction, Δ: the spacing). */
  readonly secondMoment: number;
}

/**
 * Draws the direction of a parameter, uncorrelated elements of mean 0; u has unit variance.
 * @param rounding the stream that decides how u is rounded; ignored by directions that are not rounded.
 * @param part the elements that are wanted, the same as among all; all unless it is given.
 */
export type Direction = (
  parameter: Parameter,
  draws: Draws,
  rounding: 'round1' | 'round2',
  scratch: Scratch,
  part?: Part,
) => DirectionValues;

/** Losses of one query. */
export interface QueryLosses {
  /** Multiples of ε·q at which the loss was evaluated. */
  readonly radii: readonly number[];
  /** In the same order; mean over the batch, float64. */
  readonly losses: readonly number[];
}

/** From losses to directional derivatives: ĝ = mean over queries of μ · q / s. */
export interface Estimator {
  /** Multiples of ε·q at which the loss is evaluated in a query, [1, −1] for central differences; as many in every query. */
  radii(draws: Draws): readonly number[];
  /** Whether the loss of the unperturbed model is evaluated too, once a step. */
  readonly needsCenter: boolean;
  /** μ of every query of a step. @param center loss of the unperturbed model, where it is needed. */
  slopes(queries: readonly QueryLosses[], epsilon: number, center: number | undefined): number[];
  /** Whether directions are rounded at all. */
  readonly isRounded: boolean;
  /** The rounding of the direction that the update follows; the losses always are of 'round1'. */
  readonly updateRounding: 'round1' | 'round2';
  /** Whether the update divides by the direction's second moment s. */
  readonly isDebiased: boolean;
}

/** One step of one parameter; of a part of it at a time where the carry of codes is rebuilt. */
export interface Update {
  readonly parameter: Parameter;
  /** Elements, changed in place: codes in a Uint8Array, everything else in a Float32Array. */
  readonly values: Uint8Array | Float32Array;
  /** ĝ of these elements, 0 where one is not selected. The updater may write to it. */
  readonly gradient: Float32Array;
  /** η of this step. */
  readonly learningRate: number;
  readonly draws: Draws;
  /** Numbers that the updater keeps for every element from step to step. */
  readonly slots: Slots;
}

/** What became of a step. */
export interface Applied {
  /** Elements that changed. */
  readonly changed: number;
  /** Elements whose step led beyond the grid, or below 0 for scales, and was cut. */
  readonly clamped: number;
}

/** Takes the step −η·ĝ and keeps codes on their grid and scales ≥ 0. */
export type Updater = (update: Update) => Applied;

/** Elements as a selector sees them. */
export interface SelectorInput {
  readonly parameter: Parameter;
  readonly draws: Draws;
  /** Magnitudes of the weights that the elements stand for, or of the elements themselves; computed when asked for, in a buffer of the moment. */
  magnitudes(): Float32Array;
}

/**
 * Which elements are trained: 1 or 0 for each, undefined for all. It is asked at every query and again at the update, before any element
 * of the step has changed, and must answer the same.
 */
export type Selector = (input: SelectorInput, scratch: Scratch) => Int8Array | undefined;

export interface Hooks {
  readonly direction: Direction;
  readonly estimator: Estimator;
  readonly updater: Updater;
  readonly selector: Selector;
}
