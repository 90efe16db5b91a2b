// Byte-level byte-pair encoding: learns the merges of a vocabulary from text and writes a Hugging Face tokenizer.json.
// Sennrich et al., arXiv 1508.07909; byte alphabet of Radford et al., "Language models are unsupervised multitask learners", 2019.
import { LowbitError } from '@lowbit/core';

/** Tokens before the 256 byte tokens, in the order of their ids: the first begins every text and so ends the one before it. */
export const SPECIAL_TOKENS = ['<s>', '<pad>'] as const;

/** Where text is cut before merging: no token crosses these pieces. A space belongs to the word after it; digits go by threes. */
export const WORD_PATTERN = "'(?:[sdmt]|ll|ve|re)| ?\\p{L}+| ?\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+";

export interface BytePairVocabulary {
  /** Token texts in the byte alphabet, by id. */
  readonly tokens: readonly string[];
  /** Pairs of ids in the order they merge; pair i makes token SPECIAL_TOKENS.length + 256 + i. */
  readonly merges: readonly (readonly [number, number])[];
}

/** One printable character per byte: printable Latin-1 stands for itself, the other bytes are shifted past U+0100. */
export function byteAlphabet(): string[] {
  let shifted = 256;
  return Array.from({ length: 256 }, (_, byte) => {
    const isPrintable = (byte >= 0x21 && byte <= 0x7e) || (byte >= 0xa1 && byte <= 0xac) || byte >= 0xae;
    return String.fromCharCode(isPrintable ? byte : shifted++);
  });
}

interface Word {
  symbols: number[];
  readonly count: number;
}

/** Occurrences of pairs and the words that hold them. */
class PairIndex {
  readonly counts = new Map<number, number>();
  readonly #words = new Map<number, Set<Word>>();

  static key(left: number, right: number): number {
    return left * 65536 + right;
  }

  add(word: Word, sign: 1 | -1): void {
    for (let i = 1; i < word.symbols.length; i++) {
      const key = PairIndex.key(word.symbols[i - 1], word.symbols[i]);
      const count = (this.counts.get(key) ?? 0) + sign * word.count;
      if (count === 0) this.counts.delete(key);
      else this.counts.set(key, count);
      const words = this.#words.get(key) ?? new Set();
      if (sign === 1) words.add(word);
      else words.delete(word);
      this.#words.set(key, words);
    }
  }

  wordsOf(key: number): Word[] {
    return [...(this.#words.get(key) ?? [])];
  }

  /** The most frequent pair; of equally frequent ones the one with the smallest ids, so that equal texts give equal merges. */
  best(): number | undefined {
    let best: number | undefined;
    let most = 1;
    for (const [key, count] of this.counts) {
      if (count > most || (count === most && best !== undefined && key < best)) {
        best = key;
        most = count;
      }
    }
    return best;
  }
}

function replacePair(symbols: readonly number[], left: number, right: number, merged: number): number[] {
  const out: number[] = [];
  for (let i = 0; i < symbols.length; i++) {
    if (symbols[i] === left && symbols[i + 1] === right) {
      out.push(merged);
      i++;
    } else {
      out.push(symbols[i]);
    }
  }
  return out;
}

function countWords(texts: readonly string[]): Word[] {
  const counts = new Map<string, number>();
  for (const text of texts) {
    for (const [piece] of text.matchAll(new RegExp(WORD_PATTERN, 'gu'))) counts.set(piece, (counts.get(piece) ?? 0) + 1);
  }
  const first = SPECIAL_TOKENS.length;
  return [...counts].map(([piece, count]) => ({ symbols: [...Buffer.from(piece)].map((byte) => first + byte), count }));
}

/**
 * Learns a vocabulary of exactly `size` tokens: the special ones, 256 bytes, and merges. Deterministic.
 * @throws VOCABULARY_SIZE when the size leaves no room for bytes or the text has too few pairs that occur twice.
 */
export function trainBytePairs(
  texts: readonly string[],
  size: number,
  progress?: (done: number, total: number) => void,
): BytePairVocabulary {
  const tokens: string[] = [...SPECIAL_TOKENS, ...byteAlphabet()];
  if (size < tokens.length || size > 65536) {
    throw new LowbitError('VOCABULARY_SIZE', `trainBytePairs: a byte-level vocabulary has ${tokens.length} to 65536 tokens, got ${size}`);
  }
  const index = new PairIndex();
  for (const word of countWords(texts)) index.add(word, 1);
  const merges: [number, number][] = [];
  while (tokens.length < size) {
    const key = index.best();
    if (key === undefined) {
      throw new LowbitError(
        'VOCABULARY_SIZE',
        `trainBytePairs: the text yields ${tokens.length} tokens, not ${size}; give more text or a smaller size`,
      );
    }
    const left = Math.floor(key / 65536);
    const right = key % 65536;
    for (const word of index.wordsOf(key)) {
      index.add(word, -1);
      word.symbols = replacePair(word.symbols, left, right, tokens.length);
      index.add(word, 1);
    }
    merges.push([left, right]);
    tokens.push(tokens[left] + tokens[right]);
    progress?.(merges.length, size - SPECIAL_TOKENS.length - 256);
  }
  return { tokens, merges };
}

/** The vocabulary as a Hugging Face tokenizer.json that starts every text with <s>. */
export function tokenizerJson({ tokens, merges }: BytePairVocabulary): Record<string, unknown> {
  const [bos] = SPECIAL_TOKENS;
  return {
    version: '1.0',
    truncation: null,
    padding: null,
    added_tokens: SPECIAL_TOKENS.map((content, id) => ({
      id,
      content,
      single_word: false,
      lstrip: false,
      rstrip: false,
      normalized: false,
      special: true,
    })),
    normalizer: null,
    pre_tokenizer: {
      type: 'Sequence',
      pretokenizers: [
        { type: 'Split', pattern: { Regex: WORD_PATTERN }, behavior: 'Isolated', invert: false },
        { type: 'ByteLevel', add_prefix_space: false, trim_offsets: true, use_regex: false },
      ],
    },
    post_processor: {
      type: 'TemplateProcessing',
      single: [{ SpecialToken: { id: bos, type_id: 0 } }, { Sequence: { id: 'A', type_id: 0 } }],
      pair: [
        { SpecialToken: { id: bos, type_id: 0 } },
        { Sequence: { id: 'A', type_id: 0 } },
        { SpecialToken: { id: bos, type_id: 1 } },
        { Sequence: { id: 'B', type_id: 1 } },
      ],
      special_tokens: { [bos]: { id: bos, ids: [0], tokens: [bos] } },
    },
    decoder: { type: 'ByteLevel', add_prefix_space: true, trim_offsets: true, use_regex: true },
    model: {
      type: 'BPE',
      dropout: null,
      unk_token: null,
      continuing_subword_prefix: null,
      end_of_word_suffix: null,
      fuse_unk: false,
      byte_fallback: false,
      ignore_merges: false,
      vocab: Object.fromEntries(tokens.map((token, id) => [token, id])),
      merges: merges.map(([left, right]) => [tokens[left], tokens[right]]),
    },
  };
}

/** The settings beside it that `transformers` and generation read. */
export function tokenizerConfig(contextLength: number): Record<string, unknown> {
  return {
    tokenizer_class: 'PreTrainedTokenizerFast',
    bos_token: SPECIAL_TOKENS[0],
    eos_token: SPECIAL_TOKENS[0],
    pad_token: SPECIAL_TOKENS[1],
    add_bos_token: true,
    add_eos_token: false,
    clean_up_tokenization_spaces: false,
    model_max_length: contextLength,
  };
}
