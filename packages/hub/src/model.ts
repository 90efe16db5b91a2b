// The files of a model that a checkpoint is opened from: config, weights in safetensors, tokenizer, chat templates.
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { LowbitError } from '@lowbit/core';
import type { FileHeader } from './header.js';
import { type HubOptions, type HubSource, openSource } from './source.js';

const CONFIG = 'config.json';
const WEIGHTS = 'model.safetensors';
const INDEX = 'model.safetensors.index.json';

/** Besides the weights. Other weights, pictures and code are left where they are. */
const SMALL_FILES =
  /^(?:generation_config\.json|tokenizer(?:_config)?\.json|(?:tokenizer|spiece|sentencepiece\.bpe)\.model|tokenizer\.model\.v\d+|tekken\.json|special_tokens_map\.json|added_tokens\.json|vocab\.(?:json|txt|bpe)|encoder\.json|merges\.txt|chat_template\.(?:jinja|json)|additional_chat_templates\/[^/]+\.jinja)$/;

export interface ModelOptions extends HubOptions {
  /** Config and tokenizer alone are enough where false; with 'headers', what files of weights hold is known, and they are not fetched. */
  readonly weights?: boolean | 'headers' | undefined;
}

/** A model of the hub in the cache. */
export interface HubModel extends HubSource {
  /** Of the files of weights that are not there, where headers were asked for: by name. */
  readonly headers: ReadonlyMap<string, FileHeader>;
}

/**
 * Brings a model of the hub into the cache: a directory that opens as a checkpoint. What is there is not fetched again.
 * @throws HUB_FILES for a repository without config.json or safetensors weights, and what `openSource` and its `fetch` throw.
 */
export async function fetchModel(reference: string, { weights = true, ...options }: ModelOptions = {}): Promise<HubModel> {
  const source = await openSource(reference, 'model', options);
  const { files } = source;
  const index = weights !== false && !files.includes(WEIGHTS) && files.includes(INDEX);
  await source.fetch([CONFIG, ...files.filter((path) => SMALL_FILES.test(path)), ...(index ? [INDEX] : [])]);
  if (!files.includes(CONFIG)) throw lacking(source, CONFIG, 'it may hold an adapter or weights of another format');
  if (weights === false) return { ...source, headers: new Map() };
  const wanted = index ? await shardsOf(source) : [WEIGHTS];
  const headers = weights === 'headers' ? await source.fetchHeaders(wanted) : new Map<string, FileHeader>();
  if (weights !== 'headers') await source.fetch(wanted);
  const missing = wanted.find((path) => !files.includes(path));
  if (missing !== undefined) throw lacking(source, missing, 'weights are read from safetensors alone');
  return { ...source, headers };
}

/** @throws HUB_FILES for an index that is none. */
async function shardsOf(source: HubSource): Promise<string[]> {
  try {
    const { weight_map: files } = JSON.parse(await readFile(join(source.directory, INDEX), 'utf8')) as {
      weight_map: Record<string, string>;
    };
    return [...new Set(Object.values(files))].sort();
  } catch (cause) {
    throw new LowbitError(
      'HUB_FILES',
      `${source.reference}: ${INDEX} cannot be read (${(cause as Error).message}); choose another model or revision`,
      { cause },
    );
  }
}

function lacking({ reference, files }: HubSource, name: string, why: string): LowbitError {
  const shown = files.filter((path) => !path.includes('/') && !path.startsWith('.')).slice(0, 12);
  return new LowbitError(
    'HUB_FILES',
    `${reference}: has no ${name}: ${why}; it has ${shown.join(', ') || 'no files'}${files.length > shown.length ? ', …' : ''}. Choose a repository in Hugging Face layout`,
  );
}
