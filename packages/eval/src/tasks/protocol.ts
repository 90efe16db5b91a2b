// What is stored with every score of a task of the literature.
import { createHash } from 'node:crypto';
import type { Backend, Model } from '@lowbit/core';
import type { RecordTable, Tokenizer } from '@lowbit/data';
import { SHOTS_SEED, type Shots } from './few-shot.js';

/** A task and what it was judged by. */
interface Judged {
  readonly task: { readonly name: string; readonly split: string };
  readonly records: RecordTable;
  readonly shots?: Shots | undefined;
  readonly tokenizer: Tokenizer;
  /** Digest of each example, in their order. */
  readonly hashes: readonly string[];
  /** Examples of which a text did not fit into the context, and lost its beginning. */
  readonly shortenedPrompts: number;
}

/** Records and how they were read, shots, and what decides where texts are cut. */
export function protocolOf(judged: Judged, { config }: Model, backend: Backend): Readonly<Record<string, unknown>> {
  const { task, records, shots, tokenizer, hashes, shortenedPrompts } = judged;
  const shown = shots && shots.count > 0 ? { file: shots.from.name, fileSha256: shots.from.sha256, seed: SHOTS_SEED } : {};
  return {
    task: task.name,
    conventions: 'lm-evaluation-harness',
    split: task.split,
    file: records.name,
    fileSha256: records.sha256,
    examples: hashes.length,
    examplesSha256: sha256(hashes.join('')),
    shots: { count: shots?.count ?? 0, ...shown },
    bos: tokenizer.addsBos ? 'document' : 'none',
    contextLength: config.contextLength,
    shortenedPrompts,
    dtype: 'float32',
    backend: backend.name,
  };
}

/**
 * Digest of an example as the harness takes it: of what Python's json.dumps writes with an indent of 2, which is what JSON.stringify writes but
 * for numbers such as 1.0.
 */
export function digestOf(document: Readonly<Record<string, unknown>>): string {
  return sha256(JSON.stringify(document, null, 2));
}

function sha256(text: string): string {
  return createHash('sha256').update(text).digest('hex');
}
