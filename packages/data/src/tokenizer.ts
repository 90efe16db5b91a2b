// Tokenizers: the Hugging Face `tokenizer.json` format through @huggingface/tokenizers, behind one small interface.
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { Tokenizer as HuggingFaceTokenizer } from '@huggingface/tokenizers';
import { LowbitError } from '@lowbit/core';
import { withWordSplit } from './word-split.js';

export interface EncodeOptions {
  /** Puts the BOS token first. Off by default: who builds the sequence decides. */
  readonly bos?: boolean;
}

/** Text to token ids and back. */
export interface Tokenizer {
  /** @throws TOKENIZER_BOS when BOS is asked for and the vocabulary names none. */
  encode(text: string, options?: EncodeOptions): Int32Array;
  /** Text without special tokens. @throws TOKEN_RANGE for an id outside the vocabulary. */
  decode(ids: ArrayLike<number>): string;
  /** One more than the highest id; a model's own table may be padded beyond it. */
  readonly vocabularySize: number;
  readonly bosToken: number | undefined;
  readonly eosToken: number | undefined;
  /** Whether the checkpoint was trained with BOS before each text: what callers should do when nobody said otherwise. */
  readonly addsBos: boolean;
}

type Json = Readonly<Record<string, unknown>>;

/**
 * A tokenizer from the parsed contents of `tokenizer.json` and `tokenizer_config.json`.
 * @param origin names the source in errors.
 * @throws TOKENIZER_INVALID when the description cannot be used.
 */
export function createTokenizer(tokenizerJson: unknown, tokenizerConfig: unknown = {}, origin = 'tokenizer.json'): Tokenizer {
  if (!isObject(tokenizerJson) || !isObject(tokenizerJson.model) || !hasEntries(tokenizerJson.model.vocab)) {
    throw new LowbitError('TOKENIZER_INVALID', `${origin}: has no "model" with a "vocab"; a Hugging Face tokenizer.json is needed`);
  }
  if (!isObject(tokenizerConfig)) throw new LowbitError('TOKENIZER_INVALID', `${origin}: its tokenizer_config.json is not an object`);
  const { model, pre_tokenizer = null } = tokenizerJson;
  const complete = { normalizer: null, post_processor: null, decoder: null, added_tokens: [], ...tokenizerJson, model, pre_tokenizer };
  // Decoding must give the text back; the library's default (true) removes spaces before punctuation.
  const config = { clean_up_tokenization_spaces: false, ...tokenizerConfig };
  let engine: HuggingFaceTokenizer;
  try {
    engine = new HuggingFaceTokenizer(withWordSplit(complete), config);
  } catch (cause) {
    throw new LowbitError(
      'TOKENIZER_INVALID',
      `${origin}: ${(cause as Error).message}; the file is damaged or of a kind that is not supported`,
      { cause },
    );
  }
  return wrap(engine, config, origin);
}

/**
 * The tokenizer of a checkpoint directory.
 * @throws TOKENIZER_MISSING without a tokenizer.json, TOKENIZER_INVALID when it cannot be used.
 */
export async function loadTokenizer(directory: string): Promise<Tokenizer> {
  const path = join(directory, 'tokenizer.json');
  const description = await readJson(path);
  if (description === undefined) {
    throw new LowbitError('TOKENIZER_MISSING', `${path}: not found; text needs the checkpoint's tokenizer beside its weights`);
  }
  return createTokenizer(description, (await readJson(join(directory, 'tokenizer_config.json'))) ?? {}, path);
}

function wrap(engine: HuggingFaceTokenizer, config: Json, origin: string): Tokenizer {
  const plain = (text: string): number[] => engine.encode(text, { add_special_tokens: false }).ids;
  const idOf = (token: unknown): number | undefined => {
    const content = isObject(token) ? token.content : token;
    return typeof content === 'string' ? engine.token_to_id(content) : undefined;
  };
  let vocabularySize = 0;
  for (const id of engine.get_vocab().values()) vocabularySize = Math.max(vocabularySize, id + 1);
  const prefix = templatePrefix(engine, plain);
  const bosToken = idOf(config.bos_token) ?? prefix;
  const addsBos = bosToken !== undefined && (typeof config.add_bos_token === 'boolean' ? config.add_bos_token : prefix === bosToken);

  return {
    vocabularySize,
    bosToken,
    eosToken: idOf(config.eos_token),
    addsBos,
    encode(text, { bos = false } = {}) {
      if (bos && bosToken === undefined) {
        throw new LowbitError('TOKENIZER_BOS', `${origin}: this tokenizer has no BOS token; encode without it (bos: false)`);
      }
      const ids = plain(text);
      const start = bos ? 1 : 0;
      const out = new Int32Array(ids.length + start);
      if (bos) out[0] = bosToken as number;
      for (let i = 0; i < ids.length; i++) {
        if (ids[i] === undefined) {
          throw new LowbitError(
            'TOKENIZER_INVALID',
            `${origin}: a piece of the text is not in the vocabulary and there is no unknown token for it`,
          );
        }
        out[start + i] = ids[i];
      }
      return out;
    },
    decode(ids) {
      const list = Array.from(ids);
      for (const id of list) {
        if (!(Number.isInteger(id) && id >= 0 && id < vocabularySize)) {
          throw new LowbitError(
            'TOKEN_RANGE',
            `${origin}: token ${id} is outside the vocabulary [0, ${vocabularySize}); is this the model's own tokenizer?`,
          );
        }
      }
      return list.length === 0 ? '' : engine.decode(list, { skip_special_tokens: true });
    },
  };
}

/** What the post-processor puts before a text, if anything: checkpoints without a tokenizer_config.json say BOS only there. */
function templatePrefix(engine: HuggingFaceTokenizer, plain: (text: string) => number[]): number | undefined {
  const bare = plain('a');
  const full = engine.encode('a', { add_special_tokens: true }).ids;
  return full.length > bare.length && full[0] !== bare[0] ? full[0] : undefined;
}

async function readJson(path: string): Promise<unknown> {
  let text: string;
  try {
    text = await readFile(path, 'utf8');
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw new LowbitError('TOKENIZER_MISSING', `${path}: cannot be read (${(cause as Error).message})`, { cause });
  }
  try {
    return JSON.parse(text);
  } catch (cause) {
    throw new LowbitError(
      'TOKENIZER_INVALID',
      `${path}: is not valid JSON (${(cause as Error).message}); download the checkpoint's file again`,
      { cause },
    );
  }
}

function isObject(value: unknown): value is Json {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/** A vocabulary is an object (BPE, WordPiece) or a list of pairs (Unigram). */
function hasEntries(value: unknown): boolean {
  return Array.isArray(value) ? value.length > 0 : isObject(value) && Object.keys(value).length > 0;
}
