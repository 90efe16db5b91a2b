// The small files beside the weights: found when a checkpoint is opened, copied when one is saved.
import type { Stats } from 'node:fs';
import { readdir, stat } from 'node:fs/promises';
import { basename, extname, join } from 'node:path';
import { byteLevelTokenizer, isByteLevel } from './byte-level-tokenizer.js';
import type { SideFile, TokenizerFiles } from './checkpoint.js';
import { fileError, parseJsonObject, readSmallFile, SMALL_FILE_BYTES } from './read-file.js';

/** Weights in any format, ours or another's: never copied along. */
const weightExtensions = new Set([
  '.safetensors',
  '.bin',
  '.pt',
  '.pth',
  '.ckpt',
  '.h5',
  '.msgpack',
  '.gguf',
  '.ggml',
  '.onnx',
  '.onnx_data',
  '.npz',
  '.tmp',
]);

/** Where chat templates beside the first one lie, a .jinja each: the one folder that belongs to a checkpoint. */
const TEMPLATE_FOLDER = 'additional_chat_templates';

/** Whether a save may put a file of this name beside the weights: a plain name, or a chat template in its folder. */
export function isSideFileName(name: string): boolean {
  const plain = name.startsWith(`${TEMPLATE_FOLDER}/`) ? name.slice(TEMPLATE_FOLDER.length + 1) : name;
  return plain !== '' && plain === basename(plain) && !plain.startsWith('.') && !plain.includes('\\') && !isWeightsFile(plain);
}

/** Weights, or where weights of another format say which file holds what. */
function isWeightsFile(name: string): boolean {
  const indexed = name.endsWith('.index.json') ? name.slice(0, -'.index.json'.length) : name;
  return weightExtensions.has(extname(indexed));
}

/**
 * Every regular file directly in `directory`, and every chat template in its folder, by name with '/': but the ones named, weights,
 * hidden files and what is too large to be one.
 */
export async function findSideFiles(directory: string, except: readonly string[]): Promise<ReadonlyMap<string, SideFile>> {
  const names = (await readdir(directory)).sort();
  const templates = names.includes(TEMPLATE_FOLDER) ? await templatesIn(join(directory, TEMPLATE_FOLDER)) : [];
  const found = new Map<string, SideFile>();
  for (const name of [...names, ...templates]) {
    if (except.includes(name) || !isSideFileName(name)) continue;
    const path = join(directory, name);
    const info = await lookAt(path);
    if (info?.isFile() && info.size <= SMALL_FILE_BYTES) found.set(name, { read: () => readSmallFile(path) });
  }
  return found;
}

/** Undefined for a link whose target is gone, as in a download cache that was cleaned. */
async function lookAt(path: string): Promise<Stats | undefined> {
  try {
    return await stat(path);
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw fileError(cause, 'look at', path);
  }
}

async function templatesIn(folder: string): Promise<string[]> {
  if (!(await lookAt(folder))?.isDirectory()) return [];
  const names = (await readdir(folder)).filter((name) => extname(name) === '.jinja');
  return names.sort().map((name) => `${TEMPLATE_FOLDER}/${name}`);
}

/**
 * tokenizer.json and its config out of the side files of the checkpoint at `path`; or both made of GPT-2's older files.
 * @throws JSON_FILE, TOKENIZER_FILES
 */
export async function readTokenizer(path: string, sideFiles: ReadonlyMap<string, SideFile>): Promise<TokenizerFiles | undefined> {
  const at = (name: string): string => join(path, name);
  const parsed = async (name: string): Promise<Record<string, unknown> | undefined> => {
    const file = sideFiles.get(name);
    return file && parseJsonObject(await file.read(), at(name));
  };
  const config = (await parsed('tokenizer_config.json')) ?? {};
  const tokenizer = await parsed('tokenizer.json');
  if (tokenizer) return { tokenizer, config };
  const [vocabulary, merges] = [await parsed('vocab.json'), await sideFiles.get('merges.txt')?.read()];
  if (!vocabulary || !merges || !isByteLevel(config)) return undefined;
  const added = (await parsed('added_tokens.json')) ?? {};
  return byteLevelTokenizer({ vocabulary, merges, added, config: { ...(await parsed('special_tokens_map.json')), ...config } }, at);
}
