// The weights of a checkpoint directory: one safetensors file, or shards with an index.
import { stat } from 'node:fs/promises';
import { join } from 'node:path';
import { LowbitError } from '@lowbit/core';
import { fileError, readJsonObject } from './read-file.js';
import { describeSafetensors, type FileHeader, listed, openSafetensors, type SafetensorsFile } from './safetensors-file.js';
import { INDEX_FILE, WEIGHTS_FILE } from './safetensors-write.js';

/** Whether a regular file is there. @throws FILE_PERMISSION and the like when that cannot be told. */
export async function isFile(path: string): Promise<boolean> {
  try {
    return (await stat(path)).isFile();
  } catch (cause) {
    const error = fileError(cause, 'look for', path);
    if (error instanceof LowbitError && error.code === 'FILE_MISSING') return false;
    throw error;
  }
}

/**
 * The file that holds each tensor, by tensor name; undefined when the directory has no safetensors weights. A single file goes
 * before an index, as in transformers. Tensors that the index does not name are ignored.
 * @param headers of files that are not there, by name.
 * @throws SAFETENSORS_INDEX for an index that does not fit its shards.
 */
export async function openWeights(
  directory: string,
  headers: WeightsHeaders = new Map(),
): Promise<ReadonlyMap<string, SafetensorsFile> | undefined> {
  const single = await openFile(directory, WEIGHTS_FILE, headers);
  if (single) return new Map([...single.entries.keys()].map((name) => [name, single]));
  const index = join(directory, INDEX_FILE);
  return (await isFile(index)) ? openShards(directory, index, headers) : undefined;
}

/** Of files of weights that are not there, by name. */
export type WeightsHeaders = ReadonlyMap<string, FileHeader>;

/** Undefined for a file of which there is not even a header. */
async function openFile(directory: string, name: string, headers: WeightsHeaders): Promise<SafetensorsFile | undefined> {
  const path = join(directory, name);
  const header = headers.get(name);
  if (header) return describeSafetensors(path, header);
  return (await isFile(path)) ? openSafetensors(path) : undefined;
}

async function openShards(directory: string, index: string, headers: WeightsHeaders): Promise<ReadonlyMap<string, SafetensorsFile>> {
  const { weight_map: weightMap } = await readJsonObject(index);
  if (typeof weightMap !== 'object' || weightMap === null || Array.isArray(weightMap)) {
    throw indexError(index, 'weight_map must be an object of file names by tensor name; fetch it again');
  }
  const placed = Object.entries(weightMap as Record<string, unknown>);
  const files = new Map<string, SafetensorsFile>();
  for (const [name, file] of placed) {
    // A shard lies beside its index: a name with a path in it could point anywhere.
    if (typeof file !== 'string' || !/^[^/\\]+\.safetensors$/.test(file)) {
      throw indexError(
        index,
        `places tensor '${name}' in ${typeof file === 'string' ? `'${file.slice(0, 80)}'` : typeof file}, which is not the name of a safetensors file beside it`,
      );
    }
    if (!files.has(file)) {
      const shard = await openFile(directory, file, headers);
      if (!shard) throw indexError(index, `names the shard ${file}, which is missing; fetch it`);
      files.set(file, shard);
    }
  }
  return new Map(
    placed.map(([name, file]) => {
      const shard = files.get(file as string) as SafetensorsFile;
      if (!shard.entries.has(name)) {
        throw indexError(
          index,
          `places tensor '${name}' in ${file}, which has ${listed([...shard.entries.keys()])}; index and shards are of different downloads, fetch them again`,
        );
      }
      return [name, shard];
    }),
  );
}

const indexError = (index: string, what: string): LowbitError => new LowbitError('SAFETENSORS_INDEX', `${index}: ${what}`);
