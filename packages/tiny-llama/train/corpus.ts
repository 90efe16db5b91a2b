// The default corpus as token ids: learns the tokenizer on the training speeches and encodes both parts, once.
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { createTokenizer, sotuCorpus, type Tokenizer, type TokenStream, tokenStream } from '@lowbit/data';
import { tokenizerConfig, tokenizerJson, trainBytePairs } from './bpe.js';

export interface TokenizedCorpus {
  readonly tokenizer: Tokenizer;
  /** Contents of tokenizer.json and tokenizer_config.json. */
  readonly files: { readonly tokenizer: Record<string, unknown>; readonly config: Record<string, unknown> };
  readonly train: TokenStream;
  readonly heldOut: TokenStream;
}

/**
 * Tokenizer and tokens of the speeches, each speech after a BOS token. The vocabulary is kept in `cache` under the digest of the text
 * it was learned on.
 */
export async function tokenizedSpeeches(
  cache: string,
  vocabularySize: number,
  contextLength: number,
  progress: (stage: string) => void,
): Promise<TokenizedCorpus> {
  const train = await sotuCorpus('train');
  const heldOut = await sotuCorpus('held-out');
  const path = join(cache, `tokenizer-${vocabularySize}-${train.sha256.slice(0, 16)}.json`);
  let description = await readCached(path);
  if (!description) {
    progress(`learning ${vocabularySize} tokens from ${train.documents.length} speeches`);
    description = tokenizerJson(trainBytePairs(train.documents, vocabularySize));
    await mkdir(cache, { recursive: true });
    await writeFile(path, JSON.stringify(description));
  }
  const config = tokenizerConfig(contextLength);
  const tokenizer = createTokenizer(description, config);
  progress(`encoding ${train.documents.length + heldOut.documents.length} speeches`);
  const encode = (corpus: typeof train): TokenStream => tokenStream(corpus, tokenizer, { bos: 'document' });
  return { tokenizer, files: { tokenizer: description, config }, train: encode(train), heldOut: encode(heldOut) };
}

async function readCached(path: string): Promise<Record<string, unknown> | undefined> {
  try {
    return JSON.parse(await readFile(path, 'utf8')) as Record<string, unknown>;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw error;
  }
}
