// Token windows for training, in batches of one shape.
import { LowbitError, type Rng, read, type Tensor, type TokenBatches, tensor } from '@lowbit/core';
import type { Indexed } from './loss.js';
import { splitWindows } from './split-windows.js';

/** Windows in memory. */
export interface Windows {
  /** [count, length] */
  readonly tokens: Int32Array;
  readonly count: number;
  readonly length: number;
}

/** Windows to compute on at once. All batches of a model have one shape, so that they share programs. */
export interface WindowBatch {
  /** int32 [windows, tokens] */
  readonly tokens: Tensor;
  /** Of each window; 0 for one that fills up the last batch. The mean over all batches weighs all windows alike. */
  readonly weights: readonly number[];
}

/** Reads all windows of a calibration. @throws CALIBRATION_WINDOWS when they are not equally long; CALIBRATION_EMPTY. */
export async function readWindows(batches: TokenBatches): Promise<Windows> {
  const parts: Int32Array[] = [];
  let length = 0;
  // At least one batch is asked for, so that an empty calibration says what it lacks.
  for (let i = 0; i < Math.max(1, batches.length); i++) {
    const batch = await batches.at(i);
    const tokens = await read(batch);
    if (!(tokens instanceof Int32Array)) throw new LowbitError('DTYPE', `token windows must be int32, got ${batch.dtype}`);
    const [, own] = batch.shape;
    if (i > 0 && own !== length) {
      const windows = `batch ${i} has windows of ${own} tokens, those before it of ${length}`;
      throw new LowbitError('CALIBRATION_WINDOWS', `${windows}; cut the text into windows of one length, or leave out shorter ones`);
    }
    parts.push(tokens);
    length = own;
  }
  const tokens = new Int32Array(parts.reduce((total, part) => total + part.length, 0));
  let filled = 0;
  for (const part of parts) {
    tokens.set(part, filled);
    filled += part.length;
  }
  return { tokens, count: tokens.length / length, length };
}

/**
 * The windows of a batch by index: `size` of them, the last batch filled up with its own. With their weights: 0 for one that fills up, and
 * such for the others that the mean over all batches weighs all windows alike.
 */
function filledBatch(
  indices: readonly number[],
  size: number,
  batch: number,
): { readonly rows: readonly number[]; readonly weights: readonly number[] } {
  const own = indices.slice(batch * size, (batch + 1) * size);
  const weight = Math.ceil(indices.length / size) / indices.length;
  return {
    rows: Array.from({ length: size }, (_, row) => own[row % own.length]),
    weights: Array.from({ length: size }, (_, row) => (row < own.length ? weight : 0)),
  };
}

/** Some windows, `size` at a time. The last batch is filled up with windows of weight 0. */
export function windowBatches({ tokens, length }: Windows, indices: readonly number[], size: number): Indexed<WindowBatch> {
  return {
    length: Math.ceil(indices.length / size),
    at(batch) {
      const { rows, weights } = filledBatch(indices, size, batch);
      const ids = new Int32Array(size * length);
      for (const [row, index] of rows.entries()) ids.set(tokens.subarray(index * length, (index + 1) * length), row * length);
      return { tokens: tensor(ids, [size, length]), weights };
    },
  };
}

export interface TrainingBatches {
  /** Trained on. */
  readonly batches: Indexed<WindowBatch> & { readonly size: number };
  /** Judged on: held-out windows, or trained ones where none are held out. */
  readonly judged: Indexed<WindowBatch>;
  /** How many windows are held out. */
  readonly heldOut: number;
  readonly all: Indexed<WindowBatch>;
}

/** Windows that a round is judged on at most, the first of those that are held out: more would take longer than the steps between. */
export const JUDGED = 256;

/** The windows of a training. All batches have one shape. */
export function trainingBatches(
  windows: Windows,
  { holdOut, batchWindows, shuffle }: { readonly holdOut: number; readonly batchWindows: number; readonly shuffle: boolean },
  rng: Rng,
): TrainingBatches {
  const { trained, heldOut } = splitWindows(windows.count, holdOut, rng.at('held-out'));
  const size = Math.min(batchWindows, trained.length);
  const order = shuffle ? Array.from(rng.at('windows').permutation(trained.length), (i) => trained[i]) : trained;
  const judged = (heldOut.length > 0 ? heldOut : trained).slice(0, JUDGED);
  return {
    batches: { ...windowBatches(windows, order, size), size },
    judged: windowBatches(windows, judged, size),
    heldOut: heldOut.length,
    all: windowBatches(windows, [...order, ...heldOut], size),
  };
}

/** Rounds of training, each followed by a judgement. */
export interface Rounds {
  readonly rounds: number;
  readonly stepsPerRound: number;
}

/** Judgements in a training of few passes. */
const ROUNDS = 8;

/** One round for each pass over the batches and at least about eight, all of equal length; a few steps at the end may be left out. */
export function planRounds(batches: number, epochs: number, mostSteps: number): Rounds {
  const steps = Math.max(1, Math.min(epochs * batches, mostSteps));
  const stepsPerRound = Math.max(1, Math.min(batches, Math.round(steps / ROUNDS)));
  return { rounds: Math.floor(steps / stepsPerRound), stepsPerRound };
}
