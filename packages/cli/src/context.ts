// What every command is given besides its arguments.
import { constants, existsSync } from 'node:fs';
import { access, mkdir, readdir, rmdir, stat } from 'node:fs/promises';
import { dirname } from 'node:path';
import { dropLostLock } from '@lowbit/bench';
import { LowbitError } from '@lowbit/core';
import type { HubOptions } from '@lowbit/hub';
import type { Terminal } from './terminal.js';

export interface CommandContext {
  readonly terminal: Terminal;
  /** Paths and method packages are resolved from here. */
  readonly directory: string;
  /** Aborted by Ctrl-C or SIGTERM. */
  readonly signal: AbortSignal;
  /** How models and datasets of the hub are come by. */
  readonly hub: HubOptions;
  /** Says that the input has been accepted: errors from now on are failures, not bad input. */
  startWork(): void;
}

/** An output directory, ready to be written to. */
export interface ClaimedDirectory {
  /** Removes the directories that claiming it made and that nothing was written to. */
  release(): Promise<void>;
}

/**
 * Makes sure that an output directory is there, that it can be written to, and that nothing in it is lost.
 * `remedy` says what else a person can do about files that are there.
 * @throws OUTPUT_EXISTS when it holds files and `force` is not set; OUTPUT_DIRECTORY when it cannot be made or written to; RUN_LOCKED
 * while another process writes there.
 */
export async function claimDirectory(directory: string, force: boolean, remedy?: string): Promise<ClaimedDirectory> {
  dropLostLock(directory);
  const present = await readdir(directory).catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return [];
    throw unusable(directory, error);
  });
  if (present.length > 0 && !force) {
    const remedies = [
      'choose another output directory',
      ...(remedy === undefined ? [] : [remedy]),
      'or overwrite what is there with --force',
    ];
    throw new LowbitError('OUTPUT_EXISTS', `${directory}: is not empty; ${remedies.join(', ')}`);
  }
  try {
    const first = await makeDirectory(directory);
    // Better found out now than when the work is done.
    await access(directory, constants.W_OK);
    return { release: () => removeEmpty(directory, first) };
  } catch (error) {
    throw unusable(directory, error as Error);
  }
}

/** As mkdir does with 'recursive', which tries for ever below /proc. @returns the first directory that was made, if one was. */
async function makeDirectory(path: string): Promise<string | undefined> {
  try {
    await mkdir(path);
    return path;
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === 'EEXIST' && (await stat(path)).isDirectory()) return undefined;
    const parent = dirname(path);
    if (code !== 'ENOENT' || existsSync(parent)) throw error;
    const first = await makeDirectory(parent);
    const own = await makeDirectory(path);
    return first ?? own;
  }
}

/** From a directory up to the first of its ancestors that was made with it. */
async function removeEmpty(directory: string, first: string | undefined): Promise<void> {
  if (first === undefined) return;
  for (let path = directory; path.length >= first.length; path = dirname(path)) {
    // What is not empty refuses to be removed, and so does all that holds it.
    const isRemoved = await rmdir(path).then(
      () => true,
      () => false,
    );
    if (!isRemoved) return;
  }
}

function unusable(directory: string, cause: Error): LowbitError {
  return new LowbitError('OUTPUT_DIRECTORY', `${directory}: ${cause.message}; choose another output directory`, { cause });
}
