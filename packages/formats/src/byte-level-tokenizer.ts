// A GPT-2 tokenizer out of the files that it had before tokenizer.json, as OPT's checkpoints still do: vocab.json and merges.txt.
import { LowbitError } from '@lowbit/core';
import type { TokenizerFiles } from './checkpoint.js';
import { decodeText } from './read-file.js';

type Json = Readonly<Record<string, unknown>>;

/** Classes of transformers that read the two files in this way; where none is named, the family of a checkpoint with the two has it. */
const classes = ['GPT2Tokenizer', 'GPT2TokenizerFast'];

const specialNames = ['bos_token', 'eos_token', 'unk_token', 'pad_token'];

/** Whether a tokenizer of this tokenizer_config.json cuts text as GPT-2's does. */
export function isByteLevel({ tokenizer_class: name = classes[0] }: Json): boolean {
  return typeof name === 'string' && classes.includes(name);
}

export interface ByteLevelFiles {
  /** vocab.json: ids by piece, in GPT-2's printable stand-ins for bytes. */
  readonly vocabulary: Json;
  /** merges.txt: a pair of pieces a line, the first to be merged first. */
  readonly merges: Uint8Array;
  /** added_tokens.json: ids of tokens beside the vocabulary. */
  readonly added: Json;
  /** tokenizer_config.json over special_tokens_map.json. */
  readonly config: Json;
}

/**
 * tokenizer.json and tokenizer_config.json: GPT-2's byte-level BPE with the special tokens that the config names.
 * @throws TOKENIZER_FILES for ids that are no numbers, and merges that are no pairs; `at` says where a file lies.
 */
export function byteLevelTokenizer({ vocabulary, merges, added, config }: ByteLevelFiles, at: (name: string) => string): TokenizerFiles {
  const ids = new Map([...idsOf(vocabulary, at('vocab.json')), ...idsOf(added, at('added_tokens.json'))]);
  const named = specialNames.flatMap((name) => contentOf(config[name]) ?? []);
  const specials = [...new Set([...named, ...Object.keys(added)])].filter((content) => ids.has(content));
  const byteLevel = { type: 'ByteLevel', add_prefix_space: config.add_prefix_space === true, trim_offsets: true, use_regex: true };
  const tokens = specials.map((content) => ({
    id: ids.get(content) as number,
    content,
    single_word: false,
    lstrip: false,
    rstrip: false,
    normalized: false,
    special: true,
  }));
  return {
    tokenizer: {
      version: '1.0',
      truncation: null,
      padding: null,
      added_tokens: tokens.sort((a, b) => a.id - b.id),
      normalizer: null,
      pre_tokenizer: byteLevel,
      post_processor: null,
      decoder: byteLevel,
      model: {
        type: 'BPE',
        dropout: null,
        unk_token: null,
        continuing_subword_prefix: null,
        end_of_word_suffix: null,
        fuse_unk: false,
        byte_fallback: false,
        vocab: Object.fromEntries(idsOf(vocabulary, at('vocab.json'))),
        merges: pairsOf(merges, at('merges.txt')),
      },
    },
    config,
  };
}

function idsOf(vocabulary: Json, where: string): [string, number][] {
  return Object.entries(vocabulary).map(([piece, id]) => {
    if (typeof id === 'number' && Number.isInteger(id) && id >= 0) return [piece, id];
    throw new LowbitError('TOKENIZER_FILES', `${where}: '${piece}' has the id ${JSON.stringify(id)}, which is none; fetch the file again`);
  });
}

/** What a special token is written as: a string, or an object that says so. */
function contentOf(token: unknown): string | undefined {
  const content = typeof token === 'object' && token !== null ? (token as Json).content : token;
  return typeof content === 'string' ? content : undefined;
}

function pairsOf(bytes: Uint8Array, where: string): string[] {
  const text = decodeText(bytes);
  if (text === undefined) throw new LowbitError('TOKENIZER_FILES', `${where}: is not UTF-8 text; fetch it again`);
  const lines = text.split('\n').map((line) => line.replace(/\r$/, ''));
  const pairs = lines.filter((line, i) => line !== '' && !(i === 0 && line.startsWith('#version')));
  const wrong = pairs.find((line) => !/^[^ ]+ [^ ]+$/.test(line));
  if (wrong === undefined) return pairs;
  throw new LowbitError('TOKENIZER_FILES', `${where}: '${wrong}' is not a pair of pieces; fetch the file again`);
}
