// Runs windows through a model block by block: each block's weights are read once for all batches and dropped after it.
import { type Backend, type Block, type Model, materialize, type Tensor, tensor, throwIfAborted } from '@lowbit/core';
import type { TokenWindows } from '@lowbit/data';

/** Windows that are evaluated together: [size, length] tokens, all of one shape. */
export interface WindowBatch {
  readonly tokens: Tensor;
  /** Window of each row; −1 for rows that only fill the batch up. */
  readonly windows: readonly number[];
}

/** What a measurement runs on. */
export interface Run {
  readonly backend: Backend;
  readonly signal?: AbortSignal | undefined;
  /** Called after each evaluation. */
  readonly tick: () => void;
}

/** Windows in batches of `size`; the last is filled up with copies, so that one compiled program serves all. */
export function batchesOfWindows(windows: Pick<TokenWindows, 'count' | 'length' | 'tokens'>, size: number): WindowBatch[] {
  const batches: WindowBatch[] = [];
  for (let start = 0; start < windows.count; start += size) {
    const rows = Array.from({ length: size }, (_, i) => (start + i < windows.count ? start + i : -1));
    const tokens = new Int32Array(size * windows.length);
    rows.forEach((window, i) => {
      const from = (window < 0 ? start : window) * windows.length;
      tokens.set(windows.tokens.subarray(from, from + windows.length), i * windows.length);
    });
    batches.push({ tokens: tensor(tokens, [size, windows.length]), windows: rows });
  }
  return batches;
}

/** Memory for activations between blocks where nobody says otherwise, in bytes. */
export const ACTIVATION_BYTES = 2 ** 30;

/**
 * Batches in parts whose states fit in `bytes`, or of one batch that does not; weights are read once a part. `streams` is how many models' states
 * are held.
 */
export function partsOf<Batch extends WindowBatch>(batches: readonly Batch[], width: number, streams: number, bytes: number): Batch[][] {
  const parts: Batch[][] = [];
  let left = 0;
  for (const batch of batches) {
    const needed = 4 * batch.tokens.size * width * streams;
    if (parts.length === 0 || needed > left) {
      parts.push([]);
      left = bytes;
    }
    parts[parts.length - 1].push(batch);
    left -= needed;
  }
  return parts;
}

/** Input of the first block for each batch, [size, length, width]. */
export async function embed(model: Model, batches: readonly WindowBatch[], run: Run): Promise<Tensor[]> {
  const embedding = await materialize(model.embedding);
  const states: Tensor[] = [];
  for (const { tokens } of batches) {
    throwIfAborted(run.signal);
    const [state] = await run.backend.evaluate([embedding.forward(tokens)]);
    states.push(state);
    run.tick();
  }
  return states;
}

/** Output of the last block for each batch, [size, length, width]. */
export async function finalStates(model: Model, batches: readonly WindowBatch[], run: Run): Promise<Tensor[]> {
  const states = await embed(model, batches, run);
  for (const block of model.blocks) await advance(await materialize(block), states, run);
  return states;
}

/** Replaces the input of a block by its output, batch by batch. */
async function advance(block: Block, states: Tensor[], run: Run): Promise<void> {
  for (const [i, state] of states.entries()) {
    throwIfAborted(run.signal);
    [states[i]] = await run.backend.evaluate([block.forward(state)], { release: [state] });
    run.tick();
  }
}
