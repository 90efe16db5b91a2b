// Named ways to cut a corpus for perplexity. Numbers compare only under one protocol; presets make it easy to use the same one.
import { type BosRule, type Corpus, cutWindows, type Tokenizer, type TokenWindows, tokenStream, type WindowRule } from '@lowbit/data';

export interface Protocol extends WindowRule {
  /** Where BOS goes if the tokenizer is one that adds it; recorded as 'none' otherwise. */
  readonly bos: BosRule;
  readonly join?: string | undefined;
}

export type ProtocolName = 'gptq-2048' | 'window-256';

export const protocols: Readonly<Record<ProtocolName, Protocol>> = {
  /** GPTQ's (arXiv 2210.17323): documents joined by blank lines and encoded as one text, windows that meet, an incomplete last one dropped. */
  'gptq-2048': { window: 2048, stride: 2048, tail: 'drop', bos: 'start', join: '\n\n' },
  /** For models with a short context: each document encoded for itself, with BOS before it. */
  'window-256': { window: 256, stride: 256, tail: 'drop', bos: 'document' },
};

/**
 * The windows of a corpus under a protocol. With changes other than `limit` it is no longer the preset, and not recorded as such.
 * @throws STREAM_SHORT when the corpus does not fill one window, and what the tokenizer throws.
 */
export function windowsByProtocol(name: ProtocolName, corpus: Corpus, tokenizer: Tokenizer, changes: Partial<Protocol> = {}): TokenWindows {
  const rule = { ...protocols[name], ...changes };
  const { window, stride = window, limit = Number.POSITIVE_INFINITY, join } = rule;
  const bos = tokenizer.addsBos ? rule.bos : 'none';
  // A limit of 40 windows must not cost the encoding of a whole library. Joined documents have to be encoded as one.
  const enough = join === undefined ? limit * stride + window : undefined;
  const windows = cutWindows(tokenStream(corpus, tokenizer, { bos, join, enough }), rule);
  const isPreset = Object.keys(changes).every((key) => key === 'limit');
  return { ...windows, protocol: { preset: isPreset ? name : null, ...windows.protocol } };
}
