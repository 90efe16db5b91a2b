// Saves a model: Hugging Face layout for what is dense, packed codes and a section in config.json for what is quantized.
import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { DenseLinear, type Linear, LowbitError, type Model, type Step, throwIfAborted } from '@lowbit/core';
import { writeFileAtomically, writeFilesTogether } from './atomic-write.js';
import type { SideFile, TaskRecord } from './checkpoint.js';
import { CONFIG_FILE, checkConfig, formatVersion, type LowbitSection, QUANT_METHOD } from './checkpoint-config.js';
import { linearRecord } from './linear-record.js';
import { tensorsToStore, tiesEmbeddings } from './model-tensors.js';
import { fileError } from './read-file.js';
import { requireJson } from './require-json.js';
import { INDEX_FILE, WEIGHTS_FILE, writeShards } from './safetensors-write.js';
import { isSideFileName } from './side-files.js';
import { type StepRecord, stepRecord } from './step-record.js';

export interface SaveOptions {
  /** Steps that made the model, kept for whoever asks where it came from. */
  readonly recipe?: readonly (Step | StepRecord)[] | undefined;
  /** Package versions by name. */
  readonly versions?: Readonly<Record<string, string>> | undefined;
  readonly seed?: number | undefined;
  /** What the model was tuned for; its examples are not kept. */
  readonly task?: TaskRecord | undefined;
  /** Copied byte for byte: `checkpoint.sideFiles` of the source. */
  readonly sideFiles?: ReadonlyMap<string, SideFile> | undefined;
  readonly maxShardBytes?: number | undefined;
  /** Replace the checkpoint that the directory holds. Refused by default. */
  readonly overwrite?: boolean | undefined;
  readonly signal?: AbortSignal | undefined;
  /** Tensors written, of how many. */
  readonly progress?: ((done: number, total: number) => void) | undefined;
}

/**
 * Writes a model as a checkpoint directory that `openCheckpoint` reads. Nothing is lost: codes are packed, and a float tensor goes
 * into 16 bits only when every value fits (the source checkpoint's type before another; a dense Linear as its `bitsPerElement` says).
 * Tied embeddings are stored once, and a norm whose weight has been folded into its readers as ones. Equal models and options give equal bytes. All files are complete on the disk before the first gets
 * its final name, so the model may read lazily from the directory that it replaces.
 * @throws CHECKPOINT_EXISTS; CONFIG_JSON when the model's source config is none; TENSOR_NOT_EVALUATED when a tensor is an expression (materialize the model first); LINEAR_STATE; NOT_JSON;
 * DISK_FULL and the like.
 */
export async function saveCheckpoint(directory: string, model: Model, options: SaveOptions = {}): Promise<void> {
  const { sideFiles = new Map<string, SideFile>(), signal } = options;
  const obsolete = await existingCheckpoint(directory);
  if (obsolete.length > 0 && !options.overwrite) {
    throw new LowbitError(
      'CHECKPOINT_EXISTS',
      `${directory}: holds a checkpoint already (${obsolete.join(', ')}); choose another directory, or overwrite it`,
    );
  }
  checkSideFiles(directory, sideFiles);
  checkConfig(model.config.source, join(directory, CONFIG_FILE));
  const linears = linearsOf(model);
  const config = configOf(model, linears, options);
  const tensors = await tensorsToStore(model, linears, signal);
  await writeFilesTogether(directory, obsolete, async (staging) => {
    const weights = await writeShards(staging, tensors, { maxShardBytes: options.maxShardBytes, progress: options.progress });
    throwIfAborted(signal);
    for (const [name, file] of sideFiles) await writeWhole(join(staging, name), await file.read());
    await writeWhole(join(staging, CONFIG_FILE), Buffer.from(`${JSON.stringify(config, null, 2)}\n`));
    return [...weights, ...sideFiles.keys(), CONFIG_FILE]; // without config.json a directory is no checkpoint, so it comes last
  });
}

const writeWhole = (path: string, bytes: Uint8Array): Promise<void> => writeFileAtomically(path, (sink) => sink(bytes));

// What makes a directory a checkpoint, config.json first: an overwrite that is interrupted leaves no mixture that can be opened.
async function existingCheckpoint(directory: string): Promise<string[]> {
  let names: string[];
  try {
    names = await readdir(directory);
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code === 'ENOENT') return [];
    throw fileError(cause, 'write', directory);
  }
  return names.filter(isCheckpointFile).sort((a, b) => Number(b === CONFIG_FILE) - Number(a === CONFIG_FILE) || (a < b ? -1 : 1));
}

const isCheckpointFile = (name: string): boolean =>
  name === CONFIG_FILE || name === WEIGHTS_FILE || name === INDEX_FILE || /^model-\d+-of-\d+\.safetensors$/.test(name);

function checkSideFiles(directory: string, sideFiles: ReadonlyMap<string, SideFile>): void {
  for (const name of sideFiles.keys()) {
    if (!isSideFileName(name) || isCheckpointFile(name)) {
      throw new LowbitError(
        'SIDE_FILE',
        `${directory}: '${name}' cannot be a side file; give plain names other than those of config and weights, or a template in additional_chat_templates/`,
      );
    }
  }
}

/** Every Linear by path, the head included. */
function linearsOf(model: Model): Map<string, Linear> {
  const found = new Map<string, Linear>();
  for (const block of model.blocks) for (const [name, linear] of Object.entries(block.linears)) found.set(`${block.path}.${name}`, linear);
  return found.set(model.layout.head, model.head);
}

function configOf(
  model: Model,
  linears: ReadonlyMap<string, Linear>,
  { recipe, versions, seed, task }: SaveOptions,
): Record<string, unknown> {
  const tied = tiesEmbeddings(model);
  const saysTied = model.config.source.tie_word_embeddings ?? model.layout.isTiedByDefault;
  const source = { ...model.config.source, ...(tied !== saysTied && { tie_word_embeddings: tied }) };
  const quantized = [...linears].filter(([, linear]) => !(linear instanceof DenseLinear)).sort(([a], [b]) => (a < b ? -1 : 1));
  const rounding = model.blocks.flatMap(({ path, keyValues }) => (keyValues ? [[path, keyValues] as const] : []));
  const beyondOthers = {
    ...(model.width !== model.config.hiddenSize && { residualWidth: model.width }),
    ...(rounding.length > 0 && { keyValues: Object.fromEntries(rounding) }),
  };
  const needsLowbit = quantized.length > 0 || Object.keys(beyondOthers).length > 0;
  if (!needsLowbit && !recipe && !versions && seed === undefined && !task) return source;

  const section = {
    recipe: recipe?.map(stepRecord),
    versions: versions && Object.fromEntries(Object.entries(versions).sort(([a], [b]) => (a < b ? -1 : 1))),
    seed,
    task: task && { description: task.description, hash: task.hash, protocol: task.protocol },
    linears: Object.fromEntries(quantized.map(([path, linear]) => [path, linearRecord(path, linear.state())])),
    ...beyondOthers,
  };
  const lowbit: LowbitSection = { formatVersion: formatVersion(section), ...section };
  requireJson(lowbit, 'saveCheckpoint');
  return { ...source, ...(needsLowbit && { quantization_config: { quant_method: QUANT_METHOD } }), lowbit };
}
