// Where quantize keeps what it has finished, so that a run that is stopped goes on: a store beside the output.
import { realpath, rmdir } from 'node:fs/promises';
import { basename, dirname, isAbsolute, join, relative, resolve } from 'node:path';
import { dropLostLock, lockRun } from '@lowbit/bench';
import { LowbitError } from '@lowbit/core';
import { createFileStore, type FileStore } from '@lowbit/formats';
import { holdsRun } from '@lowbit/pipeline';
import { type Command, InvalidArgumentError } from 'commander';
import { type ClaimedDirectory, claimDirectory } from './context.js';

export interface KeptRunArguments {
  /** A directory; false for --no-store. */
  readonly store?: string | false;
  readonly resume?: boolean;
  /** Bytes. */
  readonly memory?: number;
}

/** What is kept of a run. */
export interface KeptRun {
  readonly path: string;
  readonly store: FileStore;
  /** Whether there is something to go on from. */
  holdsRun(): Promise<boolean>;
  /**
   * Makes sure that the directory is there, that it can be written to, and that no other process writes there until it is released.
   * @throws STORE_DIRECTORY, RUN_LOCKED
   */
  claim(): Promise<ClaimedStore>;
  /** Says that nothing is left of the run but to write it there. */
  beginWriting(out: string): Promise<void>;
}

/** A store that is this process's until it is released. */
export interface ClaimedStore extends ClaimedDirectory {
  /** Deletes all entries; when it is released the directory goes too, unless something else is in it. */
  clear(): Promise<void>;
}

/** Entry of a store whose run is being written, or has been. */
const WRITING = 'writing';

/** Activations that stay in memory where nobody says otherwise. */
const MEMORY = 2 * 2 ** 30;

const units: Readonly<Record<string, number>> = { B: 1, KiB: 2 ** 10, MiB: 2 ** 20, GiB: 2 ** 30, KB: 1e3, MB: 1e6, GB: 1e9 };

function byteCount(text: string): number {
  const [, count, unit] = /^(\d+(?:\.\d+)?) *([A-Za-z]+)$/.exec(text) ?? [];
  const bytes = Number(count) * (units[unit ?? ''] ?? Number.NaN);
  if (!(bytes >= 0)) throw new InvalidArgumentError(`expected a size such as 2GiB or 500MB; units are ${Object.keys(units).join(', ')}.`);
  return bytes;
}

export function addKeptRunOptions(command: Command): Command {
  return command
    .option('--resume', 'go on with the unfinished run of the same command, if there is one')
    .option('--store <directory>', 'where finished blocks are kept until the run is done (beside the output: <out>.partial)')
    .option('--no-store', 'keep nothing: a run that is stopped has to begin anew')
    .option('--memory <size>', 'activations between blocks that stay in memory; what is more lies in the store (2GiB)', byteCount);
}

/** The limit of memory for activations; undefined for none. @throws STORE_OPTIONS when there is one and no store. */
export function activationMemory({ store, memory }: KeptRunArguments): number | undefined {
  if (store !== false) return memory ?? MEMORY;
  if (memory === undefined) return undefined;
  throw new LowbitError('STORE_OPTIONS', '--memory: activations beyond the limit lie in the store; leave out --no-store, or --memory');
}

/** Whether writing the checkpoint to `out` was all that was left of the run that is to be gone on with, or not even that. */
export async function wasBeingWritten(out: string, options: KeptRunArguments, directory: string): Promise<boolean> {
  if (options.resume !== true || options.store === false) return false;
  const writing = await createFileStore(storePath(out, options.store, directory)).get(WRITING);
  return writing?.metadata['out'] === (await resolved(out));
}

/** Undefined where neither store nor output is named. */
function storePath<Out extends string | undefined>(out: Out, name: string | undefined, directory: string): Out | string {
  if (name !== undefined) return resolve(directory, name);
  return out === undefined ? out : `${out}.partial`;
}

/** A store is emptied in the end, and what lies in it or around it must not be. */
async function requireApart(store: string, other: string): Promise<void> {
  const [a, b] = [await resolved(store), await resolved(other)];
  const holds = (outer: string, inner: string): boolean => !relative(outer, inner).startsWith('..') && !isAbsolute(relative(outer, inner));
  if (!holds(a, b) && !holds(b, a)) return;
  throw new LowbitError('STORE_DIRECTORY', `${store}: is, holds or lies in ${other}; choose a directory apart from it with --store`);
}

/** Without links, as far as the path exists. */
async function resolved(path: string): Promise<string> {
  const parent = dirname(path);
  return realpath(path).catch(async () => (parent === path ? path : join(await resolved(parent), basename(path))));
}

/**
 * The store of a run whose output goes to `out`; undefined for --no-store, and where neither store nor output is named. Writes nothing.
 * @param apart directories besides `out` that the store must have nothing to do with.
 * @throws STORE_OPTIONS; STORE_UNFINISHED when it holds a run that nobody said to go on with or to drop; STORE_DIRECTORY when it holds
 * something else; RUN_LOCKED when another process writes there.
 */
export async function findKeptRun(
  out: string | undefined,
  { store: name, resume = false }: KeptRunArguments,
  { directory, force, apart }: { readonly directory: string; readonly force: boolean; readonly apart: readonly string[] },
): Promise<KeptRun | undefined> {
  if (name === false) {
    if (resume) throw new LowbitError('STORE_OPTIONS', '--resume: goes on from a store; leave out --no-store, or --resume');
    return undefined;
  }
  const path = storePath(out, name, directory);
  if (path === undefined) return undefined;
  for (const other of out === undefined ? apart : [out, ...apart]) await requireApart(path, other);
  dropLostLock(path);
  const store = createFileStore(path);
  const kept: KeptRun = {
    path,
    store,
    holdsRun: () => holdsRun(store),
    claim: () => claimStore(path, store),
    beginWriting: async (out) => store.put(WRITING, { metadata: { out: await resolved(out) }, tensors: {} }),
  };
  if (await store.isEmpty()) return kept;
  if (!(await store.holdsEntries())) {
    throw new LowbitError('STORE_DIRECTORY', `${path}: is not empty and holds no run; choose another directory with --store`);
  }
  if (resume || force) return kept;
  const remedies = 'go on with it with --resume, or drop it and begin anew with --force';
  throw new LowbitError('STORE_UNFINISHED', `${path}: holds a run that was not finished; ${remedies}`);
}

async function claimStore(path: string, store: FileStore): Promise<ClaimedStore> {
  const claimed = await claimDirectory(path, true).catch((error: unknown) => {
    if (!(error instanceof LowbitError) || error.code !== 'OUTPUT_DIRECTORY') throw error;
    const reason = error.cause instanceof Error ? error.cause.message : error.message;
    const remedy = 'choose another directory with --store, or keep nothing with --no-store';
    throw new LowbitError('STORE_DIRECTORY', `${path}: ${reason}; ${remedy}`, { cause: error });
  });
  const lock = lockRun(path);
  let isCleared = false;
  return {
    async clear() {
      await store.clear();
      isCleared = true;
    },
    async release() {
      lock.release();
      await claimed.release();
      // One that is not empty refuses.
      if (isCleared) await rmdir(path).catch(() => undefined);
    },
  };
}

/** A refusal of the store names where it lies, and what else there is to do. */
export function locateRefusal(error: unknown, { path }: KeptRun): unknown {
  if (!(error instanceof LowbitError) || error.code !== 'STORE_RUN') return error;
  const message = error.message.slice(error.code.length + 2);
  return new LowbitError(error.code, `${path}: ${message}, or drop this one with --force and without --resume`, { cause: error });
}
