// Options that several commands share, and how their values are read.
import { basename, resolve } from 'node:path';
import { createOnnxBackend, type Provider } from '@lowbit/backend-onnxruntime';
import type { TextSource } from '@lowbit/bench';
import { type Backend, LowbitError } from '@lowbit/core';
import { type Command, InvalidArgumentError, Option } from 'commander';

/** A whole number of at least `least`. */
export function integer(least: number): (text: string) => number {
  return (text) => {
    const value = Number(text);
    if (!Number.isSafeInteger(value) || value < least) throw new InvalidArgumentError(`expected a whole number of at least ${least}.`);
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
  readonly provider: Provider;
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

export function addProviderOption(command: Command): Command {
  const choices = ['cpu', 'webgpu', 'cuda', 'coreml', 'dml'];
  return command.addOption(new Option('--provider <name>', 'where ONNX Runtime computes').choices(choices).default('cpu'));
}

/** `threads` says how many there are where nobody says. */
export function addEngineOptions(command: Command, threads = 'all cores'): Command {
  return addProviderOption(command).option('--threads <count>', `threads within an operator (${threads})`, integer(1));
}

export function addOutputOptions(command: Command, json: string): Command {
  return command.option('--json', json).option('--quiet', 'no progress, only results, warnings and errors');
}

export function addTextOptions(command: Command, use: string): Command {
  return command
    .option('--text <source>', `${use}: 'sotu' (speeches), 'self' (written by the dense model), or a .txt or .jsonl file`)
    .addOption(
      new Option('--documents <rule>', 'where documents end in a .txt file').choices(['whole', 'lines', 'blank-lines']).default('whole'),
    )
    .option('--field <path>', 'field of a .jsonl line that holds the text', 'text');
}

export function openBackend({ provider, threads }: EngineArguments): Promise<Backend> {
  return createOnnxBackend({ provider, ...(threads !== undefined && { threads }) });
}

/** The text source that was asked for; undefined when none was. */
export function textSource({ text, documents, field }: TextArguments, directory: string): TextSource | undefined {
  if (text === undefined || text === 'self' || text === 'sotu') return text === undefined ? undefined : { kind: text };
  return { kind: 'file', path: resolve(directory, text), documents, field };
}

/** The text that was asked for, for two uses: of a file, each gets a part; the other kinds have a part for each of their own. */
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

/** What tables call a model that was given by name or directory. */
export function modelName(reference: string, directory: string): string {
  return basename(resolve(directory, reference));
}
