// What every command is given besides its arguments.
import { constants } from 'node:fs';
import { access, mkdir, readdir } from 'node:fs/promises';
import { LowbitError } from '@lowbit/core';
import type { Terminal } from './terminal.js';

export interface CommandContext {
  readonly terminal: Terminal;
  /** Paths and method packages are resolved from here. */
  readonly directory: string;
  /** Aborted by Ctrl-C. */
  readonly signal: AbortSignal;
  /** Says that the input has been accepted: errors from now on are failures, not bad input. */
  startWork(): void;
}

/**
 * Makes sure that an output directory is there, that it can be written to, and that nothing in it is lost.
 * @throws OUTPUT_EXISTS when it holds files and `force` is not set; OUTPUT_DIRECTORY when it cannot be made or written to.
 */
export async function claimDirectory(directory: string, force: boolean): Promise<void> {
  const present = await readdir(directory).catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return [];
    throw unusable(directory, error);
  });
  if (present.length > 0 && !force) {
    throw new LowbitError(
      'OUTPUT_EXISTS',
      `${directory}: is not empty; choose another output directory, or overwrite what is there with --force`,
    );
  }
  try {
    await mkdir(directory, { recursive: true });
    // Better found out now than when the work is done.
    await access(directory, constants.W_OK);
  } catch (error) {
    throw unusable(directory, error as Error);
  }
}

function unusable(directory: string, cause: Error): LowbitError {
  return new LowbitError('OUTPUT_DIRECTORY', `${directory}: ${cause.message}; choose another output directory`, { cause });
}
