// Token windows to calibrate on and to judge by, from a text source that a person names.
import { type Backend, createRng, LowbitError, type Model, read, type TokenBatches } from '@lowbit/core';
import {
  batchWindows,
  type Corpus,
  cutOf,
  type DocumentRule,
  describeCalibration,
  partOf,
  readCorpusFile,
  readHubCorpus,
  type Split,
  sampleCalibration,
  selfGeneratedWindows,
  sotuCorpus,
  type Tokenizer,
  type TokenWindows,
} from '@lowbit/data';
import { type ProtocolName, protocols, windowsByProtocol } from '@lowbit/eval';
import { type HubOptions, isHubReference } from '@lowbit/hub';
import { generate } from '@lowbit/models';

/** Where text comes from: the dense model's own writing, the default corpus, a file, or a dataset of the hub. */
export type TextSource =
  | { readonly kind: 'self' }
  | { readonly kind: 'sotu'; readonly split?: Split }
  | {
      readonly kind: 'file';
      /** Of a .txt, .jsonl or .parquet file, or 'hf:owner/name', with a folder or such a file in it. */
      readonly path: string;
      readonly documents?: Exclude<DocumentRule, RegExp>;
      readonly field?: string;
      readonly split?: Split;
      /** Of a dataset of the hub, the split by its name there; by default that which is for the use. */
      readonly datasetSplit?: string | undefined;
    };

/** How much of it. */
export interface TextSize {
  readonly windows: number;
  /** Tokens in each; 256 by default, or the model's context if that is shorter. */
  readonly window?: number | undefined;
}

export interface HeldOutSize extends TextSize {
  /** Cuts windows by a protocol, whose length then counts; 'window-256' with what `window` says otherwise. */
  readonly protocol?: ProtocolName | undefined;
}

const DEFAULT_WINDOW = 256;

/** One part in so many is held out. */
const HELD_OUT_EVERY = 10;

export interface TextContext {
  /** Writes the text where the source is the model itself. */
  readonly model: Model;
  readonly tokenizer: Tokenizer;
  readonly backend: Backend;
  readonly seed: number;
  /** How datasets of the hub are opened. */
  readonly hub?: HubOptions | undefined;
  readonly signal?: AbortSignal | undefined;
  readonly progress?: ((done: number, total: number) => void) | undefined;
}

/** Calibration batches and one line that says what was asked for, kept and dropped. */
export interface CalibrationText {
  readonly batches: TokenBatches;
  readonly report: string;
}

/**
 * Windows of text to quantize with. They share nothing with the held-out windows of the same source, unless that is a file, or a named split
 * of a dataset, without a `split`: it is used whole for either.
 */
export async function calibrationText(source: TextSource, size: TextSize, context: TextContext): Promise<CalibrationText> {
  const window = checkWindow(size.window ?? defaultWindow(context.model), context.model);
  if (source.kind === 'self') {
    const windows = await writeText('calibration', { windows: size.windows, window }, context);
    return { batches: batchWindows(windows), report: `${windows.description}: ${windows.count * windows.length} tokens` };
  }
  const corpus = await openCorpus(source, 'train', context.hub);
  const { batches, report } = sampleCalibration(corpus, context.tokenizer, {
    windows: size.windows,
    window,
    rng: createRng(context.seed).at('calibration'),
  });
  await requireVocabulary(batches, context.model);
  return { batches, report: describeCalibration(report) };
}

/** @throws TOKEN_RANGE when the tokenizer gives tokens that the model does not have. */
async function requireVocabulary(batches: TokenBatches, { config: { vocabularySize } }: Model): Promise<void> {
  for (let i = 0; i < batches.length; i++) {
    const beyond = (await read(await batches.at(i))).find((id) => id >= vocabularySize);
    if (beyond === undefined) continue;
    const remedy = "its tokenizer is another model's; put the model's own tokenizer.json beside its weights";
    throw new LowbitError(
      'TOKEN_RANGE',
      `calibration text has token ${beyond}, and the model a vocabulary of ${vocabularySize}: ${remedy}`,
    );
  }
}

/**
 * Windows of text to judge by, each token scored once.
 * @throws PROTOCOL_TEXT for a protocol with text that the model writes; WINDOW_CONTEXT, and what corpus and tokenizer throw.
 */
export async function heldOutText(source: TextSource, size: HeldOutSize, context: TextContext): Promise<TokenWindows> {
  const { windows } = size;
  if (source.kind === 'self' && size.protocol !== undefined) {
    throw new LowbitError(
      'PROTOCOL_TEXT',
      `protocol '${size.protocol}' cuts a text into windows, and 'self' is written window by window; name another text, or leave the protocol out`,
    );
  }
  const protocol = size.protocol ?? 'window-256';
  const preset = protocols[protocol].window;
  const window = checkWindow(size.window ?? (size.protocol ? preset : defaultWindow(context.model)), context.model);
  if (source.kind === 'self') return writeText('held-out', { windows, window }, context);
  const changes = window === preset ? {} : { window, stride: window };
  return windowsByProtocol(protocol, await openCorpus(source, 'held-out', context.hub), context.tokenizer, { limit: windows, ...changes });
}

/** Tokens of a window where nobody says otherwise. */
export function defaultWindow({ config }: Model): number {
  return Math.min(DEFAULT_WINDOW, config.contextLength);
}

/** @throws WINDOW_CONTEXT */
export function checkWindow(window: number, { config }: Model): number {
  if (window <= config.contextLength) return window;
  throw new LowbitError(
    'WINDOW_CONTEXT',
    `a window of ${window} tokens is longer than the model's context of ${config.contextLength}; use a shorter one`,
  );
}

async function writeText(
  split: 'calibration' | 'held-out',
  size: { windows: number; window: number },
  { model, tokenizer, backend, seed, signal, progress }: TextContext,
): Promise<TokenWindows> {
  const windows = await selfGeneratedWindows({
    ...size,
    split,
    sample: (request) => generate(model, backend, request),
    rng: createRng(seed),
    vocabularySize: Math.min(tokenizer.vocabularySize, model.config.vocabularySize),
    bosToken: tokenizer.addsBos ? tokenizer.bosToken : undefined,
    signal,
    progress,
  });
  return { ...windows, protocol: { ...windows.protocol, seed } };
}

/**
 * A file, and a split of a dataset that was named, are used whole unless a part was asked for; the default corpus has a part for each use,
 * and so has a dataset, by its splits or else as a file has.
 * @throws what reading and fetching throw.
 */
export async function openCorpus(source: Exclude<TextSource, { kind: 'self' }>, use: Split, hub?: HubOptions): Promise<Corpus> {
  if (source.kind === 'sotu') return sotuCorpus(source.split ?? use);
  const { path, documents: rule, field, split, datasetSplit } = source;
  if (!isHubReference(path)) return partFor(await readCorpusFile(path, { rule, field }), split ?? 'all');
  const { corpus, isForUse, isNamed } = await readHubCorpus(path, { rule, field, use: split ?? use, datasetSplit }, hub);
  return isForUse ? corpus : partFor(corpus, split ?? (isNamed ? 'all' : use));
}

/** Of few documents there would be none to hold out. */
function partFor(corpus: Corpus, split: Split): Corpus {
  return corpus.documents.length < HELD_OUT_EVERY ? cutOf(corpus, split, HELD_OUT_EVERY) : partOf(corpus, split, HELD_OUT_EVERY);
}
