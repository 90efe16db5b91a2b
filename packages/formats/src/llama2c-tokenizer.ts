// A llama2.c tokenizer.bin, and the Hugging Face tokenizer.json that encodes and decodes like it.
// tokenizer.bin: int32 longest piece, then for each token float32 score, int32 length, bytes (llama2.c, tokenizer.py: export).
import { LowbitError } from '@lowbit/core';
import type { TokenizerFiles } from './checkpoint.js';
import { decodeText } from './read-file.js';

/** One token: its text as in the SentencePiece model, and the score that orders its merge. */
export interface Piece {
  readonly text: string;
  readonly score: number;
}

/** Ids of Llama vocabularies: unknown, begin, end, then one token for each byte. */
const specials = ['<unk>', '<s>', '</s>'] as const;
const FIRST_BYTE = specials.length;
const FIRST_TEXT = FIRST_BYTE + 256;

/**
 * The pieces of a tokenizer.bin for a vocabulary of `size`, special and byte tokens under their SentencePiece names.
 * @throws TOKENIZER_BIN saying where it is not what it should be.
 */
export function parseTokenizerBin(bytes: Uint8Array, size: number, where: string): readonly Piece[] {
  const fail = (what: string) =>
    new LowbitError('TOKENIZER_BIN', `${where}: ${what}; it is not the tokenizer.bin of this checkpoint, or damaged`);
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  if (size < FIRST_TEXT) throw fail(`a vocabulary of ${size} has no room for ${specials.length} special and 256 byte tokens`);
  const longest = bytes.length >= 4 ? view.getInt32(0, true) : -1;
  const pieces: Piece[] = [];
  let at = 4;
  while (pieces.length < size) {
    const id = pieces.length;
    if (at + 8 > bytes.length) throw fail(`ends in token ${id} of ${size}`);
    const score = view.getFloat32(at, true);
    const length = view.getInt32(at + 4, true);
    at += 8;
    if (length < 0 || length > longest || at + length > bytes.length) throw fail(`token ${id} claims ${length} bytes`);
    if (Number.isNaN(score)) throw fail(`token ${id} has no score`);
    const text = decodeText(bytes.subarray(at, at + length));
    if (text === undefined) throw fail(`token ${id} is not UTF-8`);
    pieces.push({ text: pieceName(id, text, fail), score });
    at += length;
  }
  if (at !== bytes.length) throw fail(`${bytes.length - at} bytes follow its ${size} tokens`);
  return pieces;
}

/** The name of a token in the SentencePiece model, from which the export replaced spaces, special tokens and byte tokens. */
function pieceName(id: number, text: string, fail: (what: string) => LowbitError): string {
  if (id < FIRST_BYTE) {
    if (text.trim() !== specials[id]) throw fail(`token ${id} is '${text.trim()}' where '${specials[id]}' belongs`);
    return specials[id];
  }
  if (id < FIRST_TEXT) {
    const byte = id - FIRST_BYTE;
    const name = `<0x${byte.toString(16).toUpperCase().padStart(2, '0')}>`;
    // Stored raw, as the character of that code, by older exports.
    if (text !== name && text !== String.fromCharCode(byte)) throw fail(`token ${id} is '${text}' where the byte token ${name} belongs`);
    return name;
  }
  return text.replaceAll(' ', '▁');
}

/**
 * BPE merges from scores. SentencePiece joins the neighbouring pair whose union scores highest, so every way to split a piece into
 * two others is a merge, ranked by the piece's score, then by its id (runs of spaces share a score), then by the ids of its parts.
 */
function mergesOf(pieces: readonly Piece[], ids: ReadonlyMap<string, number>): string[] {
  const merges: { id: number; left: number; right: number }[] = [];
  for (const [i, { text }] of pieces.slice(FIRST_TEXT).entries()) {
    const characters = [...text];
    for (let cut = 1; cut < characters.length; cut++) {
      const left = ids.get(characters.slice(0, cut).join(''));
      const right = ids.get(characters.slice(cut).join(''));
      if (left !== undefined && right !== undefined) merges.push({ id: FIRST_TEXT + i, left, right });
    }
  }
  merges.sort((a, b) => pieces[b.id].score - pieces[a.id].score || a.id - b.id || a.left - b.left || a.right - b.right);
  return merges.map(({ left, right }) => `${pieces[left].text} ${pieces[right].text}`);
}

/**
 * tokenizer.json and tokenizer_config.json for the pieces of a Llama vocabulary: BPE with byte fallback, '▁' for spaces and before
 * the text, BOS in front. @throws TOKENIZER_BIN when two tokens have one text.
 */
export function llamaTokenizer(pieces: readonly Piece[], contextLength: number, where: string): TokenizerFiles {
  const ids = new Map(pieces.map(({ text }, id) => [text, id]));
  if (ids.size !== pieces.length) {
    const id = pieces.findIndex(({ text }, i) => ids.get(text) !== i);
    throw new LowbitError(
      'TOKENIZER_BIN',
      `${where}: tokens ${id} and ${ids.get(pieces[id].text)} are both '${pieces[id].text}'; the file is damaged`,
    );
  }
  const [unknown, begin, end] = specials;
  const sequence = (id: 'A' | 'B', type: number) => [{ SpecialToken: { id: begin, type_id: type } }, { Sequence: { id, type_id: type } }];
  return {
    tokenizer: {
      version: '1.0',
      truncation: null,
      padding: null,
      added_tokens: specials.map((content, id) => ({
        id,
        content,
        single_word: false,
        lstrip: false,
        rstrip: false,
        normalized: false,
        special: true,
      })),
      normalizer: {
        type: 'Sequence',
        normalizers: [
          { type: 'Prepend', prepend: '▁' },
          { type: 'Replace', pattern: { String: ' ' }, content: '▁' },
        ],
      },
      pre_tokenizer: null,
      post_processor: {
        type: 'TemplateProcessing',
        single: sequence('A', 0),
        pair: [...sequence('A', 0), ...sequence('B', 1)],
        special_tokens: { [begin]: { id: begin, ids: [1], tokens: [begin] } },
      },
      decoder: {
        type: 'Sequence',
        decoders: [
          { type: 'Replace', pattern: { String: '▁' }, content: ' ' },
          { type: 'ByteFallback' },
          { type: 'Fuse' },
          { type: 'Strip', content: ' ', start: 1, stop: 0 },
        ],
      },
      model: {
        type: 'BPE',
        dropout: null,
        unk_token: unknown,
        continuing_subword_prefix: null,
        end_of_word_suffix: null,
        fuse_unk: true,
        byte_fallback: true,
        vocab: Object.fromEntries(ids),
        merges: mergesOf(pieces, ids),
      },
    },
    config: {
      tokenizer_class: 'LlamaTokenizer',
      bos_token: begin,
      eos_token: end,
      unk_token: unknown,
      add_bos_token: true,
      add_eos_token: false,
      model_max_length: contextLength,
      clean_up_tokenization_spaces: false,
      legacy: true,
    },
  };
}
