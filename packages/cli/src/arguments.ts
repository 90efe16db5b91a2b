// Options that several commands share, and how their values are read.
import { basename, resolve } from 'node:path';
import { backendName, chooseBackend, hasThreads, modelName as nameOfModel, openBackend as openNamed, type TextSource } from '@lowbit/bench';
import { type Backend, LowbitError } from '@lowbit/core';
import { isHubReference } from '@lowbit/hub';
import { type Command, InvalidArgumentError, Option } from 'commander';
import type { Terminal } from './terminal.js';

/** A whole number of at least `least`. */
export function integer(least: number): (text: string) => number {
  return (text) => {
    const value = Number(text);
    if (text.trim() === '' || !Number.isSafeInteger(value) || value < least)
      throw new InvalidArgumentError(`expected a whole number of at least ${least}.`);
    return value;
  };
}

/** A number of at least `least`. */
export function number(least: number): (text: string) => number {
  return (text) => {
    const value = Number(text);
    if (text.trim() === '' || !(value >= least)) throw new InvalidArgumentError(`expected a number of at least ${least}.`);
    return value;
  };
}

/** A part of a whole: above 0, at most 1. */
export function share(text: string): number {
  const value = Number(text);
  if (!(value > 0 && value <= 1)) throw new InvalidArgumentError('expected a number above 0, up to 1.');
  return value;
}

/** For options that may be given several times. */
export function collect<T>(read: (text: string) => T): (text: string, previous: readonly T[] | undefined) => readonly T[] {
  return (text, previous = []) => [...previous, read(text)];
}

export interface EngineArguments {
  /** By its full name: 'onnxruntime:cpu'. */
  readonly backend: string;
  readonly threads?: number;
}

export interface OutputArguments {
  readonly json?: boolean;
  readonly quiet?: boolean;
}

export interface TextArguments {
  readonly text?: string;
  readonly documents: 'whole' | 'lines' | 'blank-lines';
  readonly field: string;
  readonly split?: string;
}

export interface WindowArguments {
  readonly windows: number;
  readonly window?: number;
  readonly seed: number;
}

/** Windows of one text: what they are for and how many where nobody says, and what the seed decides. */
export function addWindowOptions(command: Command, { use, count, seed }: { use: string; count: number; seed: string }): Command {
  return command
    .option('--windows <count>', use, integer(1), count)
    .option('--window <tokens>', 'tokens in each (256, or the context if that is shorter)', integer(2))
    .option('--seed <number>', seed, integer(0), 0);
}

export function addBackendOption(command: Command): Command {
  return command.option(
    '--backend <name>',
    'what computes: onnxruntime, tfjs or reference, with a device if it has several (onnxruntime:webgpu), or auto; lowbit devices lists them',
    readBackend,
    'onnxruntime:cpu',
  );
}

/** Names of backends that a person typed, in full. */
function readBackend(text: string): string {
  try {
    return backendName(text);
  } catch (error) {
    throw new InvalidArgumentError(error instanceof LowbitError ? error.message.replace(`${error.code}: `, '') : String(error));
  }
}

/** `threads` says how many there are where nobody says. */
export function addEngineOptions(command: Command, threads = 'all cores'): Command {
  return addBackendOption(command).option('--threads <count>', `threads within an operator of onnxruntime (${threads})`, integer(1));
}

export function addOutputOptions(command: Command, json: string): Command {
  return command.option('--json', json).option('--quiet', 'no progress, only results, warnings and errors');
}

export function addTextOptions(command: Command, use: string): Command {
  return command
    .option(
      '--text <source>',
      `${use}: 'sotu' (speeches), 'self' (written by the dense model), a .txt, .jsonl or .parquet file, or a dataset of the Hugging Face hub: hf:owner/name, with a folder or file of it`,
    )
    .addOption(
      new Option('--documents <rule>', 'where documents end in a .txt file').choices(['whole', 'lines', 'blank-lines']).default('whole'),
    )
    .option('--field <path>', 'field of a .jsonl line, or column of a .parquet file, that holds the text', 'text')
    .option('--split <name>', 'split of a dataset of the hub: train, test, … (those that are for the use, where it has them)');
}

export function openBackend({ backend, threads }: EngineArguments, keepMemory = true): Promise<Backend> {
  return openNamed({ backend, threads, keepMemory });
}

/**
 * Before a command begins: what 'auto' stands for here, so that plans, records and other processes name a device.
 * @throws BACKEND_THREADS for a number of threads that nothing would heed; what opening a backend throws.
 */
export async function settleBackend(command: Command, terminal: Terminal): Promise<void> {
  const { backend, threads, quiet } = command.opts<Partial<EngineArguments> & OutputArguments>();
  if (backend === undefined) return;
  if (threads !== undefined && !hasThreads(backend)) {
    throw new LowbitError(
      'BACKEND_THREADS',
      `--threads: is for onnxruntime; backend ${backend} has threads of its own, or one. Leave it out`,
    );
  }
  const settled = await chooseBackend({ backend, threads });
  command.setOptionValueWithSource('backend', settled.backend, command.getOptionValueSource('backend'));
  if (settled.chosen !== undefined && !quiet) terminal.err(`backend: ${settled.backend}: ${settled.chosen}\n`);
}

/** A path from a directory; a reference to the hub as it is. */
export function fileOf(text: string, directory: string): string {
  return isHubReference(text) ? text : resolve(directory, text);
}

/** What an argument that names a model may be. */
export const MODELS = 'tiny, tiny-outliers, stories15M, the directory of a checkpoint, or hf:owner/name for one of the Hugging Face hub';

/** The text source that was asked for; undefined when none was. */
export function textSource({ text, documents, field, split }: TextArguments, directory: string): TextSource | undefined {
  if (split !== undefined && !(text !== undefined && isHubReference(text))) {
    throw new LowbitError('TEXT_OPTIONS', '--split: is about datasets of the hub; name one with --text hf:owner/name');
  }
  if (text === undefined || text === 'self' || text === 'sotu') return text === undefined ? undefined : { kind: text };
  const path = fileOf(text, directory);
  return { kind: 'file', path, documents, field, ...(split !== undefined && { datasetSplit: split }) };
}

/** The text that was asked for, for two uses: of a file, each gets a part, and of a dataset its split or a part; the other kinds have a part for each of their own. */
export function textParts(
  options: TextArguments,
  directory: string,
): { calibration: TextSource | undefined; heldOut: TextSource | undefined } {
  const source = textSource(options, directory);
  const part = (split: 'train' | 'held-out'): TextSource | undefined => (source?.kind === 'file' ? { ...source, split } : source);
  return { calibration: part('train'), heldOut: part('held-out') };
}

/** Rows and tables tell things apart by their names. @throws BENCH_PLAN naming what two share. */
export function requireDistinct(what: string, names: readonly string[]): void {
  const twice = names.find((name, i) => names.indexOf(name) < i);
  if (twice === undefined) return;
  throw new LowbitError('BENCH_PLAN', `two ${what}s are called '${twice}' and could not be told apart in the rows; rename one of them`);
}

/** What tables call a model that was given by name, directory or reference to the hub. */
export function modelName(reference: string, directory: string): string {
  return isHubReference(reference) ? nameOfModel(reference) : basename(resolve(directory, reference));
}
