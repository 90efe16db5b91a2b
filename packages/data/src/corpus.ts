// Corpora: named lists of documents with a digest, from strings, or divided into a training and a held-out part.
import { createHash } from 'node:crypto';
import { LowbitError } from '@lowbit/core';

/** Text to calibrate on or to judge by. */
export interface Corpus {
  readonly name: string;
  /** Which part of the source this is: 'all', 'train', 'held-out'. */
  readonly split: string;
  /** How the source was cut into documents. */
  readonly rule: string;
  readonly documents: readonly string[];
  /**
   * Of the documents in UTF-8, a byte 0xFF between two of them (it occurs in no UTF-8 text). For a corpus of one document
   * this is the digest of its text.
   */
  readonly sha256: string;
}

export interface CorpusOptions {
  readonly name?: string;
  readonly split?: string;
  readonly rule?: string;
}

/**
 * A corpus of texts. Texts of white space alone are separators, not documents, and are left out.
 * @throws CORPUS_EMPTY when no text is left.
 */
export function corpusOf(texts: readonly string[], { name = 'texts', split = 'all', rule = 'as given' }: CorpusOptions = {}): Corpus {
  const documents = texts.filter((text) => text.trim() !== '');
  if (documents.length === 0) {
    throw new LowbitError(
      'CORPUS_EMPTY',
      `${name}: has no document with text in it (${texts.length} read); give it some text or check the split rule '${rule}'`,
    );
  }
  return { name, split, rule, documents, sha256: digest(documents) };
}

/** Which part of a corpus. */
export type Split = 'train' | 'held-out' | 'all';

/**
 * One part of a corpus: document i is held out when i mod `every` is `every` − 1, so that both parts run through the whole of it.
 * @throws CORPUS_EMPTY when the part would have no document.
 */
export function partOf(corpus: Corpus, split: Split, every = 10): Corpus {
  requireEvery('partOf', every);
  if (split === 'all') return corpus;
  const documents = corpus.documents.filter((_, i) => (i % every === every - 1) === (split === 'held-out'));
  if (documents.length === 0) {
    throw new LowbitError(
      'CORPUS_EMPTY',
      `${corpus.name}: ${corpus.documents.length} documents leave none for '${split}' when every ${every}th is held out; cut it into more documents`,
    );
  }
  return { ...corpus, split, rule: `${corpus.rule}; every ${every}th document held out`, documents, sha256: digest(documents) };
}

/**
 * One part of a corpus of few, long documents: the last `every`th of each document's text is held out, cut at white space.
 * @throws CORPUS_EMPTY when the part would have no text.
 */
export function cutOf(corpus: Corpus, split: Split, every = 10): Corpus {
  requireEvery('cutOf', every);
  if (split === 'all') return corpus;
  const parts = corpus.documents.map((document) => {
    const from = Math.ceil((document.length * (every - 1)) / every);
    const space = document.slice(from).search(/\s/);
    const cut = space < 0 ? document.length : from + space;
    return split === 'train' ? document.slice(0, cut) : document.slice(cut);
  });
  const documents = parts.filter((part) => part.trim() !== '');
  if (documents.length === 0) {
    throw new LowbitError(
      'CORPUS_EMPTY',
      `${corpus.name}: leaves no text for '${split}' when the last ${every}th of each document is held out; give it more text`,
    );
  }
  return { ...corpus, split, rule: `${corpus.rule}; last ${every}th of each document held out`, documents, sha256: digest(documents) };
}

function requireEvery(what: string, every: number): void {
  if (!(Number.isInteger(every) && every >= 2))
    throw new LowbitError('OPTIONS_INVALID', `${what}: every must be an integer of at least 2, got ${every}`);
}

const SEPARATOR = Uint8Array.of(0xff);

function digest(documents: readonly string[]): string {
  const hash = createHash('sha256');
  documents.forEach((document, i) => {
    if (i > 0) hash.update(SEPARATOR);
    hash.update(document, 'utf8');
  });
  return hash.digest('hex');
}
