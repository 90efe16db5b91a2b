// Plain text as a task: windows of which every next token is predicted.
import { type FinetuneTask, LowbitError, type Rng, type TaskExamples } from '@lowbit/core';
import type { Corpus } from './corpus.js';
import { tokenStream } from './stream.js';
import { hashOf } from './task.js';
import type { Tokenizer } from './tokenizer.js';
import { cutWindows, type TokenWindows } from './windows.js';

export interface TextTaskOptions {
  /** Text to judge by, of other documents. */
  readonly dev: Corpus;
  readonly tokenizer: Tokenizer;
  /** Tokens in a window. */
  readonly window: number;
  /** Windows at most, in each part; all by default. */
  readonly limit?: { readonly train?: number | undefined; readonly dev?: number | undefined } | undefined;
  /** Draws which windows are kept of too many. */
  readonly rng: Rng;
}

/**
 * Adaptation to a text: windows that meet, an incomplete last one dropped.
 * @throws STREAM_SHORT when a part does not fill one window, and what the tokenizer throws.
 */
export function textTask(train: Corpus, { dev, tokenizer, window, limit = {}, rng }: TextTaskOptions): FinetuneTask {
  if (train.sha256 === dev.sha256) {
    throw new LowbitError('TASK_SPLIT', `${train.name}: is trained on and judged by; give each a part of its own`);
  }
  const windowsOf = (corpus: Corpus, most: number | undefined, draws: Rng): TokenWindows & { readonly picked: TaskExamples } => {
    const bos = tokenizer.addsBos ? 'document' : 'none';
    const windows = cutWindows(tokenStream(corpus, tokenizer, { bos }), { window });
    return { ...windows, picked: pick(windows, most, draws) };
  };
  const parts = { train: windowsOf(train, limit.train, rng.at('train')), dev: windowsOf(dev, limit.dev, rng.at('dev')) };
  const [trained, judged] = [parts.train.picked, parts.dev.picked];
  const hash = hashOf([trained, judged], undefined);
  const protocolOf = ({ protocol, picked }: (typeof parts)['train']) => ({ ...protocol, windows: picked.count });
  return {
    description: `${train.name}, plain text, ${trained.count} train and ${judged.count} dev windows of ${window}`,
    hash,
    train: trained,
    dev: judged,
    protocol: { train: protocolOf(parts.train), dev: protocolOf(parts.dev), length: window, taskSha256: hash },
  };
}

function pick({ tokens, count, length }: TokenWindows, limit = count, rng: Rng): TaskExamples {
  const chosen = limit < count ? rng.permutation(count).subarray(0, limit) : Int32Array.from({ length: count }, (_, i) => i);
  const rows = new Int32Array(chosen.length * length);
  for (const [row, index] of chosen.entries()) rows.set(tokens.subarray(index * length, (index + 1) * length), row * length);
  const weights = Float32Array.from(rows, (_, i) => (i % length === length - 1 ? 0 : 1));
  return { count: chosen.length, length, tokens: rows, weights };
}
