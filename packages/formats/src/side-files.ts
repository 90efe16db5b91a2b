// The small files beside the weights: found when a checkpoint is opened, copied when one is saved.
import { readdir, stat } from 'node:fs/promises';
import { extname, join } from 'node:path';
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

/** Every regular file directly in `directory` but the ones named, weights, hidden files and what is too large to be one, by name. */
export async function findSideFiles(directory: string, except: readonly string[]): Promise<ReadonlyMap<string, SideFile>> {
  const found = new Map<string, SideFile>();
  for (const name of (await readdir(directory)).sort()) {
    if (name.startsWith('.') || except.includes(name) || weightExtensions.has(extname(name))) continue;
    const path = join(directory, name);
    const info = await stat(path).catch((cause: unknown) => cause as NodeJS.ErrnoException);
    if (info instanceof Error) {
      if (info.code === 'ENOENT') continue; // a link whose target is gone, as in a download cache that was cleaned
      throw fileError(info, 'look at', path);
    }
    if (info.isFile() && info.size <= SMALL_FILE_BYTES) found.set(name, { read: () => readSmallFile(path) });
  }
  return found;
}

/** tokenizer.json and its config out of the side files of the checkpoint at `path`. @throws JSON_FILE */
export async function readTokenizer(path: string, sideFiles: ReadonlyMap<string, SideFile>): Promise<TokenizerFiles | undefined> {
  const parsed = async (name: string) => {
    const file = sideFiles.get(name);
    return file && parseJsonObject(await file.read(), join(path, name));
  };
  const tokenizer = await parsed('tokenizer.json');
  return tokenizer && { tokenizer, config: (await parsed('tokenizer_config.json')) ?? {} };
}
