// Opens a checkpoint directory: config.json, safetensors weights, and what lowbit adds for quantized Linears.
import { readdir, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { LowbitError } from '@lowbit/core';
import type { Checkpoint } from './checkpoint.js';
import { CONFIG_FILE, readConfig } from './checkpoint-config.js';
import { restoreState } from './linear-record.js';
import { fileError } from './read-file.js';
import { listed, missingTensor, type SafetensorsFile } from './safetensors-file.js';
import { INDEX_FILE, WEIGHTS_FILE } from './safetensors-write.js';
import { findSideFiles, readTokenizer } from './side-files.js';
import { storedBytes } from './stored-dtype.js';
import { isFile, openWeights, type WeightsHeaders } from './weights.js';

export interface OpenOptions {
  /** Of files of weights that are not in the directory, by name: their tensors have shapes and types, and cannot be read. */
  readonly headers?: WeightsHeaders | undefined;
}

/**
 * Opens a checkpoint in Hugging Face layout, plain or written by `saveCheckpoint`. Reads headers and JSON, no weights.
 * @throws CHECKPOINT_MISSING saying what was looked for and what is there; CONFIG_JSON, CHECKPOINT_VERSION, CHECKPOINT_LINEAR,
 * SAFETENSORS_HEADER, SAFETENSORS_TENSOR, SAFETENSORS_INDEX for files that are not what they should be.
 */
export async function openCheckpoint(directory: string, { headers }: OpenOptions = {}): Promise<Checkpoint> {
  const config = join(directory, CONFIG_FILE);
  if (!(await isFile(config))) throw await missing(directory);
  const { source, lowbit } = await readConfig(config);
  const weights = await openWeights(directory, headers);
  if (!weights) throw await missing(directory);

  const fileOf = (name: string): SafetensorsFile => {
    const file = weights.get(name);
    if (!file) throw missingTensor(directory, name, weights.keys());
    return file;
  };
  const entryOf = (name: string) => {
    const { shape, dtype } = fileOf(name).entries.get(name) as { shape: readonly number[]; dtype: string };
    return { shape, dtype };
  };
  const sideFiles = await findSideFiles(directory, [CONFIG_FILE, INDEX_FILE]);
  return {
    path: directory,
    config: source,
    entries: new Map([...weights.keys()].map((name) => [name, entryOf(name)])),
    tensor: (name) => fileOf(name).tensor(name),
    storedBits: (name) => 8 * (storedBytes.get(entryOf(name).dtype) as number),
    linears: new Map(Object.entries(lowbit?.linears ?? {}).map(([path, record]) => [path, restoreState(path, record, weights)])),
    residualWidth: lowbit?.residualWidth,
    keyValues: new Map(Object.entries(lowbit?.keyValues ?? {})),
    tokenizer: () => readTokenizer(directory, sideFiles),
    sideFiles,
    provenance: { recipe: lowbit?.recipe, versions: lowbit?.versions, seed: lowbit?.seed, task: lowbit?.task },
  };
}

async function missing(directory: string): Promise<unknown> {
  let names: string[];
  try {
    if (!(await stat(directory)).isDirectory()) {
      return new LowbitError(
        'CHECKPOINT_MISSING',
        `${directory}: is a file; give the directory that holds ${CONFIG_FILE} and ${WEIGHTS_FILE}`,
      );
    }
    names = await readdir(directory);
  } catch (cause) {
    return fileError(cause, 'open the checkpoint', directory);
  }
  const seen = (name: string) => `${name} (${names.includes(name) ? 'there' : 'not there'})`;
  return new LowbitError(
    'CHECKPOINT_MISSING',
    `${directory}: is not a checkpoint: looked for ${seen(CONFIG_FILE)}, and ${seen(WEIGHTS_FILE)} or ${seen(INDEX_FILE)}; the directory holds ` +
      `${listed(names.sort())}. Give a directory in Hugging Face layout with safetensors weights; other weights must be converted first`,
  );
}
