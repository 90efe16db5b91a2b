// What every family does with a config.json: checks it against a schema, and refuses settings that are not computed.
import { LowbitError } from '@lowbit/core';
import { z } from 'zod';

/** Sizes. */
export const count = z.int().positive();
/** Switches, which config.json files leave out or set to null. */
export const flag = z.boolean().nullish();

/** @throws MODEL_CONFIG naming each setting that is missing or wrong. */
export function parseSource<S extends z.ZodType>(schema: S, source: Readonly<Record<string, unknown>>): z.output<S> {
  const result = schema.safeParse(source);
  if (result.success) return result.data;
  const problems = result.error.issues.map(({ path, message }) => `${path.join('.')}: ${message}`);
  throw new LowbitError('MODEL_CONFIG', `config.json: ${problems.join('; ')}; complete or correct it`);
}

/** @throws MODEL_OPTION */
export function requireSupported<T>(name: string, value: T, supported: readonly T[]): void {
  if (!supported.includes(value))
    throw unsupported(`${name} ${JSON.stringify(value)}`, `choose a model with one of ${supported.join(', ')}`);
}

export function unsupported(what: string, why: string): LowbitError {
  return new LowbitError('MODEL_OPTION', `config.json: ${what} is not supported; ${why}`);
}

/** Settings that contradict each other. */
export function wrong(what: string): LowbitError {
  return new LowbitError('MODEL_CONFIG', `config.json: ${what}; correct it`);
}

/** Features of each head, where all of the width belongs to heads. @throws MODEL_CONFIG when they do not divide. */
export function dividedHeads(hiddenSize: number, headCount: number): number {
  if (hiddenSize % headCount === 0) return hiddenSize / headCount;
  throw wrong(`hidden size ${hiddenSize} does not divide into ${headCount} attention heads`);
}
