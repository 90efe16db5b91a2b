// Calibration data: seeded windows from a corpus, with an account of what was asked for, kept and dropped.
import { LowbitError, type Rng, type TokenBatches } from '@lowbit/core';
import type { Corpus } from './corpus.js';
import { concatenate } from './stream.js';
import type { Tokenizer } from './tokenizer.js';
import { batchWindows, windowsOf } from './windows.js';

export interface CalibrationOptions {
  /** Windows wanted. */
  readonly windows: number;
  /** Tokens in each. */
  readonly window: number;
  readonly rng: Rng;
  /** Windows evaluated at once, at most; 8 by default. */
  readonly batch?: number;
  /** BOS before each document; what the tokenizer is used to by default. */
  readonly bos?: boolean;
  /** Documents shorter than a window: put one after another until they fill one (default), or dropped and counted. */
  readonly shortDocuments?: 'concatenate' | 'drop';
  /** Fewer windows than this are an error; half of those wanted by default. */
  readonly minimumWindows?: number;
}

/** What became of a request for calibration windows. */
export interface CalibrationReport {
  readonly corpus: string;
  readonly split: string;
  readonly corpusSha256: string;
  readonly requested: number;
  readonly kept: number;
  readonly window: number;
  /** kept · window. */
  readonly tokens: number;
  readonly documents: number;
  /** Documents that were encoded, whole or in part; the others were not needed. */
  readonly documentsRead: number;
  /** Documents shorter than a window that were put together. */
  readonly documentsConcatenated: number;
  /** What was read and is in no window, by reason. */
  readonly dropped: readonly { readonly reason: string; readonly documents: number; readonly tokens: number }[];
}

export interface Calibration {
  readonly batches: TokenBatches;
  readonly report: CalibrationReport;
}

/**
 * Draws windows from a corpus: its sections (documents, or parts of long ones) in random order, one random window of each and short
 * documents put together; then, if that is not enough, the other windows of the sections, then what is left at their ends. Windows
 * never overlap.
 * @throws CALIBRATION_SHORT when fewer than `minimumWindows` can be cut.
 */
export function sampleCalibration(corpus: Corpus, tokenizer: Tokenizer, options: CalibrationOptions): Calibration {
  const { windows: requested, window, rng, batch = 8, bos = tokenizer.addsBos, shortDocuments = 'concatenate' } = options;
  const minimum = options.minimumWindows ?? Math.ceil(requested / 2);
  for (const [name, value, least] of [
    ['windows', requested, 1],
    ['window', window, 2],
    ['batch', batch, 1],
    ['minimumWindows', minimum, 1],
  ] as const) {
    if (!(Number.isInteger(value) && value >= least))
      throw new LowbitError('OPTIONS_INVALID', `calibration: ${name} must be an integer of at least ${least}, got ${value}`);
  }
  const rows: Int32Array[] = [];
  const long: { readonly ids: Int32Array; readonly used: number }[] = [];
  const short = new Joined(window);
  const droppedShort = { documents: 0, tokens: 0 };
  const read = new Set<number>();
  let documentsConcatenated = 0;

  const sections = corpus.documents.flatMap((document, index) =>
    sectionsOf(document, window).map((text, i) => ({ index, text, isFirst: i === 0 })),
  );
  for (const i of rng.at('documents').permutation(sections.length)) {
    if (rows.length >= requested) break;
    const { index, text, isFirst } = sections[i];
    read.add(index);
    const ids = tokenizer.encode(text, { bos: bos && isFirst });
    if (ids.length >= window) {
      const used = rng.at('window', i).integers(1, Math.floor(ids.length / window))[0];
      rows.push(slot(ids, used, window));
      long.push({ ids, used });
    } else if (shortDocuments === 'drop') {
      droppedShort.documents++;
      droppedShort.tokens += ids.length;
    } else {
      documentsConcatenated++;
      rows.push(...short.add(ids));
    }
  }

  const others = long.flatMap(({ ids, used }) =>
    Array.from({ length: Math.floor(ids.length / window) }, (_, i) => i)
      .filter((i) => i !== used)
      .map((i) => slot(ids, i, window)),
  );
  for (const i of rng.at('others').permutation(others.length)) {
    if (rows.length >= requested) break;
    rows.push(others[i]);
  }
  if (shortDocuments === 'concatenate') {
    for (const { ids } of long) {
      if (rows.length >= requested) break;
      rows.push(...short.add(ids.subarray(ids.length - (ids.length % window))));
    }
  }

  const kept = Math.min(rows.length, requested);
  if (kept < minimum) {
    const why = droppedShort.documents > 0 ? `; ${droppedShort.documents} documents are shorter than a window and were dropped` : '';
    throw new LowbitError(
      'CALIBRATION_SHORT',
      `${corpus.name} ${corpus.split}: only ${kept} of ${requested} windows of ${window} tokens can be cut from ${corpus.documents.length} documents (at least ${minimum} needed)${why}; give more text, shorter windows, or fewer of them`,
    );
  }
  const report: CalibrationReport = {
    corpus: corpus.name,
    split: corpus.split,
    corpusSha256: corpus.sha256,
    requested,
    kept,
    window,
    tokens: kept * window,
    documents: corpus.documents.length,
    documentsRead: read.size,
    documentsConcatenated,
    dropped: droppedShort.documents > 0 ? [{ reason: 'shorter than a window', ...droppedShort }] : [],
  };
  const description = `${corpus.name} ${corpus.split}, ${kept} windows of ${window}`;
  return { batches: batchWindows(windowsOf(rows.slice(0, kept), { description, protocol: {} }), batch), report };
}

/** The report in one line, for people. */
export function describeCalibration(report: CalibrationReport): string {
  const { corpus, split, requested, kept, window, tokens, documents, documentsRead, documentsConcatenated } = report;
  const dropped =
    report.dropped.map((entry) => `${entry.documents} documents (${entry.tokens} tokens) ${entry.reason}`).join(', ') || 'nothing';
  const joined = documentsConcatenated > 0 ? `, ${documentsConcatenated} of them short and put together` : '';
  const fewer = kept < requested ? ` (the corpus has no more)` : '';
  return `${corpus} ${split}: ${requested} windows of ${window} tokens requested, ${kept} kept${fewer}, ${tokens} tokens; ${documentsRead} of ${documents} documents read${joined}; dropped: ${dropped}`;
}

/** Characters per token that a section reckons with: more than any vocabulary reaches on plain text, so that sections hold whole windows. */
const SECTION_CHARACTERS = 16;

/**
 * A document in sections of about equal length, cut at white space, so that a window of a book costs no encoding of the book. Documents too short for
 * two sections stay whole.
 */
function sectionsOf(document: string, window: number): string[] {
  const count = Math.floor(document.length / (window * SECTION_CHARACTERS));
  const sections: string[] = [];
  const space = /\s+/g;
  let start = 0;
  for (let i = 1; i < count; i++) {
    space.lastIndex = Math.max(start, Math.floor((document.length * i) / count));
    const end = space.exec(document) ? space.lastIndex : document.length;
    if (end > start) sections.push(document.slice(start, end));
    start = end;
  }
  if (start < document.length) sections.push(document.slice(start));
  return sections;
}

function slot(ids: Int32Array, index: number, window: number): Int32Array {
  return ids.subarray(index * window, (index + 1) * window);
}

/** Puts short pieces together and gives back the windows that become full. */
class Joined {
  readonly #window: number;
  #parts: Int32Array[] = [];
  #length = 0;

  constructor(window: number) {
    this.#window = window;
  }

  add(ids: Int32Array): Int32Array[] {
    this.#parts.push(ids);
    this.#length += ids.length;
    if (this.#length < this.#window) return [];
    const all = concatenate(this.#parts);
    const full = Math.floor(all.length / this.#window);
    this.#parts = [all.subarray(full * this.#window)];
    this.#length = all.length - full * this.#window;
    return Array.from({ length: full }, (_, i) => slot(all, i, this.#window));
  }
}
