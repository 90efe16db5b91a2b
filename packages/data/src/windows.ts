// Windows of equal length over tokens: what calibration feeds and what perplexity is measured over.
import { createHash } from 'node:crypto';
import { LowbitError, type Tensor, type TokenBatches, tensor } from '@lowbit/core';
import { concatenate, type TokenStream } from './stream.js';

export interface WindowRule {
  /** Tokens in a window. */
  readonly window: number;
  /** Tokens from the start of one window to the start of the next; the window's length by default. With less, windows overlap and only new tokens count. */
  readonly stride?: number | undefined;
  /** What becomes of a last, shorter window: dropped (the default, as GPTQ does), or padded after its end (causal models do not see that). */
  readonly tail?: 'drop' | 'pad' | undefined;
  /** At most this many windows. */
  readonly limit?: number | undefined;
}

/** Windows with the positions of each that are scored. */
export interface TokenWindows {
  /** Windows. */
  readonly count: number;
  /** Tokens in each. */
  readonly length: number;
  /** [count, length], row-major. */
  readonly tokens: Int32Array;
  /** Scored are the tokens at positions scoredFrom[i] ≤ p < scoredTo[i] of window i, each given all tokens before it in the window. */
  readonly scoredFrom: Int32Array;
  readonly scoredTo: Int32Array;
  readonly scoredTokens: number;
  /** sha256 over the token ids, 32-bit little-endian. */
  readonly hash: string;
  readonly description: string;
  /** What a reader of a score needs to cut the same windows again. */
  readonly protocol: Readonly<Record<string, unknown>>;
}

/**
 * Cuts a stream. Window k starts at k·stride; a token is scored in the first window that holds it, except the stream's first token
 * and, where windows do not overlap, the first of each window, before which there is nothing to predict from.
 * @throws WINDOW_RULE for sizes that make no sense, STREAM_SHORT when not one window can be cut.
 */
export function cutWindows(
  stream: TokenStream,
  { window, stride = window, tail = 'drop', limit = Number.POSITIVE_INFINITY }: WindowRule,
): TokenWindows {
  if (!(Number.isInteger(window) && Number.isInteger(stride) && window >= 2 && stride >= 1 && stride <= window && limit >= 1)) {
    throw new LowbitError(
      'WINDOW_RULE',
      `windows of ${window} with stride ${stride} and limit ${limit}: needs integers with 2 ≤ window, 1 ≤ stride ≤ window and 1 ≤ limit`,
    );
  }
  const { ids, corpus } = stream;
  const rows: Int32Array[] = [];
  const from: number[] = [];
  const to: number[] = [];
  let scoredUpTo = 0;
  for (let start = 0; rows.length < limit && scoredUpTo < ids.length; start += stride) {
    const end = Math.min(start + window, ids.length);
    if (end - start < window && tail === 'drop') break;
    const firstScored = Math.max(1, scoredUpTo - start);
    if (firstScored < end - start) {
      const row = new Int32Array(window);
      row.set(ids.subarray(start, end));
      rows.push(row);
      from.push(firstScored);
      to.push(end - start);
    }
    scoredUpTo = end;
  }
  if (rows.length === 0) {
    throw new LowbitError(
      'STREAM_SHORT',
      `${corpus.name} ${corpus.split}: ${ids.length} tokens do not fill a window of ${window}; use a shorter window or more text`,
    );
  }
  const source = {
    corpus: corpus.name,
    split: corpus.split,
    corpusSha256: corpus.sha256,
    documentRule: corpus.rule,
    documents: stream.documents,
    bos: stream.bos,
    join: stream.join ?? null,
  };
  const description = `${corpus.name} ${corpus.split}, ${rows.length} windows of ${window}, stride ${stride}`;
  return build(rows, Int32Array.from(from), Int32Array.from(to), description, { ...source, window, stride, tail });
}

/**
 * Windows from rows of equal length, each scored from its second token on.
 * @throws WINDOW_RULE when rows are missing, too short or of different lengths.
 */
export function windowsOf(
  rows: readonly Int32Array[],
  { description, protocol }: { description: string; protocol: Readonly<Record<string, unknown>> },
): TokenWindows {
  const length = rows[0]?.length ?? 0;
  if (length < 2 || rows.some((row) => row.length !== length)) {
    throw new LowbitError(
      'WINDOW_RULE',
      `${description}: ${rows.length} rows of ${[...new Set(rows.map((row) => row.length))].join(', ')} tokens; needs rows of one length of at least 2`,
    );
  }
  const from = new Int32Array(rows.length).fill(1);
  return build(rows, from, new Int32Array(rows.length).fill(length), description, { ...protocol, window: length, stride: length });
}

function build(
  rows: readonly Int32Array[],
  scoredFrom: Int32Array,
  scoredTo: Int32Array,
  description: string,
  protocol: Readonly<Record<string, unknown>>,
): TokenWindows {
  const tokens = concatenate(rows);
  const scoredTokens = scoredTo.reduce((total, end, i) => total + end - scoredFrom[i], 0);
  const hash = hashTokens(tokens);
  const counts = { windows: rows.length, scoredTokens, tokensSha256: hash };
  return {
    count: rows.length,
    length: rows[0].length,
    tokens,
    scoredFrom,
    scoredTo,
    scoredTokens,
    hash,
    description,
    protocol: { ...protocol, ...counts },
  };
}

/** sha256 of token ids as 32-bit little-endian integers. */
export function hashTokens(tokens: Int32Array): string {
  return createHash('sha256')
    .update(new Uint8Array(tokens.buffer, tokens.byteOffset, tokens.byteLength))
    .digest('hex');
}

/**
 * The windows as batches for calibration or training. All batches have one shape: the batch size is the largest divisor of the number of windows
 * that does not exceed `batch`, so that no window is lost and none counts twice.
 */
export function batchWindows({ tokens, count, length, hash, description }: TokenWindows, batch = 8): TokenBatches {
  const size = largestDivisor(count, batch);
  const at = (index: number): Promise<Tensor> => {
    const start = index * size * length;
    return Promise.resolve(tensor(tokens.subarray(start, start + size * length), [size, length]));
  };
  return { length: count / size, at, hash, description };
}

function largestDivisor(count: number, limit: number): number {
  let divisor = Math.max(1, Math.min(count, Math.floor(limit)));
  while (count % divisor !== 0) divisor--;
  return divisor;
}
