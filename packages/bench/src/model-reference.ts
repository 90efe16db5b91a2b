// Models by what a person calls them: 'tiny', 'tiny-outliers', 'stories15M', 'hf:owner/name', or the directory of a checkpoint.
import { existsSync } from 'node:fs';
import { basename, join, resolve } from 'node:path';
import { type ExperimentModel, LowbitError, type Model } from '@lowbit/core';
import { createTokenizer, type Tokenizer } from '@lowbit/data';
import { type Checkpoint, CONFIG_FILE, openCheckpoint, openStories15M, readConfig } from '@lowbit/formats';
import { fetchModel, type HubOptions, hubModelName, isHubReference } from '@lowbit/hub';
import { loadModel, modelConfig } from '@lowbit/models';
import { tinyLlamaDirectory, tinyLlamaOutliersDirectory } from '@lowbit/tiny-llama';
import { didYouMean } from './suggestion.js';
import type { TextSource } from './texts.js';

/** A model with what belongs to it. */
export interface ResolvedModel {
  /** As rows and tables call it. */
  readonly name: string;
  readonly model: Model;
  readonly tokenizer: Tokenizer;
  readonly checkpoint: Checkpoint;
  /** Text of the kind the model was trained on, as far as that is at hand. */
  readonly text: TextSource;
  /** What it is, beside what reads it: of a model of the hub its commit, by its reference. */
  readonly versions: Readonly<Record<string, string>>;
  /** How it was opened, and texts and tasks of the hub are. */
  readonly hub: HubOptions | undefined;
  /** What of its weights is still to be fetched, and where to; undefined when they are there. */
  readonly absent: AbsentWeights | undefined;
}

/** Weights of which there are headers alone. */
interface AbsentWeights {
  readonly bytes: number;
  /** The directory of a cache. */
  readonly cache: string;
  /** The same model with its weights, which are fetched now. @throws what `fetchModel` throws. */
  fetch(): Promise<ResolvedModel>;
}

interface NamedModel {
  /** `directory` is where the command runs. */
  readonly open: (directory: string) => Promise<Checkpoint>;
  readonly text: TextSource;
}

const namedModels: Readonly<Record<string, NamedModel>> = {
  tiny: { open: () => openCheckpoint(tinyLlamaDirectory()), text: { kind: 'sotu' } },
  'tiny-outliers': { open: () => openCheckpoint(tinyLlamaOutliersDirectory()), text: { kind: 'sotu' } },
  // Trained on TinyStories, which no npm package holds: the model writes its own.
  stories15M: { open: openStories15M, text: { kind: 'self' } },
};

/** Names that `resolveModel` knows besides directories. */
export const modelNames: readonly string[] = Object.keys(namedModels);

/** What rows call the model of a reference: its name, or the last part of its directory. @throws HUB_REFERENCE */
export function modelName(reference: string): string {
  if (isHubReference(reference)) return hubModelName(reference);
  return Object.hasOwn(namedModels, reference) ? reference : basename(resolve(reference));
}

export interface ResolveOptions {
  /** Of a model of the hub whose weights are not in the cache, fetch headers alone: shapes are known, and nothing can be computed. */
  readonly headers?: boolean;
}

/**
 * Opens a model by name, directory, or reference to the hub, which is fetched if need be. Weights are read when they are touched.
 * @throws MODEL_REFERENCE for what is none; TOKENIZER_MISSING for a checkpoint without tokenizer.json; what `fetchModel` throws.
 */
export async function resolveModel(
  reference: string,
  directory = process.cwd(),
  hub?: HubOptions,
  { headers: isShort = false }: ResolveOptions = {},
): Promise<ResolvedModel> {
  if (Object.hasOwn(namedModels, reference)) {
    const { open, text } = namedModels[reference];
    return load(await open(directory), { name: reference, text, versions: {}, hub, absent: undefined });
  }
  const name = modelName(reference);
  if (!isHubReference(reference)) {
    const checkpoint = await openCheckpoint(directoryOf(reference, directory));
    return load(checkpoint, { name, text: { kind: 'sotu' }, versions: {}, hub, absent: undefined });
  }
  const source = await fetchModel(reference, { ...hub, weights: isShort ? 'headers' : true });
  const { directory: path, repository, commit, cache, headers } = source;
  const bytes = [...headers.values()].reduce((sum, { size }) => sum + size, 0);
  // By its commit: a branch may move while a plan is made.
  const absent = headers.size === 0 ? undefined : { bytes, cache, fetch: () => resolveModel(source.reference, directory, hub) };
  const checkpoint = await openCheckpoint(path, { headers });
  return load(checkpoint, { name, text: { kind: 'sotu' }, versions: { [`hf:${repository}`]: commit }, hub, absent });
}

/**
 * What there is to know of a model without its weights: of a directory, config.json is enough.
 * Of a model of the hub that is all that is fetched.
 * @throws MODEL_REFERENCE for what is neither a name nor a directory, MODEL_UNKNOWN for another architecture, and what reading throws.
 */
export async function describeModel(reference: string, directory = process.cwd(), hub?: HubOptions): Promise<ExperimentModel> {
  if (Object.hasOwn(namedModels, reference)) {
    const checkpoint = await namedModels[reference].open(directory);
    return { name: reference, config: modelConfig(checkpoint.config), tensorBytes: bytesOf(checkpoint) };
  }
  const path = isHubReference(reference)
    ? (await fetchModel(reference, { ...hub, weights: false })).directory
    : directoryOf(reference, directory);
  const { source } = await readConfig(join(path, CONFIG_FILE));
  const checkpoint = await openCheckpoint(path).catch((error: unknown) => {
    if (error instanceof LowbitError && error.code === 'CHECKPOINT_MISSING') return null;
    throw error;
  });
  return {
    name: modelName(isHubReference(reference) ? reference : path),
    config: modelConfig(source),
    tensorBytes: checkpoint && bytesOf(checkpoint),
  };
}

function bytesOf({ entries, storedBits }: Checkpoint): number {
  const bits = [...entries].map(([name, { shape }]) => storedBits(name) * shape.reduce((product, n) => product * n, 1));
  return bits.reduce((sum, one) => sum + one, 0) / 8;
}

function directoryOf(reference: string, directory: string): string {
  const path = resolve(directory, reference);
  if (existsSync(path)) return path;
  throw new LowbitError(
    'MODEL_REFERENCE',
    `'${reference}' is no known model and no directory; ${didYouMean(reference, modelNames)}, the directory of a checkpoint, or hf:owner/name for a model of the Hugging Face hub`,
  );
}

async function load(checkpoint: Checkpoint, known: Omit<ResolvedModel, 'model' | 'tokenizer' | 'checkpoint'>): Promise<ResolvedModel> {
  const files = await checkpoint.tokenizer();
  if (!files)
    throw new LowbitError(
      'TOKENIZER_MISSING',
      `${checkpoint.path}: has no tokenizer.json; copy it from the model's source into the directory`,
    );
  return {
    ...known,
    model: await loadModel(checkpoint),
    tokenizer: createTokenizer(files.tokenizer, files.config, checkpoint.path),
    checkpoint,
  };
}
