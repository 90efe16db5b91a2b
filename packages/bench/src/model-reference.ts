// Models by what a person calls them: 'tiny', 'tiny-outliers', 'stories15M', or the directory of a checkpoint.
import { existsSync } from 'node:fs';
import { basename, join, resolve } from 'node:path';
import { type ExperimentModel, LowbitError, type Model } from '@lowbit/core';
import { createTokenizer, type Tokenizer } from '@lowbit/data';
import { type Checkpoint, CONFIG_FILE, openCheckpoint, openStories15M, readConfig } from '@lowbit/formats';
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

/** What rows call the model of a reference: its name, or the last part of its directory. */
export function modelName(reference: string): string {
  return Object.hasOwn(namedModels, reference) ? reference : basename(resolve(reference));
}

/**
 * Opens a model by name or directory. Weights are read when they are touched.
 * @throws MODEL_REFERENCE for what is neither; TOKENIZER_MISSING for a checkpoint without tokenizer.json.
 */
export async function resolveModel(reference: string, directory = process.cwd()): Promise<ResolvedModel> {
  if (Object.hasOwn(namedModels, reference)) {
    const { open, text } = namedModels[reference];
    return load(reference, await open(directory), text);
  }
  return load(modelName(reference), await openCheckpoint(directoryOf(reference, directory)), { kind: 'sotu' });
}

/**
 * What there is to know of a model without its weights: of a directory, config.json is enough.
 * @throws MODEL_REFERENCE for what is neither a name nor a directory, MODEL_UNKNOWN for another architecture, and what reading throws.
 */
export async function describeModel(reference: string, directory = process.cwd()): Promise<ExperimentModel> {
  if (Object.hasOwn(namedModels, reference)) {
    const checkpoint = await namedModels[reference].open(directory);
    return { name: reference, config: modelConfig(checkpoint.config), tensorBytes: bytesOf(checkpoint) };
  }
  const path = directoryOf(reference, directory);
  const { source } = await readConfig(join(path, CONFIG_FILE));
  const checkpoint = await openCheckpoint(path).catch((error: unknown) => {
    if (error instanceof LowbitError && error.code === 'CHECKPOINT_MISSING') return null;
    throw error;
  });
  return { name: basename(path), config: modelConfig(source), tensorBytes: checkpoint && bytesOf(checkpoint) };
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
    `'${reference}' is no known model and no directory; ${didYouMean(reference, modelNames)}, or the directory of a checkpoint`,
  );
}

async function load(name: string, checkpoint: Checkpoint, text: TextSource): Promise<ResolvedModel> {
  const files = await checkpoint.tokenizer();
  if (!files)
    throw new LowbitError(
      'TOKENIZER_MISSING',
      `${checkpoint.path}: has no tokenizer.json; copy it from the model's source into the directory`,
    );
  return {
    name,
    model: await loadModel(checkpoint),
    tokenizer: createTokenizer(files.tokenizer, files.config, checkpoint.path),
    checkpoint,
    text,
  };
}
