// The dense model's answers: computed beside the student, or kept once for every window.
import { createHash } from 'node:crypto';
import {
  type Backend,
  klDivergence,
  LowbitError,
  type Model,
  materialize,
  read,
  readFloats,
  softmax,
  type Tensor,
  tensor,
} from '@lowbit/core';
import { type Indexed, lastHidden, type WindowBatch } from '@lowbit/train';
import { type TopTokens, topDivergence, topTokens } from './top-k.js';

/** What the teacher says of a batch, for pieces of its positions as `modelGradients` of @lowbit/train counts them. */
interface Targets {
  /** KL(teacher‖student) at the positions, [positions], from the student's logits for them. */
  divergence(logits: Tensor, start: number, end: number): Tensor;
  /** The teacher's hidden state after the last norm, [positions, width]; undefined where only probabilities are known. */
  readonly hidden: ((start: number, end: number) => Tensor) | undefined;
}

export interface Teacher {
  targetsOf(tokens: Tensor): Promise<Targets>;
}

/** Runs the dense model for every batch that is asked for; its weights stay in memory. */
export async function liveTeacher(backend: Backend, dense: Model): Promise<Teacher> {
  const model = await materialize(dense);
  return {
    async targetsOf(tokens) {
      const hidden = await readFloats(await lastHidden(backend, model, tokens));
      const width = hidden.length / tokens.size;
      const piece = (start: number, end: number): Tensor => tensor(hidden.subarray(start * width, end * width), [end - start, width]);
      return {
        divergence: (logits, start, end) => klDivergence(model.logits(piece(start, end)), logits),
        hidden: (start, end) => model.norm.forward(piece(start, end)),
      };
    },
  };
}

/** Teacher probabilities that exist at one time. */
const PROBABILITIES = 2 ** 23;

/**
 * Runs the dense model once over all windows and keeps the most probable tokens of every position, under a hash of the window's own
 * tokens: a window that has changed finds nothing. 8 bytes for each token kept.
 * @throws TEACHER_CACHE from `targetsOf`, when a window was not among the cached ones.
 */
export async function cachedTeacher(backend: Backend, dense: Model, batches: Indexed<WindowBatch>, topK: number): Promise<Teacher> {
  const model = await materialize(dense);
  const kept = new Map<string, TopTokens>();
  for (let i = 0; i < batches.length; i++) {
    const { tokens } = await batches.at(i);
    const found = await windowTops(backend, model, tokens, topK);
    for (const [row, window] of (await windowsIn(tokens)).entries()) kept.set(hashOf(window), found[row]);
  }
  return {
    async targetsOf(tokens) {
      const windows = (await windowsIn(tokens)).map((window, row) => {
        const found = kept.get(hashOf(window));
        if (found) return found;
        throw new LowbitError(
          'TEACHER_CACHE',
          `lrec: window ${row} of the batch has no cached answers: its tokens are not those that were cached; make the cache anew`,
        );
      });
      const all = joined(windows);
      return { divergence: (logits, start, end) => topDivergence(logits, sliced(all, start, end)), hidden: undefined };
    },
  };
}

/** Top tokens of every window of a batch. */
async function windowTops(backend: Backend, model: Model, tokens: Tensor, topK: number): Promise<TopTokens[]> {
  const [count, length] = tokens.shape;
  const hidden = await readFloats(await lastHidden(backend, model, tokens));
  const width = hidden.length / tokens.size;
  const vocabulary = model.config.vocabularySize;
  const most = Math.max(1, Math.floor(PROBABILITIES / vocabulary));
  const size = Math.ceil(tokens.size / Math.ceil(tokens.size / most));
  const pieces: TopTokens[] = [];
  for (let start = 0; start < tokens.size; start += size) {
    const end = Math.min(start + size, tokens.size);
    const rows = tensor(hidden.subarray(start * width, end * width), [end - start, width]);
    const [probabilities] = await backend.evaluate([softmax(model.logits(rows))]);
    pieces.push(topTokens(await readFloats(probabilities), vocabulary, topK));
  }
  const all = joined(pieces);
  return Array.from({ length: count }, (_, row) => sliced(all, row * length, (row + 1) * length));
}

function joined(parts: readonly TopTokens[]): TopTokens {
  const [first] = parts;
  if (parts.length === 1) return first;
  const concatenated = <T extends Int32Array | Float32Array>(arrays: readonly T[], empty: T): T => {
    let filled = 0;
    for (const array of arrays) {
      empty.set(array, filled);
      filled += array.length;
    }
    return empty;
  };
  const positions = parts.reduce((total, { tail }) => total + tail.length, 0);
  return {
    k: first.k,
    tokens: concatenated(
      parts.map((part) => part.tokens),
      new Int32Array(positions * first.k),
    ),
    probabilities: concatenated(
      parts.map((part) => part.probabilities),
      new Float32Array(positions * first.k),
    ),
    tail: concatenated(
      parts.map((part) => part.tail),
      new Float32Array(positions),
    ),
  };
}

function sliced({ k, tokens, probabilities, tail }: TopTokens, start: number, end: number): TopTokens {
  return {
    k,
    tokens: tokens.subarray(start * k, end * k),
    probabilities: probabilities.subarray(start * k, end * k),
    tail: tail.subarray(start, end),
  };
}

async function windowsIn(tokens: Tensor): Promise<Int32Array[]> {
  const [count, length] = tokens.shape;
  const ids = (await read(tokens)) as Int32Array;
  return Array.from({ length: count }, (_, row) => ids.subarray(row * length, (row + 1) * length));
}

function hashOf(window: Int32Array): string {
  return createHash('sha256')
    .update(new Uint8Array(window.buffer, window.byteOffset, window.byteLength))
    .digest('hex');
}
