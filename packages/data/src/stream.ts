// Documents to one sequence of token ids, by a rule that is recorded: what a perplexity means depends on it.
import { LowbitError } from '@lowbit/core';
import type { Corpus } from './corpus.js';
import type { Tokenizer } from './tokenizer.js';

/** Where BOS goes: nowhere, once at the start of the stream, or before each document. */
export type BosRule = 'none' | 'start' | 'document';

export interface StreamRule {
  readonly bos: BosRule;
  /**
   * Text put between documents, which are then encoded as one text ('\n\n' in GPTQ's evaluation). Without it each document
   * is encoded for itself and the ids are put one after another.
   */
  readonly join?: string | undefined;
}

/** Token ids of a corpus, and how they came about. */
export interface TokenStream extends StreamRule {
  readonly ids: Int32Array;
  readonly corpus: Corpus;
  /** Documents that the ids cover. */
  readonly documents: number;
}

export interface StreamOptions extends StreamRule {
  /** Stops after the document that brings this many tokens. Only without `join`, where documents do not depend on each other. */
  readonly enough?: number | undefined;
}

/**
 * Encodes a corpus.
 * @throws STREAM_RULE for BOS before each document when the documents are joined as text; TOKENIZER_BOS when there is no BOS.
 */
export function tokenStream(
  corpus: Corpus,
  tokenizer: Tokenizer,
  { bos, join, enough = Number.POSITIVE_INFINITY }: StreamOptions,
): TokenStream {
  if (join !== undefined) {
    if (bos === 'document') {
      throw new LowbitError(
        'STREAM_RULE',
        `${corpus.name}: BOS before each document needs documents encoded one by one; leave out join or use bos 'start'`,
      );
    }
    const ids = tokenizer.encode(corpus.documents.join(join), { bos: bos === 'start' });
    return { ids, corpus, documents: corpus.documents.length, bos, join };
  }
  const parts: Int32Array[] = [];
  let total = 0;
  for (const document of corpus.documents) {
    if (total >= enough) break;
    const ids = tokenizer.encode(document, { bos: bos === 'document' || (bos === 'start' && parts.length === 0) });
    parts.push(ids);
    total += ids.length;
  }
  return { ids: concatenate(parts), corpus, documents: parts.length, bos, join };
}

/** One array after another. */
export function concatenate(parts: readonly Int32Array[]): Int32Array {
  const out = new Int32Array(parts.reduce((total, part) => total + part.length, 0));
  let start = 0;
  for (const part of parts) {
    out.set(part, start);
    start += part.length;
  }
  return out;
}
